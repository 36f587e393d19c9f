"""What a look adds to the faults that are remembered: its signs, and what the driver took back."""

from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding
from gpuwarden.model.memory import Memory
from gpuwarden.model.repair import Fault, FaultClass
from gpuwarden.policy import lockup
from gpuwarden.policy.fault import fold, signs
from gpuwarden.policy.scene import Scene

BY_RECOVERY = frozenset(
    {FaultClass.HANG, FaultClass.ECC, FaultClass.REMAP, FaultClass.REMAP_FAILED, FaultClass.LINK}
)
"""Classes that are over when the driver, having asked for a recovery, asks for none any more."""


def remember(cfg: Config, memory: Memory, scene: Scene, findings: list[Finding]) -> Memory:
    """Memory with this look's signs folded in; the same object where nothing was said and nothing stood."""
    told = signs.of_look(cfg, memory, scene, findings)
    if not told and not memory.faults:
        return memory
    faults = fold.fold(cfg, memory.faults, told, scene, memory.mended)
    faults = {
        k: _excused(cfg, scene, f)
        for k, f in faults.items()
        if not _is_taken_back(cfg, memory, scene, f)
    }
    return memory if faults == memory.faults else replace(memory, faults=faults)


def _excused(cfg: Config, scene: Scene, fault: Fault) -> Fault:
    """The driver's own number, read after the fault, says that nothing is to be recovered: then the
    catalogue's general advice does not count. A driver that tells no number says nothing."""
    if fault.root.cls not in BY_RECOVERY or fault.root.device is None or fault.root.is_condition:
        return fault
    device = scene.devices.get(fault.root.device)
    number = device.recovery_action if device is not None else None
    is_since = scene.snap.at - fault.last_at > cfg.sampling.slow_every_s + lockup.QUIET_S
    is_excused = number == 0 and is_since and fault.recovery == 0
    return fault if is_excused == fault.is_excused else replace(fault, is_excused=is_excused)


def _is_taken_back(cfg: Config, memory: Memory, scene: Scene, fault: Fault) -> bool:
    """Whether a recovery the driver asked for has been done, by whomever: it says that none is needed."""
    if fault.recovery == 0 or fault.root.cls not in BY_RECOVERY or fault.root.device is None:
        return False
    device = scene.devices.get(fault.root.device)
    state = memory.devices.get(fault.root.device)
    if device is None or state is None or device.recovery_action != 0:
        return False
    wait = cfg.sampling.slow_every_s + lockup.QUIET_S
    is_old = scene.snap.at - fault.last_at > wait
    return is_old and not lockup.is_asking(cfg, state, device, scene.snap.at)
