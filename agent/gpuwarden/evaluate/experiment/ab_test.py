"""What an A/B test may say at any moment: better, worse, or not yet."""

from dataclasses import dataclass
from typing import Literal

from gpuwarden.evaluate.experiment import confidence_sequence
from gpuwarden.evaluate.experiment.confidence_sequence import Arm, Comparison, Difference, Metric
from gpuwarden.evaluate.inputs import chance

Finding = Literal["not_enough", "undecided", "better", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AbSettings:
    """``comparisons``: arms against the control x metrics that may decide, by which alpha is divided."""

    metric: Metric
    higher_is_better: bool
    alpha: float = 0.05
    comparisons: int = 1
    min_units_per_arm: int = 1000  # the normal approximation of rare successes needs them
    tuning_n: int = confidence_sequence.TUNING_N
    difference: Difference = "relative"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbVerdict:
    """``comparison`` is None below the minimum: an early number invites an early decision."""

    finding: Finding
    comparison: Comparison | None
    units: int


def judge(control: Arm, candidate: Arm, settings: AbSettings) -> AbVerdict:
    """Candidate against control by a confidence sequence: look as often as you like.

    Decided once the interval leaves 0; the share of wrong decisions over all looks stays below alpha.
    """
    chance(settings.alpha, "alpha")
    if settings.comparisons < 1:
        raise ValueError(f"comparisons: expected 1 or more, got {settings.comparisons}")
    units = control.n + candidate.n
    if min(control.n, candidate.n) < settings.min_units_per_arm:
        return AbVerdict(finding="not_enough", comparison=None, units=units)
    found = confidence_sequence.compare(
        control,
        candidate,
        alpha=settings.alpha / settings.comparisons,
        tuning_n=settings.tuning_n,
        metric=settings.metric,
        difference=settings.difference,
    )
    return AbVerdict(finding=_finding(control, found, settings), comparison=found, units=units)


def _finding(control: Arm, found: Comparison, settings: AbSettings) -> Finding:
    if found.ci is None or found.ci[0] <= 0 <= found.ci[1]:
        return "undecided"
    is_higher = found.ci[0] > 0
    if settings.difference == "relative" and control.total < 0:
        is_higher = not is_higher  # a relative difference to a negative mean points the other way
    return "better" if is_higher == settings.higher_is_better else "worse"
