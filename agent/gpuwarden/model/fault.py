"""How far a driver fault reaches, how bad it is, and what is to be done about it: the vocabulary."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Scope(StrEnum):
    """What a fault takes with it."""

    INFO = "info"
    APP = "app"
    """The application that raised it; the device goes on."""
    LINK = "link"
    """A link, and whoever talks over it."""
    GPU = "gpu"
    NODE = "node"


class Gravity(StrEnum):
    """How bad a fault is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    FATAL = "fatal"


class Remedy(StrEnum):
    """What is to be done first."""

    IGNORE = "ignore"
    MONITOR = "monitor"
    RESTART_APP = "restart_app"
    RESTART_FABRIC = "restart_fabric"
    """Fabric manager, with the switches and the GPUs on them."""
    RESET_GPU = "reset_gpu"
    REBOOT_NODE = "reboot_node"
    CHECK_MECHANICALS = "check_mechanicals"
    UPDATE_SOFTWARE = "update_software"
    CONTACT_SUPPORT = "contact_support"
    WORKFLOW = "workflow"
    """Not to be told from this line alone: other lines, registers or a person decide."""


class Topic(StrEnum):
    """Faults that are diagnosed, repaired and explained in the same way."""

    APPLICATION = "application"
    ENGINE_STOPPED = "engine_stopped"
    """An engine or the firmware of the GPU (PMU, GSP, SEC2) does not answer any more."""
    MEMORY_CONTAINED = "memory_contained"
    MEMORY_UNCORRECTABLE = "memory_uncorrectable"
    REMAP_PENDING = "remap_pending"
    REMAP_FAILED = "remap_failed"
    NVLINK = "nvlink"
    FABRIC = "fabric"
    """An NVSwitch, or the fabric manager that runs them."""
    LOST = "lost"
    INIT_FAILED = "init_failed"
    RECOVERY_ADVISED = "recovery_advised"
    PCIE = "pcie"
    POWER_OR_HEAT = "power_or_heat"
    SOFTWARE = "software"
    """Driver, library and firmware that do not fit together."""
    INFOROM = "inforom"
    SECURITY = "security"
    DRIVER_HUNG = "driver_hung"
    """Calls into the driver do not return: a task in D state, a probe that hangs."""
    MEMORY_HELD = "memory_held"
    """Memory that a process which is gone, or going, still holds."""
    UNCLASSIFIED = "unclassified"
    NONE = "none"
    """Nothing is wrong."""


class RecoveryAction(IntEnum):
    """The driver's own advice: NVML field 230, and the numbers of an Xid 154 line."""

    NONE = 0
    GPU_RESET = 1
    NODE_REBOOT = 2
    DRAIN_P2P = 3
    """End whatever talks from GPU to GPU, then ask again."""
    DRAIN_AND_RESET = 4
    """The device works with reduced capacity; reset it once it is empty."""
    RECOVER_IMEX_DOMAIN = 5
    BUS_RESET = 6
    SYSTEM_REBOOT = 7


class Basis(StrEnum):
    """What a verdict rests on, the strongest first."""

    RECOVERY = "recovery"
    """The driver's recovery number."""
    CONTAINMENT = "containment"
    """The reset flags of a memory error's line."""
    WORD = "word"
    """Fatal or Non-fatal, or the severity, of an SXid line."""
    CATALOGUE = "catalogue"
    LINE = "line"
    """A line without a code, which says it in words."""
    FOLLOW_ON = "follow_on"
    """The consequence of another fault: never a verdict by itself."""
    UNKNOWN = "unknown"
    """A code that the catalogue does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one line means. ``root_xid``: the fault that this one is a consequence of.

    ``hint`` is what the line's registers add where ``action`` is ``workflow``: the remedy if nothing
    else is known. ``recovery`` is the driver's number where the verdict rests on it.
    """

    scope: Scope
    severity: Gravity
    action: Remedy
    basis: Basis
    root_xid: int | None = None
    recovery: RecoveryAction | None = None
    hint: Remedy | None = None

    @property
    def is_standalone(self) -> bool:
        """Whether anything may be done, or anybody blamed, because of this line alone."""
        return self.basis is not Basis.FOLLOW_ON
