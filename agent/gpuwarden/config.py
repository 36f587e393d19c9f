"""Settings: what an operator may say, with units, defaults and the source of each default.

Policy reads these values and nothing else. Loading files is ``config_files``.
"""

from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from gpuwarden.config_addresses import ListenAddress, UnixUrl
from gpuwarden.config_cordon import CordonConfig
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.config_health import HealthConfig
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.config_placement import PlacementConfig
from gpuwarden.config_rollback import RollbackConfig
from gpuwarden.config_rules import Rules
from gpuwarden.config_services import ServiceConfig
from gpuwarden.config_types import Bytes, Class, Ratio, Seconds, Section
from gpuwarden.model.tenant import TenantClass

if TYPE_CHECKING:
    from gpuwarden.config_guardrails import GuardrailConfig

MIB = 2**20
GIB = 2**30


class QuotaConfig(Section):
    """Judging GPU memory against quotas. Defaults: DESIGN 4.3."""

    hard_margin_bytes: Bytes = 64 * MIB
    """A hard overrun trips at quota + max(this, ``hard_margin_ratio`` x quota)."""
    hard_margin_ratio: Ratio = 0.02
    soft_hold_s: Seconds = 10.0
    """How long over soft before it is a breach."""
    throttle_after_s: Seconds = 10.0
    """How long after the warning a tenant still over soft is throttled."""
    clear_ratio: Ratio = 0.95
    clear_hold_s: Seconds = 30.0
    evict_high: bool = False
    """Whether a tenant of class high may be evicted for its own overrun."""
    warmup_s: Seconds = 2.0
    """No eviction this long after start, except in the emergency lane."""
    describe_wait_s: Seconds = 3.0
    """How long a new tenant's runtime may take to tell its labels (Docker's own deadline is 3 s); after
    that the tenant is judged by the default quota."""
    growth_window_s: Seconds = 10.0
    min_reclaim_ratio: Ratio = 0.05
    """Reclaim target = overrun + this share of the device (kubelet's min-reclaim, oomd's idea)."""
    unattributed_margin_bytes: Bytes = 512 * MIB
    unattributed_hold_s: Seconds = 5.0


class ReserveConfig(Section):
    """Device memory kept free for protected tenants."""

    bytes: Bytes = 0
    ratio: Ratio = 0.0
    """The larger of both counts; 0 and 0: no reserve."""
    evict_within_quota: bool = True
    """Whether low tenants within quota may go when those over quota do not free enough."""


class LadderConfig(Section):
    """The escalation ladder. Grace by class: enforcement research b4; DESIGN 4.4."""

    grace_high_s: Seconds = 30.0
    grace_normal_s: Seconds = 30.0
    grace_low_s: Seconds = 10.0
    grace_best_effort_s: Seconds = 2.0
    grace_max_s: Seconds = 300.0
    """The longest grace a label may claim."""
    emergency_grace_s: Seconds = 1.0
    hold_ttl_s: Seconds = 2.0
    """A freeze never lasts longer than this without a decision."""
    restart_wait_s: Seconds = 0.15
    """How long a kill waits for the runtime to switch its restart policy off."""
    mps_wait_s: Seconds = 1.0
    """How long a TERM waits for the MPS server to let its client go."""
    verify_s: Seconds = 2.0
    """How long after KILL the cgroup may stay populated before the runtime is asked."""
    stuck_s: Seconds = 10.0
    cooldown_s: Seconds = 15.0
    """No further victim on the device before its bytes are back or this is over (oomd's pause)."""
    throttle_cpu_cores: float = Field(default=0.2, gt=0, le=1024)
    tombstone_evictions: int = Field(default=3, ge=1, le=1000)
    tombstone_window_s: Seconds = 600.0
    allow_protected_restart: bool = False
    page_after_s: Seconds = 5.0
    """How long a claim that nobody acts on may stand before somebody is paged."""
    page_again_s: Seconds = 600.0
    """A claim that comes back is paged again only after this long."""
    locked_after_s: Seconds = 3.0
    """How long a device may stay locked after the offender is gone before the last resort, where the
    driver itself asks for a recovery."""
    uncordon_after_s: Seconds = 300.0
    """How long a cordoned device has to have been well before it is used again."""
    locked_silent_s: Seconds = 10.0
    """The same where the driver asks for nothing and only the services on it still suffer: what
    measures them needs a window of good requests before it says so."""


