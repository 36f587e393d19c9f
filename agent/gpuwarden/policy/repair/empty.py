"""Whether anybody is left on what is to be repaired, and who may be asked to go."""

from dataclasses import replace

from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import FaultClass, Repair, Step
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import leaving
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.repair.permit import is_of_node

RULE = "repair"


def needs_empty(repair: Repair) -> bool:
    """A service that is down is restarted under whoever is there; one that runs, and everything else,
    only when nobody is."""
    return repair.step is not Step.RESTART_SERVICES or repair.cls is FaultClass.FABRIC


def left_on(desk: Desk, repair: Repair) -> list[Tenant] | None:
    """Tenants in the way of the step (``leaving.left_on``); the step itself refuses a device that somebody
    has open."""
    return leaving.left_on(desk, _devices(desk, repair))


def _devices(desk: Desk, repair: Repair) -> list[DeviceId]:
    if is_of_node(repair) or repair.device is None:
        return list(desk.scene.devices)
    return [repair.device, *desk.scene.slices_of(repair.device)]


def ask_to_go(desk: Desk, repair: Repair, left: list[Tenant]) -> None:
    """Those whose class the operator lets a drain end."""
    room = leaving.Room(
        key=f"repair {repair.subject}",
        rule=RULE,
        device=repair.device,
        incident=repair.incident,
        what=f"{repair.step} of {repair.subject}",
        withheld=repair.withheld,
    )
    withheld = leaving.ask_to_go(desk, room, left)
    if withheld != repair.withheld:
        desk.repairs[repair.subject] = replace(repair, withheld=withheld)
