"""What is said of a service's data and of its errors over time: plain values, for whoever acts on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuwarden.model.evaluation import Cohort


class DriftState(StrEnum):
    """Only ``STABLE`` is good news; ``DRIFT`` and ``SCHEMA`` are claims."""

    STABLE = "stable"
    DRIFT = "drift"
    NOT_ENOUGH = "not-enough-data"
    NO_PROFILE = "no-profile"
    """Nobody has said what this version and segment is fed."""
    SCHEMA = "schema-changed"
    """The profile has this feature as another kind, or nobody tells it any more."""


WORST = (
    DriftState.DRIFT,
    DriftState.SCHEMA,
    DriftState.NOT_ENOUGH,
    DriftState.NO_PROFILE,
    DriftState.STABLE,
)
"""The worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameShare:
    """Of all rows that have a name, the share of this one."""

    name: str
    profile: float
    live: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureShape:
    """What the profile and a live window look like. Numbers have quantiles at equal steps from the least to the
    largest value, categories the shares of the commonest names of either."""

    profile: tuple[float, ...] = ()
    live: tuple[float, ...] = ()
    names: tuple[NameShare, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """One feature's newest judged window against its profile. None: not known, and ``why`` says what is missing."""

    feature: str
    state: DriftState
    since_wall: float
    """When ``state`` began."""
    rows: int = 0
    """Of the newest judged window."""
    p_value: float | None = None
    """After correction over the features and segments that were judged with it."""
    psi: float | None = None
    """Nats."""
    js_distance: float | None = None
    """Base e."""
    wasserstein_norm: float | None = None
    """Standard deviations of the reference; None for categories and for a constant."""
    missing_share: float | None = None
    was_missing: float | None = None
    mean: float | None = None
    was_mean: float | None = None
    new_share: float | None = None
    """Rows of categories that the profile does not name."""
    why: str = ""
    shape: FeatureShape | None = None
    """Of what has drifted, where its window is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDrift:
    """Errors, or scores of people, in the order in which they became known."""

    stream: str
    """``errors`` or ``score``."""
    state: DriftState
    since_wall: float
    labels: int = 0
    """Of the newest span that ``value`` is of."""
    value: float | None = None
    """Share of mistakes, or the mean score."""
    baseline: float | None = None
    """The same of this cohort's own reference."""
    baseline_labels: int = 0
    p_value: float | None = None
    """Chance of a value so far off, of one look; what is enough is ``level``."""
    level: float | None = None
    detectors: tuple[str, ...] = ()
    """Which agreed."""
    version: str = ""
    """Of the library they are of: a later one may say otherwise."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftVerdict:
    """All that is said of one cohort (a version, a segment, or both) of one service."""

    cohort: Cohort
    state: DriftState
    since_wall: float
    at_wall: float
    features: tuple[FeatureDrift, ...] = ()
    streams: tuple[StreamDrift, ...] = ()
    summary: str = ""
    """For people: which features, segment and version, and how far they have moved."""
    proposals: tuple[str, ...] = ()
    """Thresholds that a person may want to change, and to what. Nothing applies them."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of features that have drifted."""
        return tuple(each.feature for each in self.features if each.state is DriftState.DRIFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftView:
    """The newest verdicts of every service, replaced whole; ``serial`` grows with each."""

    serial: int
    wall: float
    verdicts: Mapping[Cohort, DriftVerdict] = field(default_factory=dict)

    def of(self, service: str) -> tuple[DriftVerdict, ...]:
        """Of one service, the whole before its parts."""
        return tuple(
            self.verdicts[cohort] for cohort in sorted(self.verdicts) if cohort.service == service
        )


def worst(states: "tuple[DriftState, ...]") -> DriftState:
    """The worst of these; of none nothing is known."""
    return min(states, key=WORST.index, default=DriftState.NOT_ENOUGH)