class FaultConfig(Section):
    """Judging what the driver says of a fault."""

    correlate_s: Seconds = 30.0
    """Signs on one device within this of one another belong to one fault. Drivers repeat the consequences
    of a fault for some seconds; a GSP time-out alone takes 6 s to be told (health research 8)."""
    application_quiet_s: Seconds = 60.0
    """How long an application's fault, or an advice, stands after its last sign."""
    quiet_s: Seconds = 3600.0
    """The same of a device's fault that no reset or reboot is asked for."""


class RepairConfig(Section):
    """Repairing what is broken: which steps the operator lets the agent take, and how often."""

    allow: tuple[Literal["restart-services", "reset-gpu", "reload-driver", "reboot"], ...] = (
        "restart-services",
        "reset-gpu",
    )
    """Steps that are taken in enforce mode; any other is handed to people with the command to run."""
    drain_evicts: Class | None = None
    """The highest class that may be stopped to empty a device; unset: it is waited for."""
    drain_wait_s: Seconds = 1800.0
    """How long a device may take to empty before somebody is paged about it."""
    reset_s: Seconds = 60.0
    """One GPU's reset takes under 2 minutes with all around it, the reset itself seconds
    (health research 2: NVSentinel design 019)."""
    services_s: Seconds = 60.0
    reload_s: Seconds = 120.0
    reboot_delay_s: Seconds = 60.0
    """How long a reboot can still be cancelled (shutdown -c)."""
    reboot_s: Seconds = 600.0
    """How long after its order the host may take to go down."""
    verify_s: Seconds = 30.0
    """How long a step has to show that it has helped."""
    boot_verify_s: Seconds = 300.0
    repeat_raises: int = Field(default=2, ge=1, le=100)
    """After so many repairs of the same fault the next begins one step further on (gpud: 2 reboots)."""
    repeat_window_s: Seconds = 3 * 86_400.0
    """Repairs count as of the same fault for this long (gpud looks back 3 days)."""
    resets_per_device_day: int = Field(default=3, ge=0, le=1000)
    service_restarts_per_day: int = Field(default=6, ge=0, le=1000)
    reloads_per_day: int = Field(default=2, ge=0, le=1000)
    reboots_per_day: int = Field(default=1, ge=0, le=1000)
    nvidia_smi: Path = Path("/usr/bin/nvidia-smi")
    systemctl: Path = Path("/usr/bin/systemctl")
    services: tuple[str, ...] = ("nvidia-fabricmanager.service", "nvidia-persistenced.service")
    """What ``restart-services`` restarts, of those that are installed."""
    reload_command: tuple[str, ...] = ()
    """What reloads the driver; empty: modprobe -r of its modules, and modprobe of them again."""
    reboot_command: tuple[str, ...] = ("/usr/sbin/shutdown", "-r")
    """What reboots; the delay in whole minutes and a reason are added."""
    bug_report: Path = Path("/usr/bin/nvidia-bug-report.sh")
    """Run (``--safe-mode``) when a step has failed, where it is installed, before the next is tried."""
    evidence_s: Seconds = 120.0
    """How long that may take; without its kernel's debug parts it takes under a minute."""
    check_command: tuple[str, ...] = ()
    """A small program that uses a GPU (its UUID is added) and exits 0 if that works; empty: none."""


