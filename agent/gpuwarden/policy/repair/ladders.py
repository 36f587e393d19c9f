"""The remedies of each fault class in the order they are tried, and where a verdict makes them begin."""

from gpuwarden.model.repair import Fault, FaultClass, Step

LADDERS: dict[FaultClass, tuple[Step, ...]] = {
    FaultClass.APPLICATION: (),
    FaultClass.ADVISORY: (),
    FaultClass.HANG: (Step.RESET_GPU, Step.REBOOT, Step.HAND_OVER),
    FaultClass.ECC: (Step.RESET_GPU, Step.HAND_OVER),
    FaultClass.REMAP: (Step.RESET_GPU, Step.HAND_OVER),
    FaultClass.REMAP_FAILED: (Step.RESET_GPU, Step.HAND_OVER),
    FaultClass.LOST: (Step.REBOOT, Step.HAND_OVER),
    FaultClass.LINK: (Step.RESET_GPU, Step.REBOOT, Step.HAND_OVER),
    FaultClass.FABRIC: (Step.RESTART_SERVICES, Step.REBOOT, Step.HAND_OVER),
    FaultClass.SERVICE: (Step.RESTART_SERVICES, Step.HAND_OVER),
    FaultClass.DRIVER: (Step.RELOAD_DRIVER, Step.REBOOT, Step.HAND_OVER),
    FaultClass.HARDWARE: (Step.HAND_OVER,),
    FaultClass.PERFORMANCE: (Step.HAND_OVER,),
    FaultClass.HOST: (Step.HAND_OVER,),
}

ORDER = tuple(Step)
"""From the mildest remedy to the last."""

OF_ACTION: dict[str, Step | None] = {
    "ignore": None,
    "monitor": None,
    "restart_app": None,
    "workflow": None,
    "reset_gpu": Step.RESET_GPU,
    "reboot_node": Step.REBOOT,
    "restart_fabric": Step.RESTART_SERVICES,
    "reload_driver": Step.RELOAD_DRIVER,
    "contact_support": Step.HAND_OVER,
    "check_mechanicals": Step.HAND_OVER,
    "update_software": Step.HAND_OVER,
}
"""Where the catalogue's immediate action makes a ladder begin; ``None``: nowhere in particular."""

NOTHING = frozenset({"ignore", "monitor", "restart_app"})
"""Actions that are none of ours: the fault is told, and nothing is repaired."""

OF_RECOVERY = {
    1: Step.RESET_GPU,
    2: Step.REBOOT,
    3: Step.HAND_OVER,
    4: Step.RESET_GPU,
    5: Step.HAND_OVER,
    6: Step.RESET_GPU,
    7: Step.REBOOT,
}
"""The driver's recovery number (Xid 154, field 230): 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset,
5 recover the IMEX domain, 6 bus reset, 7 reboot of the system. It rules over the catalogue."""


def ladder_of(fault: Fault, repeat_raises: int) -> tuple[Step, ...]:
    """The remedies of a fault from where they begin; empty: there is nothing to repair.

    The driver's recovery number rules over the catalogue's action, that over the class; that it needs no
    recovery, said since the fault, too. A fault that came
    back after ``repeat_raises`` repairs begins one remedy further on, after twice as many two.
    """
    if fault.is_excused:
        return ()
    own = LADDERS[fault.root.cls]
    start = OF_RECOVERY.get(fault.recovery) or OF_ACTION.get(fault.root.action)
    if fault.root.cls is FaultClass.DRIVER and fault.recovery == 0:
        start = own[
            0
        ]  # after an update the module that is loaded is the old one: loading it anew is the update
    if start is None:
        is_nothing = fault.root.action in NOTHING or fault.root.severity in ("info", "warning")
        if is_nothing or not own:
            return ()
        start = own[0]
    later = [s for s in own if ORDER.index(s) > ORDER.index(start)]
    ladder = (start, *later) if start is Step.HAND_OVER or later else (start, Step.HAND_OVER)
    if fault.root.device is None:  # a switch, or a device that nobody knows: there is none to reset
        ladder = tuple(s for s in ladder if s is not Step.RESET_GPU)
    return ladder[min(fault.repairs // repeat_raises, len(ladder) - 1) :]


def is_stronger(one: tuple[Step, ...], other: tuple[Step, ...]) -> bool:
    """Whether a ladder begins further on than another: a pending reboot supersedes a reset."""
    return ORDER.index(one[0]) > ORDER.index(other[0])
