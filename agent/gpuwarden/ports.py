"""The seams: what the node needs from the world, as Protocols. Adapters and sim.World implement
them.

Every method may raise ``Unavailable`` (try next tick), ``Unsupported`` (stop asking) or ``Refused``
(not the same thing any more). Nothing else may escape an adapter; where a port is called, anything
that does is caught, counted and made a Gap or a failed Outcome.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpuwarden.model.action import Action, Outcome, Target
from gpuwarden.model.decision import Decision, Incident, ProbePlan
from gpuwarden.model.fleet import Leave, no_fleet
from gpuwarden.model.ids import CgroupId, DeviceId, Pid, TenantId
from gpuwarden.model.memory import Memory
from gpuwarden.model.owner import CgroupOwner, GpuContainer, ProcessFacts, RuntimeFacts
from gpuwarden.model.repair import Subject
from gpuwarden.model.service import ProbeReading
from gpuwarden.model.snapshot import (
    Gap,
    LimitReading,
    ServiceState,
    Snapshot,
)
from gpuwarden.model.tenant import HostLimits
from gpuwarden.model.views import KernelView, ProbeView
from gpuwarden.ports_host import Host, Senses
from gpuwarden.ports_oncall import Pager
from gpuwarden.ports_operator import Commands, Cordons, Versions


class Probe(Protocol):
    """NVML, in a child process that may hang."""

    def drain(self, now: float) -> ProbeView:
        """Take what the child has sent; judge deadlines; never blocks."""
        ...

    def steer(self, plan: ProbePlan) -> None:
        """Tell the child how to look; unchanged plans cost nothing."""
        ...

    def pause(self) -> None:
        """Let go of every device: the children are told to end and none is started until ``resume``. A
        reset needs it. Meanwhile every device is blind, and a Gap says why. Never blocks.
        """
        ...

    def resume(self) -> None: ...

    def filenos(self) -> Sequence[int]:
        """Descriptors that become readable when there is something to drain."""
        ...

    def close(self) -> None:
        """Stop the child politely (pipe closed, TERM), never SIGKILL."""
        ...


class Processes(Protocol):
    """/proc, read sparingly: stat and cgroup only."""

    def facts(self, pid: int) -> ProcessFacts | None:
        """Facts of a live process, cached until it exits; ``None`` when there is no such
        process.
        """
        ...

    def reread(self, pid: Pid) -> ProcessFacts | None:
        """Facts read afresh, for use just before acting; ``None`` when it is gone or reused."""
        ...

    def rotate(self, count: int) -> int:
        """Read the cgroup of up to ``count`` watched processes afresh, in turn; how many moved."""
        ...

    def is_alive(self, pid: Pid) -> bool:
        """Whether this very process still runs (zombies do not)."""
        ...

    def group(self, pgrp: int) -> Sequence[Pid]:
        """Live members of a process group (for owners that have no cgroup of their own)."""
        ...

    def is_stuck(self, pid: Pid) -> bool:
        """Whether it sits in uninterruptible sleep (state D)."""
        ...

    def signal(self, pid: Pid, signum: int) -> None:
        """Signal this very process through a pidfd; ``Refused`` when it is another one now."""
        ...

    def exited(self) -> Sequence[Pid]:
        """Processes seen to exit since the last call."""
        ...

    def filenos(self) -> Sequence[int]:
        """Descriptors that become readable when a watched process exits."""
        ...


class Cgroups(Protocol):
    """cgroupfs v1, v2 and hybrid. Every call compares the group's inode first, else ``Refused``."""

    def locate(self, owner: CgroupOwner) -> CgroupId | None:
        """The directory to act on, or ``None`` when the path is the root, relative or not there."""
        ...

    def is_same(self, cgroup: CgroupId) -> bool: ...

    def members(self, cgroup: CgroupId) -> Sequence[int]:
        """Pids of the group and everything below it."""
        ...

    def is_populated(self, cgroup: CgroupId) -> bool:
        """Whether any process is in it or below; False as well once the group itself is gone,
        ``Refused`` when another one stands in its place."""
        ...

    def is_frozen(self, cgroup: CgroupId) -> bool: ...
    def freeze(self, cgroup: CgroupId) -> None: ...
    def thaw(self, cgroup: CgroupId) -> None: ...

    def kill(self, cgroup: CgroupId) -> int:
        """End every member (v2 cgroup.kill; v1 freeze, signal all, thaw); number of processes
        hit.
        """
        ...

    def throttle(
        self,
        cgroup: CgroupId,
        *,
        cpu_cores: float | None,
        memory_high_bytes: int | None,
        keep: Callable[[Mapping[str, str]], None],
    ) -> Mapping[str, str]:
        """Slow the group down; the old values, by file, for ``restore``. ``keep`` is told them before
        any is changed; what it raises leaves the group as it was."""
        ...

    def limit(self, cgroup: CgroupId, limits: HostLimits) -> Mapping[str, str]:
        """Set host memory and CPU limits; the old values, by file, for ``restore``."""
        ...

    def restore(self, cgroup: CgroupId, old: Mapping[str, str]) -> None: ...

    def pressure(self, cgroup: CgroupId) -> Mapping[str, float]:
        """PSI of the group where the kernel has it: ``memory_full_avg10`` and the like, percent."""
        ...