class SamplingConfig(Section):
    """How often to look. DESIGN 4.3; costs research: count wake-ups, not calls."""

    fast_min_s: Seconds = 0.02
    fast_base_s: Seconds = 0.1
    fast_max_s: Seconds = 1.0
    urgent_headroom_s: Seconds = 1.0
    """Headroom divided by growth under this makes the loop run at ``fast_min_s``."""
    list_every_s: Seconds = 2.0
    list_gap_s: Seconds = 0.1
    list_trigger_bytes: Bytes = 64 * MIB
    harm_age_s: Seconds = 1.0
    """An eviction is begun or raised only on a list at most this old."""
    gap_s: Seconds = 5.0
    """A longer silence between two ticks (suspended host, stopped agent) starts confirmation
    anew.
    """
    fast_deadline_s: Seconds = 0.5
    slow_deadline_s: Seconds = 2.0
    host_every_s: Seconds = 5.0
    slow_every_s: Seconds = 5.0
    """How often what moves fastest of the slow facts is read (power, clocks, the driver's recovery number), at
    least half a second, and some processes are looked at afresh."""


class HostConfig(Section):
    """Rules on the host itself."""

    memory_available_min_ratio: Ratio = 0.05
    memory_full_max_percent: float = Field(default=40.0, ge=0, le=100)
    """PSI full avg10: enforcement research scenario 25."""
    cpu_max_ratio: Ratio = 0.98
    filesystem_free_min_ratio: Ratio = 0.05
    hold_s: Seconds = 30.0
    pressure_hold_s: Seconds = 10.0
    """How long a tenant stalls on its own host memory before it is a breach."""
    pressure_memory_ratio: Ratio = 0.8
    """What a tenant in such a breach is throttled to, as a share of its host memory quota."""
    memory_high_ratio: Ratio = 0.9
    """memory.high as a share of a tenant's host memory quota."""


class Match(Section):
    """Which tenants an entry is for: every given field must match (shell globs)."""

    image: str | None = None
    name: str | None = None
    unit: str | None = None
    user: str | None = None
    account: str | None = None
    runtime: str | None = None
    comm: str | None = None
    service: str | None = None

    @model_validator(mode="after")
    def _some(self) -> "Match":
        if not any(value is not None for value in self.__dict__.values()):
            raise ValueError("expected at least one of image, name, unit, user, account, ...")
        return self


class TenantPolicy(Section):
    """The operator's word on some tenants: defaults where labels are silent, caps where they
    are not.
    """

    match: Match
    memory: Bytes | None = None
    """Quota of GPU memory a device, for tenants whose label claims none."""
    memory_max: Bytes | None = None
    """The most a label may claim."""
    memory_soft: Bytes | None = None
    tenant_class: Class | None = Field(default=None, alias="class")
    """Class of tenants without a label, and the highest a label may claim unless ``class_max``
    says.
    """
    class_max: Class | None = None
    grace: Seconds | None = None
    host_memory: Bytes | None = None
    cpu_cores: float | None = Field(default=None, gt=0, le=4096)
    service: str | None = Field(default=None, max_length=128)
    never_victim: bool = False


class DefaultPolicy(Section):
    """Tenants no entry matches."""

    memory: Bytes | None = None
    """Quota of GPU memory a device, for tenants whose label claims none."""
    memory_max: Bytes | None = None
    """The most a label may claim; unset: ``memory``, and without that no bound. Where ``memory`` is unset it is
    itself the quota of tenants whose label claims none: who claims nothing must not have more than who asks."""
    tenant_class: Class = Field(default=TenantClass.LOW, alias="class")
    class_max: Class = TenantClass.NORMAL
    """The highest class a label may claim without the operator's map."""
    label_memory: bool = True
    """Whether a label may set a quota at all."""


class AgentConfig(Section):
    """The daemon itself."""

    mode: Literal["observe", "enforce"] = "observe"
    state_dir: Path = Path("/var/lib/gpuwarden")
    run_dir: Path = Path("/run/gpuwarden")
    metrics_listen: ListenAddress = "127.0.0.1:9420"
    metrics_processes: int = Field(default=0, ge=0, le=1000)
    """So many processes of each device, the largest, have series of their own on the metrics page."""
    log_format: Literal["console", "json"] = "console"
    expected_devices: int | None = Field(default=None, ge=0, le=64)
    journal_max_bytes: Bytes = 256 * MIB
    operator_gids: tuple[int, ...] = ()
    """Groups whose members may act through the socket; root always may."""


