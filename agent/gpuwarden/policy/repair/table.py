"""The states of a repair as a table: which phase follows which event."""

from enum import StrEnum

from gpuwarden.model.repair import Phase


class Event(StrEnum):
    """What can happen to a repair."""

    NOTHING = "nothing"
    BEGUN = "begun"
    """Its step may be taken: what it is about is taken out of use."""
    LAST = "last"
    """Nothing is left to try, or what is left is not ours to do."""
    READY = "ready"
    """Nobody is left on it: the step is ordered."""
    BUSY = "busy"
    """The step found somebody on it after all."""
    DONE = "done"
    FAILED = "failed"
    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    RECURRED = "recurred"
    PASSED = "passed"
    """It has been well for as long as probation takes."""
    CLEARED = "cleared"
    """The fault does not stand any more, without our doing."""
    UNTOUCHED = "untouched"
    """The same, and nothing was taken out of use or tried: there is nothing to watch."""


TABLE: dict[tuple[Phase, Event], Phase] = {
    (Phase.OPEN, Event.BEGUN): Phase.EMPTYING,
    (Phase.OPEN, Event.LAST): Phase.HANDED_OVER,
    (Phase.OPEN, Event.CLEARED): Phase.PROBATION,
    (Phase.OPEN, Event.UNTOUCHED): Phase.REST,
    (Phase.EMPTYING, Event.READY): Phase.ACTING,
    (Phase.EMPTYING, Event.LAST): Phase.HANDED_OVER,
    (Phase.EMPTYING, Event.CLEARED): Phase.PROBATION,
    (Phase.ACTING, Event.DONE): Phase.VERIFYING,
    (Phase.ACTING, Event.FAILED): Phase.OPEN,
    (Phase.ACTING, Event.BUSY): Phase.EMPTYING,
    (Phase.VERIFYING, Event.VERIFIED): Phase.PROBATION,
    (Phase.VERIFYING, Event.UNVERIFIED): Phase.OPEN,
    (Phase.PROBATION, Event.PASSED): Phase.REST,
    (Phase.PROBATION, Event.RECURRED): Phase.OPEN,
    (Phase.HANDED_OVER, Event.CLEARED): Phase.PROBATION,
    (Phase.HANDED_OVER, Event.UNTOUCHED): Phase.REST,
}


def step(phase: Phase, event: Event) -> Phase:
    """The next phase; an event that says nothing to a phase leaves it."""
    return TABLE.get((phase, event), phase)
