"""What a step on the ladder means, in words for people."""

from gpuwarden.model.memory import Case, Rung
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.ladder import Event
from gpuwarden.policy.words import size

_AFTER_EVICTION = frozenset({Rung.HELD, Rung.TERMED, Rung.KILLED, Rung.STOPPED, Rung.STUCK})


def why(case: Case) -> str:
    """The reason an order carries."""
    lane = " (emergency lane)" if case.is_emergency else ""
    return f"{case.reason}{lane}: {size(case.bytes_at_open)} held, {size(case.limit_bytes)} allowed"


def rung(desk: Desk, before: Case, case: Case, event: Event) -> str:
    """What a step means, for people; the orders that follow carry the reason."""
    if case.rung is Rung.DONE:
        return _end(desk, before, event)
    return {
        Rung.WARNED: "warned: nothing is done to it yet",
        Rung.THROTTLED: "slowed down: it has been over its quota for too long",
        Rung.HELD: "held: taken off its MPS server, which others use as well"
        if case.is_mps
        else "held: it stands still until its runtime will not start it again",
        Rung.TERMED: f"asked to end: it has {case.grace_s:g} s",
        Rung.KILLED: "killed",
        Rung.STOPPED: "its runtime is asked to stop it",
        Rung.STUCK: "given up: its processes or its bytes stay",
    }.get(case.rung, case.rung.value)


def _end(desk: Desk, before: Case, event: Event) -> str:
    device = desk.scene.devices.get(before.device)
    where = f"GPU {device.index}" if device is not None else "its device"
    if event is Event.GONE:
        return "over: it is not there any more, or is another one now"
    if event is Event.OBEYED:
        return "over: it is not in the way any more, and goes on"
    if before.rung in _AFTER_EVICTION:
        return f"over: its processes are gone and its bytes are back on {where}"
    if before.reason.startswith("quota"):
        return "over: it is within its quota again"
    return "over: nothing is held against it any more"
