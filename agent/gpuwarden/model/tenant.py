"""Tenants: what owns GPU bytes, and what it is allowed."""

from dataclasses import dataclass
from enum import IntEnum

from gpuwarden.model.ids import CgroupId, DeviceId, Pid, TenantId


class TenantClass(IntEnum):
    """Rank of a tenant; a higher one is never harmed for a lower one."""

    BEST_EFFORT = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3
    PROTECTED = 4

    @property
    def label(self) -> str:
        """The word used in labels, config and output."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Host-side allowance of a tenant; ``None`` leaves a resource alone."""

    memory_bytes: int | None = None
    cpu_cores: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One tenant as judged under the operator's policy (labels already capped).

    ``soft_bytes``/``hard_bytes`` are allowances of GPU memory on each device it uses (None: none
    set). ``grace_s`` is the time between TERM and KILL.
    """

    id: TenantId
    runtime: str
    name: str
    cls: TenantClass
    soft_bytes: int | None = None
    hard_bytes: int | None = None
    host: HostLimits = HostLimits()
    grace_s: float = 10.0
    service: str | None = None
    version: str = ""
    """Of the service, as its label says; untrusted, decides nothing about harm. Empty: not told."""
    arm: str = ""
    """The same, of an experiment or a roll-out."""
    owner_key: str | None = None
    cgroup: CgroupId | None = None
    pids: tuple[Pid, ...] = ()
    first_seen: float = 0.0
    started_wall: float | None = None
    """When its runtime started it (Unix seconds); None where that is not told."""
    restart_policy: str | None = None
    is_paused: bool = False
    is_never_victim: bool = False
    memory_full_avg10: float | None = None
    """PSI of its cgroup: percent of the last 10 s in which all of it stalled on memory."""
    is_described: bool = True
    """False while the runtime has not told its labels: nothing harmful may be decided about it."""
    cannot_act: str | None = None
    identity: tuple[tuple[str, str], ...] = ()
    """Who it is, for people: image, user, account, unit, command, uid. Untrusted text, one line each."""
    claims: tuple[tuple[str, str], ...] = ()
    """What its labels claim of class and quota, as they stand there, honoured or not. Untrusted."""
    policy_faults: tuple[str, ...] = ()
    """Label claims that were refused or could not be read, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one tenant holds on one device, by the listing taken at ``listed_at``."""

    tenant: TenantId
    device: DeviceId
    used_bytes: int
    listed_at: float
    grown_bytes: int = 0
    """Change over the growth window (config ``quota.growth_window_s``); negative when it shrank."""
    growth_bytes_s: float = 0.0
    """Bytes a second between the last two lists; negative when it shrinks."""
    unknown_rows: int = 0
    """Rows whose size the driver withheld; then ``used_bytes`` is a lower bound."""
    is_mps: bool = False
    """Whether a process of it is a client of an MPS server there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the kernel says of a tenant under action, read in this pass; ``None``: could not be
    read.
    """

    tenant: TenantId
    identity_holds: bool
    is_populated: bool | None = None
    is_frozen: bool | None = None
    live_pids: tuple[Pid, ...] = ()
    stuck_pids: tuple[Pid, ...] = ()
    """Members in uninterruptible sleep (state D)."""
