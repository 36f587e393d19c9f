"""A simulated process and the group it lives in."""

from dataclasses import dataclass, field

from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.owner import CgroupOwner


@dataclass(slots=True, eq=False)
class Group:
    """A cgroup directory. ``path`` may be used again later, with another ``inode``."""

    path: str
    inode: int
    hierarchy: str
    is_frozen: bool = False
    is_there: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    pressure: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Habit:
    """How a process behaves.

    ``used_mib`` at start; then it grows (or shrinks) by ``grow_mib_s`` until ``goal_mib``.
    """

    device: DeviceId | None = None
    used_mib: int = 0
    grow_mib_s: float = 0.0
    goal_mib: int = 0
    is_mps: bool = False
    """A client of the node's MPS server."""
    is_hidden: bool = False
    """Managed memory: on the device, and in no process's row."""
    obeys: bool = True
    """Whether it ends on TERM, ``exit_s`` after it."""
    exit_s: float = 0.1
    shrinks_on_term_mib: int | None = None
    """On TERM it does not end but gives back all but this."""
    forks_every_s: float | None = None
    free_s: float = 0.05
    """From its death until the driver has its bytes back."""
    leaks: bool = False
    """The driver never gets them back."""
    reaped: bool = True
    """Otherwise it stays as a zombie."""


@dataclass(slots=True, eq=False, kw_only=True)
class Process:
    """One process. ``holds`` is in bytes, by device."""

    pid: Pid
    comm: str
    uid: int
    pgrp: int
    pgrp_start: int
    group: Group
    owner: CgroupOwner
    tenant: TenantId
    habit: Habit
    holds: dict[DeviceId, int] = field(default_factory=dict)
    hides: dict[DeviceId, int] = field(default_factory=dict)
    is_stuck: bool = False
    """In uninterruptible sleep: signals wait."""
    is_zombie: bool = False
    ended_at: float | None = None
    has_term: bool = False
    """TERM waits for it to run again."""
    has_kill: bool = False
    is_detached: bool = False
    """Its MPS server has let go of it."""
    is_leaving: bool = False
    """Has heard TERM and is on its way out."""

    @property
    def is_alive(self) -> bool:
        return self.ended_at is None
