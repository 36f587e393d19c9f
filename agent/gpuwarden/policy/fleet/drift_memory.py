"""How drift is judged, and what is remembered of it between two steps and after a restart."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwarden.evaluate.drift.concept import ConceptMemory, ConceptSettings
from gpuwarden.evaluate.drift.findings import DriftSettings
from gpuwarden.evaluate.drift.scores import ScoreMemory
from gpuwarden.evaluate.drift.wander import Wander
from gpuwarden.model.drift import FeatureDrift, StreamDrift
from gpuwarden.model.evaluation import Cohort

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """One setting for a fleet."""

    rows: int = 1000
    """A window of a feature is judged once it has so many ..."""
    round_s: float = 60.0
    """... and is so long. The level of a round follows from how long its windows were."""
    leave_rounds: int = 2
    """So many windows in a row without drift end one."""
    stale_s: float = 7 * DAY_S
    """A window that is not full after so long is given up: its oldest rows are no news."""
    reference_min: int = 500
    """Rows of a profile: a smaller one does not say what is usual."""
    drift: DriftSettings = field(default_factory=DriftSettings)
    concept: ConceptSettings = field(default_factory=ConceptSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMemory:
    """``since_wall``: begin of the window that is filled now; earlier steps count no more."""

    since_wall: float
    said: FeatureDrift | None = None
    calm: int = 0
    wander: Wander = field(default_factory=Wander)
    """What its calm windows were like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortMemory:
    features: Mapping[str, FeatureMemory] = field(default_factory=dict)
    errors: ConceptMemory = field(default_factory=ConceptMemory)
    scores: ScoreMemory | None = None
    """None: no score ever came."""
    streams: tuple[StreamDrift, ...] = ()
    """What was said of them last."""
    told_wall: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMemory:
    cohorts: Mapping[Cohort, CohortMemory] = field(default_factory=dict)
