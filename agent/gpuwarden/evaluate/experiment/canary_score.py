"""One number for many judged metrics of a canary, by groups with weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Class = Literal["Pass", "High", "Low", "Nodata"]
CLASSES: frozenset[str] = frozenset({"Pass", "High", "Low", "Nodata"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One metric of the canary as its own judge classed it."""

    group: str
    verdict: Class
    critical: bool


def score(
    metrics: Sequence[Judged], weights: Mapping[str, float], *, nodata_share_that_fails: float
) -> float:
    """0..100, the rules of Kayenta's weighted sum with the groups that have data.

    0 when a critical metric is High or Low, and when the share of metrics without data is at least
    ``nodata_share_that_fails``. A group scores 100 x Pass/(metrics with data); groups without data are left
    out; groups without a weight share 100 - sum of weights equally; the result is the weighted mean.
    """
    if not metrics:
        raise ValueError("metrics: expected at least one")
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or total > 100 + 1e-9:
        raise ValueError("weights: expected numbers of 0 or more that sum to at most 100")
    if any(each.critical and each.verdict in ("High", "Low") for each in metrics):
        return 0.0
    silent = sum(each.verdict == "Nodata" for each in metrics)
    if silent / len(metrics) >= nodata_share_that_fails:
        return 0.0
    groups: dict[str, list[bool]] = {}
    for each in metrics:
        if each.verdict != "Nodata":
            groups.setdefault(each.group, []).append(each.verdict == "Pass")
    if not groups:
        return 0.0
    rest = [name for name in groups if name not in weights]
    shared = max(0.0, 100 - total) / len(rest) if rest else 0.0
    weighed = [(weights.get(name, shared), sum(ok) / len(ok)) for name, ok in groups.items()]
    heavy = sum(weight for weight, _ in weighed)
    return 100 * sum(weight * passed for weight, passed in weighed) / heavy if heavy else 0.0