class Runtime(Protocol):
    """One kind of owner (Docker, Podman, CRI, Slurm, systemd, LXC, bare process group)."""

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        """What the runtime says; may block up to its deadline: called on a worker."""
        ...

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """Keep it from coming back; the old policy for ``restart_back``, empty where there was none.
        Blocks up to its deadline.
        """
        ...

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        """Give back what ``restart_off`` told, or, where its answer never came, what was known before:
        ``restart_policy`` as in ``RuntimeFacts``."""
        ...

    def stop(self, target: Target, grace_s: float) -> None:
        """Stop it in the runtime. Blocks up to its deadline."""
        ...

    def restart(self, target: Target, grace_s: float) -> None:
        """Stop it with its grace and start it again; ``Refused`` where it does not run, or is another one
        now. Blocks up to its deadline. ``Unsupported`` where whoever started it has to.
        """
        ...

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        """Start a replacement pinned to another device; its new id. ``Unsupported`` where
        impossible.
        """
        ...


class Runtimes(Protocol):
    """All runtimes of the host: dispatches by ``runtime`` and caches descriptions."""

    def facts(self, owner: CgroupOwner, tenant: TenantId, cgroup: CgroupId | None) -> RuntimeFacts:
        """What is known now (possibly ``described=False``); asks in the background; never blocks.

        Another ``cgroup`` of the same path is another run, of which nothing is known yet.
        """
        ...

    def for_runtime(self, runtime: str) -> Runtime | None:
        """Who can act on this kind; ``None``: nobody (reported as *cannot act*)."""
        ...

    def changed(self) -> bool:
        """Whether a container event or a late description arrived since the last call."""
        ...

    def filenos(self) -> Sequence[int]: ...
    def gpu_containers(self) -> Sequence[GpuContainer]:
        """Containers that run and were given a GPU, as far as is known; asks in the background."""
        ...

    def gaps(self) -> Sequence[Gap]: ...

    def close(self) -> None: ...


class Limiter(Protocol):
    """Preventive limit of GPU memory: nvml-memory-limits, mps-pinned or none; found by probing."""

    @property
    def name(self) -> str: ...

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None: ...

    def clear(self, target: Target, device: DeviceId) -> None:
        """Zero the soft limit before the leaf goes: a deleted leaf leaks its reservation."""
        ...

    def read(self, target: Target, device: DeviceId) -> LimitReading: ...


class Audited(Limiter, Protocol):
    """A limiter that reads back what it was told."""

    def readings(self) -> Sequence[LimitReading]:
        """The newest reading of every limit set; never blocks."""
        ...


class Services(Protocol):
    """Objectives and probes of protected services, asked by threads of their own."""

    def states(self, now: float) -> Sequence[ServiceState]: ...

    def probes(self, now: float) -> Sequence[ProbeReading]:
        """The newest reading of each service that is probed; never blocks."""
        ...

    def filenos(self) -> Sequence[int]: ...

    def watch(self, tenants: Mapping[TenantId, str]) -> None:
        """Which tenant carries which service (``policy.carriers``): at most one a service."""
        ...

    def close(self) -> None: ...