class NvmlConfig(Section):
    """Where the driver's library is."""

    library: str | None = Field(default=None, max_length=4096)
    limiter: Literal["auto", "nvml-memory-limits", "mps-pinned", "none"] = "auto"


class DockerConfig(Section):
    """Docker's API."""

    host: UnixUrl = "unix:///var/run/docker.sock"
    timeout_s: Seconds = 3.0


class CriConfig(Section):
    """The CRI of pods (containerd, CRI-O)."""

    endpoint: UnixUrl | None = None
    """The kubelet's own; unset: those of the places where runtimes listen by default."""
    timeout_s: Seconds = 3.0


class KmsgConfig(Section):
    """The kernel log, where the driver reports faults that NVML does not show."""

    path: Path = Path("/dev/kmsg")
    """The kernel's device, a simulated driver's socket, or a file of lines."""
    source: Literal["auto", "kmsg", "file", "journal", "none"] = "auto"
    """``auto``: what is at ``path``; systemd's journal where that is /dev/kmsg and may not be read."""


AT_START = (
    *(f"agent.{key}" for key in ("state_dir", "run_dir", "metrics_listen", "log_format")),
    *("agent.metrics_processes", "agent.journal_max_bytes", "agent.operator_gids"),
    *("nvml", "docker", "cri", "kmsg", "service", "guardrail", "fleet", "rollback"),
    *("cordon.slurm", "cordon.kubernetes", "cordon.exec"),
    *(f"sampling.{key}" for key in ("fast_deadline_s", "slow_deadline_s", "host_every_s")),
    *(f"health.{key}" for key in ("root", "surroundings_every_s", "clock_events")),
)
"""Settings that are read once, when the agent starts; a reload takes over all the others."""


def waits_for_restart(running: "Config", wanted: "Config") -> tuple[str, ...]:
    """Which settings of ``wanted`` are not in force in an agent that was started with ``running``."""
    return tuple(path for path in AT_START if attrgetter(path)(running) != attrgetter(path)(wanted))


def _guardrails(value: object) -> object:
    """Entries as ``GuardrailConfig``, imported where there is one: it weighs 0.8 MiB."""
    if not isinstance(value, list | tuple):
        raise ValueError("expected tables [[guardrail]]")  # noqa: TRY004  pydantic's word for a mistake
    if not value:
        return ()
    from gpuwarden.config_guardrails import GuardrailConfig

    entries = []
    for number, entry in enumerate(value):
        try:
            entries.append(GuardrailConfig.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (number, *first["loc"])))
            raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice")
    return tuple(entries)


class Config(Section):
    """The whole file."""

    agent: AgentConfig = AgentConfig()
    sampling: SamplingConfig = SamplingConfig()
    quota: QuotaConfig = QuotaConfig()
    reserve: ReserveConfig = ReserveConfig()
    ladder: LadderConfig = LadderConfig()
    host: HostConfig = HostConfig()
    health: HealthConfig = HealthConfig()
    nvml: NvmlConfig = NvmlConfig()
    docker: DockerConfig = DockerConfig()
    cri: CriConfig = CriConfig()
    kmsg: KmsgConfig = KmsgConfig()
    oncall: OncallConfig = OncallConfig()
    fault: FaultConfig = FaultConfig()
    repair: RepairConfig = RepairConfig()
    cordon: CordonConfig = CordonConfig()
    fleet: FleetConfig = FleetConfig()
    placement: dict[str, PlacementConfig] = Field(default_factory=dict, max_length=64)
    """By group of nodes (``fleet.group``)."""
    rollback: RollbackConfig = RollbackConfig()
    rules: Rules = Rules()
    default: DefaultPolicy = DefaultPolicy()
    tenant: tuple[TenantPolicy, ...] = ()
    service: tuple[ServiceConfig, ...] = ()
    if TYPE_CHECKING:
        guardrail: tuple[GuardrailConfig, ...] = ()
    else:
        guardrail: Annotated[
            tuple[Any, ...], BeforeValidator(_guardrails), Field(max_length=256)
        ] = ()
