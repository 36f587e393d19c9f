"""Whether a step has helped: nothing is believed that has not been seen after it."""

from gpuwarden.model.device import Device, Sight
from gpuwarden.model.repair import Fault, FaultClass, Repair, Step
from gpuwarden.policy import lockup
from gpuwarden.policy.desk import Desk

LEFT_BYTES = 2 * 2**30
"""What may stay used on an empty device after a reset: firmware, page tables, ECC (H100: 0.6 GiB)."""


def failing(desk: Desk, repair: Repair, faults: list[Fault]) -> str:
    """What still speaks against a repair, in words; empty: it is verified.

    Looked at: the device answers with a value read since the step, the driver asks for nothing, no sign has
    come since, no polled condition stands, its memory is back, and it is not locked up.
    """
    for fault in faults:
        if fault.root.is_condition and fault.root.is_trusted:
            return f"{fault.root.code} still stands"
        if fault.last_at > repair.since:
            return f"{fault.root.code} was said again"
    if repair.device is None:
        blind = [d for d in desk.scene.snap.devices if d.sight is not Sight.OK]
        return f"GPU {blind[0].index} does not answer" if blind else ""
    device = desk.scene.devices.get(repair.device)
    if device is None:
        return "the device is not there"
    return _device(desk, repair, device)


def is_measured(repair: Repair, faults: list[Fault]) -> bool:
    """Whether that nothing speaks against a repair proves its step: something that is read again and again
    spoke for the fault before."""
    if repair.is_polled or repair.cls is FaultClass.LOST:
        return True
    return any(fault.recovery > 0 or fault.root.is_condition for fault in faults)


def _device(desk: Desk, repair: Repair, device: Device) -> str:
    if device.sight is not Sight.OK:
        return "the device does not answer"
    if device.at is None or device.at <= repair.since:
        return "no value has been read since"
    state = desk.device(device.id)
    if lockup.is_asking(desk.cfg, state, device, desk.scene.snap.at):
        return f"the driver asks for recovery action {device.recovery_action or ''}".rstrip()
    if state.locked_since is not None:
        return f"it is locked up ({state.locked_why})"
    if repair.step is Step.RESET_GPU and device.used_bytes is not None:
        held = sum(use.used_bytes for use in desk.scene.uses_on(device.id))
        if device.used_bytes - held > LEFT_BYTES:
            return "its memory is not back"
    return ""
