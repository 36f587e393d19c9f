"""What a page says beside its sentence, so that the first steps for whoever is woken fit the fault."""

from collections.abc import Mapping

from gpuwarden.model.fault import Topic
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import FaultClass, Sign
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.fault.steps import topic_of_xid

_OF_CODE: Mapping[str, Topic] = {
    "sxid": Topic.FABRIC,
    "fallen-off": Topic.LOST,
    "recovery": Topic.RECOVERY_ADVISED,
}
_OF_CLASS: Mapping[FaultClass, Topic] = {
    FaultClass.APPLICATION: Topic.APPLICATION,
    FaultClass.HANG: Topic.ENGINE_STOPPED,
    FaultClass.ECC: Topic.MEMORY_UNCORRECTABLE,
    FaultClass.REMAP: Topic.REMAP_PENDING,
    FaultClass.REMAP_FAILED: Topic.REMAP_FAILED,
    FaultClass.LOST: Topic.LOST,
    FaultClass.LINK: Topic.NVLINK,
    FaultClass.FABRIC: Topic.FABRIC,
    FaultClass.DRIVER: Topic.SOFTWARE,
    FaultClass.SERVICE: Topic.FABRIC,
    FaultClass.HARDWARE: Topic.UNCLASSIFIED,
    FaultClass.PERFORMANCE: Topic.POWER_OR_HEAT,
    FaultClass.HOST: Topic.UNCLASSIFIED,
    FaultClass.ADVISORY: Topic.UNCLASSIFIED,
}


def topic_of(sign: Sign) -> Topic:
    """By its code where that tells, else by its class."""
    head, _, number = sign.code.partition(" ")
    if head == "xid" and number.isdecimal():
        return topic_of_xid(int(number))
    return _OF_CODE.get(head, _OF_CLASS[sign.cls])


def page_params(
    desk: Desk, severity: str, summary: str, device: DeviceId | None, topic: Topic | None
) -> tuple[tuple[str, str], ...]:
    """The parameters of a page."""
    known = desk.scene.devices.get(device) if device is not None else None
    said = [("severity", severity), ("summary", summary)]
    if topic is not None:
        said.append(("fault", topic.value))
    if known is not None and known.pci:
        said.append(("pci", known.pci))
    return tuple(said)