class KernelLog(Protocol):
    """The kernel log, followed by a thread of its own."""

    def drain(self, now: float) -> KernelView:
        """Records since the last drain; never blocks."""
        ...

    def settle(self) -> None:
        """What was drained has been dealt with: the next agent goes on after it."""
        ...

    def filenos(self) -> Sequence[int]:
        """Descriptors that become readable when a line came that may name a fault."""
        ...

    def counters(self) -> Mapping[tuple[str, str], int]:
        """Totals since start, as in ``View.counters``."""
        ...

    def close(self) -> None:
        """Stop following; remember how far was settled."""
        ...


class Journal(Protocol):
    """Intent before harm, outcome after it; fsynced."""

    def intend(self, before: Memory, snapshot: Snapshot, decision: Decision) -> None:
        """On disk when this returns; ``Unavailable`` when it is not: then nothing harmful runs."""
        ...

    def conclude(self, outcomes: Sequence[Outcome]) -> None: ...

    def keep(self, incidents: Sequence[Incident]) -> None: ...

    def remember(self, memory: Memory) -> None:
        """A checkpoint: what stands, whatever was written or lost before."""
        ...


class Remedies(Protocol):
    """Steps of a repair. Each blocks up to its deadline and says when it returns that it was done, not that
    it has helped. ``Refused``: somebody uses the device; ``Unsupported``: not possible here."""

    def restart_services(self) -> str:
        """Restart what the hardware needs of services, of those installed; which, in words."""
        ...

    def reset_gpu(self, subject: Subject) -> str:
        """Reset one device nobody has open."""
        ...

    def reload_driver(self) -> str: ...

    def reboot(self, reason: str) -> str:
        """Have the host started anew after the configured delay; ordered once however often it is called."""
        ...

    def keep_evidence(self, subject: Subject, incident: str, why: str) -> str:
        """Put on disk what a failed step leaves to be looked at; where it lies, in words."""
        ...

    def mark(self, action: str, *, is_done: bool) -> None:
        """Write down, for an agent after this one, that a step begins or has been tried to its end; one mark,
        the newest. ``Unavailable`` when that cannot be written: then the step must not begin."""
        ...

    def is_done(self, action: str) -> bool | None:
        """What was marked of a step whose agent has ended: ``False``: it never began; ``None``: it began."""
        ...


class Status(Protocol):
    """Where readers (metrics, gRPC) get an immutable picture of the last tick."""

    def publish(
        self,
        snapshot: Snapshot,
        decision: Decision,
        outcomes: Sequence[Outcome],
        incidents: tuple[Incident, ...],
    ) -> None: ...

    def conclude(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes as they come in; those of workers come ticks after their action."""
        ...


class Watchdog(Protocol):
    """Fed by a finished tick only."""

    def pet(self, status: str) -> None: ...


class Steps(Protocol):
    """Named points of every action, in order: tests end the process at each of them."""

    def reached(self, action: Action, phase: str) -> None: ...


class Workers(Protocol):
    """Where calls that may block run: one thread a device plus one for the node, bounded queues."""

    def submit(self, lane: str, action: Action, call: Callable[[], Outcome]) -> bool:
        """Queue a call on a lane; False when the lane is full (counted)."""
        ...

    def finished(self) -> Sequence[Outcome]:
        """Outcomes since the last call."""
        ...

    def filenos(self) -> Sequence[int]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything the node's loop touches."""

    probe: Probe
    processes: Processes
    cgroups: Cgroups
    runtimes: Runtimes
    limiter: Audited
    host: Host
    senses: Senses
    services: Services
    kernel_log: KernelLog
    journal: Journal
    pager: Pager
    remedies: Remedies
    cordons: Cordons
    commands: Commands
    status: Status
    watchdog: Watchdog
    workers: Workers
    steps: Steps
    tenant_of: Callable[[ProcessFacts], TenantId]
    """Names the tenant of a process."""
    leave: Callable[[float], Leave] = no_fleet  # what the fleet lets this node do at a time
    versions: Versions | None = None
