"""What a look adds to the faults that are remembered: its signs, and what the driver took back."""

from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding
from gpuwarden.model.memory import Memory
from gpuwarden.model.repair import Fault, FaultClass
from gpuwarden.policy import lockup
from gpuwarden.policy.fault import fold, records, signs
from gpuwarden.policy.scene import Scene

BY_RECOVERY = frozenset(
    {FaultClass.HANG, FaultClass.ECC, FaultClass.REMAP, FaultClass.REMAP_FAILED, FaultClass.LINK}
)
"""Classes that are over when the driver, having asked for a recovery, asks for none any more."""


def remember(cfg: Config, memory: Memory, scene: Scene, findings: list[Finding]) -> Memory:
    """Memory with this look's signs folded in; the same object where nothing was said and nothing stood."""
    told = signs.of_look(cfg, memory, scene, findings)
    heard = records.heard(memory, scene)
    if heard != memory.kernel_heard:
        memory = replace(memory, kernel_heard=heard)
    if not told and not memory.faults:
        return memory
    faults: dict[str, Fault] = {}
    for key, fault in fold.fold(cfg, memory.faults, told, scene, memory.mended).items():
        kept = _by_the_driver(cfg, memory, scene, fault)
        if kept is not None:
            faults[key] = kept
    return memory if faults == memory.faults else replace(memory, faults=faults)


def _by_the_driver(cfg: Config, memory: Memory, scene: Scene, fault: Fault) -> Fault | None:
    """The fault as the driver's own number leaves it. While that says that nothing is to be recovered, the
    catalogue's general advice does not count; said after the fault, by a number read since, it is over. A
    driver that tells no number says nothing."""
    if fault.root.cls not in BY_RECOVERY or fault.root.device is None or fault.root.is_condition:
        return fault
    device = scene.devices.get(fault.root.device)
    state = memory.devices.get(fault.root.device)
    if device is None or state is None or device.recovery_action is None:
        return fault
    if lockup.is_asking(cfg, state, device, scene.snap.at):
        return replace(fault, is_excused=False) if fault.is_excused else fault
    if state.locked_since is None and (
        scene.snap.at - fault.last_at > settle_s(cfg) or _works(cfg, scene, fault)
    ):
        return None
    return fault if fault.is_excused else replace(fault, is_excused=True)


def _works(cfg: Config, scene: Scene, fault: Fault) -> bool:
    """Whether a device that had stopped has been seen to do work since, by a service on it: a lock-up that is
    over need not wait for the driver's number to be read once more."""
    device = fault.root.device
    if device is None or fault.root.cls is not FaultClass.HANG:
        return False
    has_service = bool(lockup.services_on(scene, device))
    return has_service and lockup.is_proven(cfg, scene, device, fault.last_at)


def settle_s(cfg: Config) -> float:
    """How long after a fault the driver's number is certain to have been read since."""
    return cfg.sampling.slow_every_s + lockup.QUIET_S
