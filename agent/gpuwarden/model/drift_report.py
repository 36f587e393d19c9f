"""What a report of drift shows: tracks over time, ready to be drawn, and nothing that would have to be computed."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePoint:
    """One window of one feature. None: not known."""

    mean: float | None = None
    """Unit of the feature; None of categories, and of a window without values."""
    psi: float | None = None
    """Nats."""
    p_value: float | None = None
    """After correction over the features of the window."""
    missing_share: float | None = None
    is_drift: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTrack:
    """One feature over all windows of the report."""

    feature: str
    points: tuple[FeaturePoint, ...]
    was_mean: float | None = None
    was_std: float | None = None
    """Of the reference, unit of the feature. None: categories."""

    @property
    def psi_max(self) -> float:
        """Largest PSI of any window; 0 where none is known."""
        return max((each.psi or 0.0 for each in self.points), default=0.0)

    @property
    def drifts(self) -> int:
        """Windows in which it is a finding."""
        return sum(each.is_drift for each in self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class JointPoint:
    """Can a classifier tell the rows of a window from the reference's, by all features together? None: too few rows."""

    accuracy: float | None = None
    """0.5 is chance."""
    p_value: float | None = None
    is_drift: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPoint:
    """Labels of one window. ``low`` and ``high``: 95 % interval (Wilson)."""

    labels: int
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityTrack:
    """Accuracy over the windows, and when it was said that it has dropped."""

    points: tuple[QualityPoint, ...]
    baseline: float | None = None
    verdict_window: int | None = None
    """0-based: the first at which a loss was sure and large enough."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiLag:
    """Slope of the KPI a unit of the metric at one lag; the metric is ``lag`` steps earlier."""

    lag: int
    slope: float | None = None
    low: float | None = None
    high: float | None = None
    q: float | None = None
    is_significant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiTrack:
    """One of the model's numbers beside one of the business', step by step."""

    metric: str
    kpi: str
    metric_values: tuple[float | None, ...]
    kpi_values: tuple[float | None, ...]
    lags: tuple[KpiLag, ...]
    told: str
    """The strongest lag, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """``windows`` says of each window how it is called on an axis: a time, or its last row."""

    title: str
    windows: tuple[str, ...]
    axis: str
    """What ``windows`` are, such as ``time`` or ``rows``."""
    window_rows: int
    rows: int
    level: float
    """Corrected p-values at or below it are sure."""
    material_psi: float
    material_sigmas: float
    features: tuple[FeatureTrack, ...] = ()
    joint: tuple[JointPoint, ...] = ()
    """One a window; empty: no rows of the reference were given."""
    joint_needed: float | None = None
    """Accuracy from which it is sure and large enough."""
    quality: QualityTrack | None = None
    kpis: tuple[KpiTrack, ...] = ()
    summary: tuple[str, ...] = ()
    """Sentences: what has drifted, since when, how far."""
    remarks: tuple[str, ...] = field(default=())
    """What could not be judged, and why."""
