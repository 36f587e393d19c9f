"""Takes out of use what is being repaired."""

from gpuwarden.model.action import Kind
from gpuwarden.model.repair import Repair
from gpuwarden.policy import cordon, guard
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.repair import report


def take_out_of_use(desk: Desk, repair: Repair) -> None:
    """Cordon the device (or, for the node, all of it) unless that is withheld; it holds until verified."""
    if not report.is_cordoned_for(repair):
        return
    place = cordon.NODE_ITSELF if repair.device is None else repair.device
    if desk.device(place).cordoned_by is not None:
        return
    if not guard.is_enforcing(desk.cfg, "repair"):
        return
    snap = desk.scene.snap
    # Leave for a step is leave to take its device out of use.
    has_leave = any(snap.has_leave(k, place) for k in (Kind.CORDON.value, repair.step.value))
    if not (has_leave and snap.can_record):
        return
    why = f"{repair.cls} fault of {report.subject_words(desk, repair)}"
    cordon.take(desk, place, repair.incident, why)
