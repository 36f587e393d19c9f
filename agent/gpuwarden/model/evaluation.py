"""What is known of a service by its own numbers: windows of mergeable series, and what guardrails say of them.

A node makes a window of what it saw of one service in a few seconds; windows of many nodes merge into one
without loss (counts, levels, sketches of one accuracy, histograms on common edges), so that a percentile of the
fleet is one of all requests and never a mean of percentiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cohort:
    """Whose numbers these are. Empty ``version``, ``arm`` or ``segment``: not told."""

    service: str
    version: str = ""
    arm: str = ""
    """Of an experiment or a rollout."""
    segment: str = ""
    """Such as ``old-scanner``: judged on its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A value that goes up and down, as it was read in a window. Unit: the series' own."""

    total: float
    """Sum of the readings: with ``count``, their mean."""
    count: int
    low: float
    high: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of what ended in a window, by fixed upper bounds.

    ``counts[i]`` lies in (``bounds[i-1]``, ``bounds[i]``]; the last bound is infinity. Not cumulative.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float | None = None
    """Sum of the values, where the service says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A DDSketch with logarithmic mapping: ``bins[k]`` values in (gamma^(k-1), gamma^k], gamma =
    (1+a)/(1-a) with a the ``accuracy`` (Masson et al. 2019). Values nearer to 0 than 1e-9 are in ``zeros``;
    ``negatives[k]`` are values in [-gamma^k, -gamma^(k-1))."""

    accuracy: float
    bins: Mapping[int, int]
    negatives: Mapping[int, int] = field(default_factory=dict)
    zeros: int = 0
    total: float = 0.0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Categories:
    """How often each name came; ``other`` are those beyond what is kept by name. Windows add up."""

    counts: Mapping[str, int] = field(default_factory=dict)
    other: int = 0


class Missing(StrEnum):
    """Why there is no number. None of these is good news."""

    NO_DATA = "no-data"
    """Nothing came at all."""
    TOO_FEW = "too-few"
    """Fewer than a judgement needs."""
    UNREADABLE = "unreadable"
    """The service's page or its client's messages are not what they must be."""
    UNKNOWN_SERIES = "unknown-series"
    """The service has never told this series."""
    WITHHELD = "withheld"
    """It is there and not to be read: the experiment's split is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A series that could not be had, and why."""

    series: str
    why: Missing
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one node saw of one cohort from ``begin_wall`` on for ``length_s``.

    The series' names are the known ones of ``evaluate.fast.series``. A later ``revision`` of the same
    (node, cohort, begin_wall) takes the place of an earlier one: what arrives twice or in another order
    counts once.
    """

    cohort: Cohort
    begin_wall: float
    """Unix seconds, a multiple of ``length_s``."""
    length_s: float
    revision: int = 0
    counts: Mapping[str, float] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    sketches: Mapping[str, Sketch] = field(default_factory=dict)
    categories: Mapping[str, Categories] = field(default_factory=dict)
    lacks: tuple[Lack, ...] = ()
    dropped: int = 0
    """Observations that were lost on the way into this window."""


class Colour(StrEnum):
    """What a guardrail says."""

    GREEN = "green"
    RED = "red"
    UNKNOWN = "unknown"
    """There is no number to judge; ``Verdict.missing`` says why. Never good news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One guardrail's word on one cohort."""

    guardrail: str
    cohort: Cohort
    colour: Colour
    since_wall: float
    """When ``colour`` began."""
    at_wall: float
    value: float | None = None
    limit: float | None = None
    missing: Missing | None = None
    severity: str = "warning"
    summary: str = ""
    """For people: value, limit, unit, over how long."""
