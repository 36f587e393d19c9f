"""A red line of a service: what is looked at, when it is crossed, what it stands on."""

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """On which side of the limit it is bad."""

    ABOVE = "above"
    BELOW = "below"


class Judge(StrEnum):
    """By what."""

    LIMIT = "limit"
    """An absolute limit."""
    SHIFT = "shift"
    """The service's own recent past: so many times as much (or as little), and more than its noise explains."""
    DECLINE = "decline"
    """A share of counts, such as ``correct / labels``, that has fallen by ``limit`` from what it was."""


class OnMissing(StrEnum):
    """What no data at all means. Green in no case."""

    UNKNOWN = "unknown"
    RED = "red"


class Idle(StrEnum):
    """What it means that the service is read and nothing happened that could be judged."""

    UNKNOWN = "unknown"
    KEEP = "keep"
    """A service that is idle is not late: what was said last stands. Only for a service's own objective."""


class Then(StrEnum):
    """Who has to do with it when it is red."""

    TELL = "tell"
    PAGE = "page"
    REVIEW = "review"
    """People label or look at what could not be judged."""
    CLEANING = "cleaning"
    """The input goes back to where it is cleaned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """One red line."""

    name: str
    expression: str
    """In the grammar of ``evaluate.fast.expression``."""
    limit: float
    """In the expression's unit; of a shift: how many times the past's value (below: the past's part); of a decline:
    by how much the share has fallen."""
    side: Side = Side.ABOVE
    judge: Judge = Judge.LIMIT
    over_s: float = 60.0
    """Of a limit: how much of the newest is looked at together."""
    enter_s: float = 0.0
    """How long it has to be beyond the limit."""
    leave_s: float = 60.0
    """How long it has to be well again."""
    min_support: float = 1.0
    """Fewer requests, values or labels than this are not judged."""
    missing: OnMissing = OnMissing.UNKNOWN
    idle: Idle = Idle.UNKNOWN
    hold_red_s: float = 300.0
    """How long red stands while there is nothing to judge; then it is unknown."""
    stall_s: float | None = None
    """So long without anything ending, while requests are in flight, counts as beyond the limit."""
    past_s: float = 7200.0
    """Of a shift, ``drop`` and ``growth``: how much of the past is compared with."""
    step_s: float = 30.0
    """The past is remembered in steps of this length, or of a window's where those are longer."""
    step_support: float = 0.0
    """A step of the past is not over before it stands on so much."""
    evidence_z: float = 5.5
    """Of a shift: so many standard deviations of the past's own noise. One-sided 5.5 are 2e-8: of 100 services
    judged each minute for 30 days (4.3 million) less than one false word."""
    spread_min: float = 0.1
    """Of a shift: its noise is never taken for less than this (relative)."""
    least: float = 0.0
    """Of a shift: below this value nothing is bad, however much it has grown."""
    severity: str = "warning"
    then: Then = Then.TELL
    services: tuple[str, ...] = ("*",)
    """Globs."""
    by_segment: bool = False
    """Each segment is judged on its own as well."""
    is_fast: bool = False
    """Judged by the node itself, also while the aggregator is away."""
    unit: str = ""

    @property
    def reach_s(self) -> float:
        """How far back the windows must reach that it is judged by."""
        return self.over_s + 2 * self.step_s + LATE_S


LATE_S = 20.0
"""A step of the past is closed this long after its end: windows of 10 s take that long to arrive."""
