"""The picture readers get: one immutable view per published tick."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwarden.model.action import Outcome, Withheld
from gpuwarden.model.decision import Incident
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Case, Debt, Tombstone
from gpuwarden.model.oncall import OncallState
from gpuwarden.model.repair import Fault, Repair
from gpuwarden.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """The agent about itself. ``counters``: name -> total since start; see ``adapters.metrics``."""

    version: str
    pid: int
    mode: str
    started_wall: float
    boot_id: str
    config_ok: bool = True
    config_error: str = ""
    config_loaded_wall: float = 0.0
    kernel_log: str = "none"
    limiter: str = "none"
    driver_version: str = ""
    nvml_version: str = ""
    cuda_version: str = ""
    journal_ok: bool = True
    degraded: tuple[str, ...] = ()
    policy_version: int = 0
    """Of the fleet's policy in force; 0: none."""
    policy_not_after_wall: float = 0.0
    policy_expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One picture. ``serial`` grows with each publication; ``at`` is the tick's monotonic time."""

    serial: int
    at: float
    agent: AgentInfo
    snapshot: Snapshot
    findings: tuple[Finding, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    cases: tuple[Case, ...] = ()
    debts: tuple[Debt, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    faults: tuple[Fault, ...] = ()
    repairs: tuple[Repair, ...] = ()
    incidents: tuple[Incident, ...] = ()
    """Newest first; open ones are never dropped, closed ones are bounded."""
    outcomes: tuple[Outcome, ...] = ()
    """The most recent outcomes, newest last, bounded."""
    device_details: Mapping[DeviceId, Mapping[str, float | str | None]] = field(
        default_factory=dict
    )
    """Slow facts of a device by metric-like name (temperature_c, power_w, sm_ratio, ...)."""
    counters: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(counter name, label value or ``""``) -> total since start."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """Own cost: tick_cpu_s, tick_wall_s, rss_bytes, probe_rss_bytes, probe_cpu_s_total, ..."""
    oncall: OncallState = field(default_factory=OncallState)
