"""What each node contributes to a verdict on a service, and what of the GPUs it ran on is known for that time."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gpuwarden.evaluate.fast.expression import parse
from gpuwarden.evaluate.fast.reading import Reading, read
from gpuwarden.evaluate.fast.window import merge
from gpuwarden.model.evaluation import Verdict, Window
from gpuwarden.model.guardrail import Guardrail, Side
from gpuwarden.policy.fleet.cause import Carrier

BEFORE_S = 60.0
"""A verdict is later than what it is about: so long before it nothing counts as "before"."""
NOT_A_NODE = "~"
"""Begins the name of what is told at the aggregator itself: no node is called so."""
SUPPORT_MIN = 5.0
"""Of fewer requests or readings no node is called bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What is remembered of one node's part in a merged window."""

    node: str
    revision: int
    requests: float = 0.0
    errors: float = 0.0
    latency_p99_s: float | None = None
    throttled: float | None = None
    tenant: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One node's own number."""

    node: str
    requests: float
    value: float | None = None
    """None: it cannot be told of one node."""
    is_bad: bool | None = None


Shares = Mapping[str, Sequence[tuple[float, Share]]]
"""By node, each with its window's begin, oldest first."""


def parts_of(
    spec: Guardrail, verdict: Verdict, windows: Mapping[str, Sequence[Window]], shares: Shares
) -> list[Part]:
    """Every node's, the worst first. ``windows``: those of nodes whose own are at hand; of others what their shares
    say of the commonest guardrails."""
    found = []
    for node in sorted(shares.keys() | windows.keys()):
        if node.startswith(NOT_A_NODE):
            continue
        mine = [share for _, share in shares.get(node, ())]
        requests = sum(share.requests for share in mine)
        value, support = _value(spec, windows.get(node, ()), mine)
        is_bad = None
        if value is not None and verdict.limit is not None:
            beyond = value > verdict.limit if spec.side is Side.ABOVE else value < verdict.limit
            is_bad = beyond and support >= SUPPORT_MIN
        found.append(Part(node=node, requests=requests, value=value, is_bad=is_bad))
    sign = -1.0 if spec.side is Side.ABOVE else 1.0
    return sorted(
        found,
        key=lambda p: (not p.is_bad, p.value is None, sign * (p.value or 0.0), p.node),
    )


def _value(
    spec: Guardrail, windows: Sequence[Window], shares: Sequence[Share]
) -> tuple[float | None, float]:
    if windows and not parse(spec.expression).has_past:
        reading = read(parse(spec.expression), merge(windows))
        return (reading.value, reading.support) if isinstance(reading, Reading) else (None, 0.0)
    requests = sum(share.requests for share in shares)
    text = spec.expression.replace(" ", "")
    if text == "p99(latency_s)":
        told = [s.latency_p99_s for s in shares if s.latency_p99_s is not None]
        return (max(told), requests) if told else (None, 0.0)
    if text == "errors/requests" and requests > 0:
        return sum(share.errors for share in shares) / requests, requests
    return None, 0.0


def carriers_of(
    verdict: Verdict, parts: Sequence[Part], shares: Shares, heard: Collection[str]
) -> list[Carrier]:
    """Where the cohort ran. ``heard``: nodes whose incidents are known up to now."""
    since = verdict.since_wall - BEFORE_S
    return [
        _carrier(part, shares.get(part.node, ()), since, is_heard=part.node in heard)
        for part in parts
    ]


def _carrier(
    part: Part, shares: Sequence[tuple[float, Share]], since: float, *, is_heard: bool
) -> Carrier:
    newest = shares[-1][1] if shares else None
    return Carrier(
        node=part.node,
        tenant=newest.tenant if newest else "",
        devices=frozenset(newest.devices if newest else ()),
        is_bad=part.is_bad,
        throttled=_mean([s.throttled for begin, s in shares if begin >= since]),
        throttled_before=_mean([s.throttled for begin, s in shares if begin < since]),
        is_heard=is_heard,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None
