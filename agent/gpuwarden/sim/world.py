"""A node in memory that implements every port, on simulated time. Deterministic by seed.

The parts are in ``sim.node``. A world knows nothing of policy: it does what processes, kernels, drivers
and runtimes do, and writes down in its ledger what really happened. Whoever drives it attaches an agent
(anything with ``tick`` and ``next_due``) made over ``ports()``.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Protocol

from gpuwarden.config import Config
from gpuwarden.model.ids import CgroupId, DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, ProcessFacts
from gpuwarden.ports import Journal, Ports
from gpuwarden.sim.node.allowance import OPERATORS_MAP, Allowance
from gpuwarden.sim.node.cards import Card, Cards
from gpuwarden.sim.node.cgroups import SimCgroups
from gpuwarden.sim.node.clock import SimClock
from gpuwarden.sim.node.containers import Container, SimDocker
from gpuwarden.sim.node.kernel import MIB, Kernel
from gpuwarden.sim.node.kernellog import SimKernelLog
from gpuwarden.sim.node.ledger import Ledger
from gpuwarden.sim.node.owners import SimRuntimes
from gpuwarden.sim.node.probe import SimProbe
from gpuwarden.sim.node.process import Habit, Process
from gpuwarden.sim.node.remedies import SimCommands, SimCordons, SimRemedies
from gpuwarden.sim.node.senses import SimSenses
from gpuwarden.sim.node.services import SimService, SimServices
from gpuwarden.sim.node.surroundings import (
    AgentDied,
    SimBoard,
    SimHost,
    SimLimiter,
    SimPager,
    SimSteps,
    SimWatchdog,
    SimWorkers,
)

TICK_GAP_S = 0.002
REBOOT_AFTER_S = 60.0


class Agent(Protocol):
    """What lives in a world."""

    def tick(self, now: float, wall: float) -> object: ...

    def next_due(self, now: float) -> float: ...


class World:
    """One node. ``seed`` drives what is left to chance; ``settings`` are those of its agent."""

    def __init__(
        self,
        seed: int = 0,
        *,
        devices: int = 2,
        total_mib: int = 81_920,
        cgroup_version: int = 2,
        limiter: str = "none",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.clock = SimClock()
        self.ledger = Ledger(self.clock)
        self.kernel = Kernel(self.clock, self.ledger, version=cgroup_version)
        self.cards = Cards(self.kernel, self.ledger)
        for index in range(devices):
            self.cards.add(
                Card(id=DeviceId(f"GPU-{index}"), index=index, total_bytes=total_mib * MIB)
            )
        self.cgroups = SimCgroups(self.kernel)
        self.docker = SimDocker(self.kernel, self.cgroups)
        self.docker.on_heir = self._inherit
        self.runtimes = SimRuntimes(self.kernel, self.docker)
        self.limiter = SimLimiter(self.cards, self.ledger, self.docker, limiter)
        self.host = SimHost(self.clock)
        self.senses = SimSenses(self.clock, self.cards)
        self.services = SimServices(self.clock, self.cards)
        self.docker.on_restart = lambda container: self.services.restarted(container.tenant)
        self.kernel_log = SimKernelLog(self.clock)
        self.pager = SimPager(self.ledger)
        self.board = SimBoard()
        self.watchdog = SimWatchdog(self.clock)
        self.steps = SimSteps(self.ledger)
        self._config: Config | None = None
        self.settings: dict[str, Any] = {"agent": {"mode": "enforce"}, "tenant": OPERATORS_MAP}
        self.configure(**dict(settings or {}))
        self.probe = SimProbe(self.clock, self.cards, self.config().sampling)
        self.remedies = SimRemedies(self.cards, self.probe, self.ledger, self._order_reboot)
        self.cordons = SimCordons(self.ledger)
        self.commands = SimCommands()
        self._goes_down = False
        self.allowances: dict[TenantId, Allowance] = {}
        self.default_quota_mib: int | None = None
        """What the operator allows those that say nothing (``settings`` hold it too)."""
        self.agent: Agent | None = None
        self.crashes = 0
        self.on_step: Callable[[], object] = lambda: None  # who watches: called between two moments
        self.restart_after_s: float | None = None
        """How long after its death the service manager starts the agent again; None: never."""
        self._make: Callable[[World], Agent] | None = None
        self._workers = SimWorkers(self.clock, self.docker.takes_s)
        self._ticked_at = -1e9
        self._growing = True
        self.began = self.clock.now()
        self.asleep_until = -1.0  # the agent is stopped (SIGSTOP, a suspended host) until then

    # --- the agent ---

    def configure(self, **sections: Any) -> None:
        """Change settings; a running agent has to be told (``adopt``)."""
        self._config = None
        for name, value in sections.items():
            if isinstance(value, Mapping) and isinstance(self.settings.get(name), Mapping):
                self.settings[name] = {**self.settings[name], **value}
            else:
                self.settings[name] = value

    def config(self) -> Config:
        """The settings as they now are."""
        if self._config is None:
            self._config = Config.model_validate(self.settings)
        return self._config

    def ports(self, journal: Journal) -> Ports:
        """Everything an agent's loop touches; its workers die with it."""
        return Ports(
            probe=self.probe,
            processes=self.kernel,
            cgroups=self.cgroups,
            runtimes=self.runtimes,
            limiter=self.limiter,
            host=self.host,
            senses=self.senses,
            services=self.services,
            kernel_log=self.kernel_log,
            journal=journal,
            pager=self.pager,
            remedies=self.remedies,
            cordons=self.cordons,
            commands=self.commands,
            versions=self.docker.versions,
            status=self.board,
            watchdog=self.watchdog,
            workers=self._workers,
            steps=self.steps,
            tenant_of=self.tenant_of,
        )

    def attach(self, make: Callable[["World"], Agent]) -> "World":
        """Start an agent, and know how to start it again."""
        self._make = make
        self.boot_agent()
        return self

    def boot_agent(self) -> None:
        """A new process of the agent on the same node."""
        if self._make is None:
            raise RuntimeError("nobody said how an agent is made")
        self._workers = SimWorkers(self.clock, self.docker.takes_s)
        self.kernel_log.restart()
        self.probe.resume()
        self.ledger.note("agent-starts", action="")
        try:
            self.agent = self._make(self)
        except AgentDied as end:
            self._bury(end)

    def crash(self) -> None:
        """The agent is killed, whatever it is doing."""
        self._bury(AgentDied("killed"))

    def _order_reboot(self) -> bool:
        is_first, self._goes_down = not self._goes_down, True
        if is_first:
            self.clock.later(REBOOT_AFTER_S, self.reboot)
        return is_first

    def reboot(self, down_s: float = 30.0) -> None:
        """The host goes down and comes up again: no process outlives it, the agent is started anew."""
        self._goes_down = False
        self.ledger.note("reboot-begins", action="")
        if self.agent is not None:
            self._bury(AgentDied("the host went down"), is_restarted=False)
        for process in self.kernel.alive():
            self.kernel.end(process, "reboot")
        for card in self.cards.cards.values():
            card.heal("reboot")
        self.host.boot = f"boot-{int(self.host.boot.rpartition('-')[2]) + 1}"
        self.kernel_log.reboot()
        self.clock.later(down_s, self.boot_agent)

    def stop_agent(self, seconds: float) -> None:
        """The agent does not run for so long, and then goes on as if nothing had been (SIGSTOP)."""
        self.asleep_until = self.clock.now() + seconds

    def tenant_of(self, facts: ProcessFacts) -> TenantId:
        """Names the tenant of a process by its owner, as the agent's own adapter would."""
        owner = facts.owner
        if owner.container_id is not None:
            container = self.docker.containers.get(owner.container_id)
            outer = container.nested_in if container is not None else None
            return TenantId(f"docker:{owner.container_id}" + (f"@{outer}" if outer else ""))
        if owner.job_id is not None:
            return TenantId(f"slurm:{owner.job_id}")
        if owner.unit is not None:
            return TenantId(f"unit:{owner.unit}")
        return TenantId(f"pgrp:{facts.pgrp}@{facts.pgrp_start}")

    # --- who lives here ---

    def container(
        self,
        name: str,
        *,
        cls: str = "low",
        quota_mib: int | None = 8_192,
        soft_mib: int | None = None,
        grace_s: float | None = None,
        service: str | None = None,
        habits: tuple[Habit, ...] = (),
        labels: Mapping[str, str] | None = None,
        **rest: Any,
    ) -> Container:
        """Run a container whose labels say what the operator would allow it. Protected and high ones
        are named by the operator (their images are), the others by their labels alone."""
        image = f"{cls}/{name}"
        said = {"gpuwarden.class": cls}
        if quota_mib is not None:
            said["gpuwarden.memory"] = f"{quota_mib}MiB"
        if soft_mib is not None:
            said["gpuwarden.memory.soft"] = f"{soft_mib}MiB"
        if grace_s is not None:
            said["gpuwarden.grace"] = f"{grace_s}s"
        if service is not None:
            said["gpuwarden.service"] = service
        digits = self.random.getrandbits(255)
        made = Container(
            id=rest.pop("id", f"{digits:064x}"),
            name=name,
            image=image,
            labels={**said, **dict(labels or {})},
            habits=habits or (Habit(device=DeviceId("GPU-0"), used_mib=1_024),),
            **rest,
        )
        self._allow(made, cls, quota_mib or self.default_quota_mib, soft_mib, grace_s)
        self.docker.run(made)
        return made

    def bare(
        self,
        comm: str,
        habit: Habit,
        *,
        uid: int = 1000,
        runtime: str = "user-session",
        unit: str | None = None,
        job: str | None = None,
        path: str | None = None,
        is_never_victim: bool = False,
        allowance: Allowance | None = None,
    ) -> Process:
        """Run a process outside any container; ``unit`` or ``job`` make those its owner."""
        where = path or (
            f"/system.slice/{unit}"
            if unit
            else f"/slurm/job_{job}"
            if job
            else f"/user.slice/{comm}"
        )
        group = self.kernel.groups.get(where) or self.kernel.make_group(where)
        owner = CgroupOwner(
            runtime=runtime,
            cgroup_path=where,
            leaf_path=where,
            unit=unit,
            job_id=job,
            is_never_victim=is_never_victim,
        )
        tenant = TenantId(f"unit:{unit}") if unit else TenantId(f"slurm:{job}") if job else None
        process = self.kernel.spawn(comm, group, owner, tenant, habit, uid=uid)
        if allowance is not None:
            self.allowances[process.tenant] = allowance
        return process

    def service(self, name: str, *, needs_free_mib: int = 0) -> SimService:
        """Watch a service, and probe it where the settings say so; its label tells who carries it."""
        return self.services.add(name, needs_free_mib, self.config().service)

    def _allow(
        self,
        container: Container,
        cls: str,
        quota_mib: int | None,
        soft_mib: int | None,
        grace_s: float | None,
    ) -> None:
        key = container.owner_key or f"container:{container.image}+{container.name}"
        self.allowances[container.tenant] = Allowance(
            cls=cls, quota_mib=quota_mib, soft_mib=soft_mib, grace_s=grace_s, owner_key=key
        )

    def _inherit(self, old: Container, heir: Container) -> None:
        self.allowances[heir.tenant] = self.allowances[old.tenant]

    # --- time ---

    def run(self, until: float) -> "World":
        """Let time go on to ``until`` (simulated seconds since the world began are ``now - 1000``)."""
        while self.clock.now() < until - 1e-9:
            before = self.clock.now()
            step = min(until, self._next_moment())
            self._growing = self.kernel.grow(step - before, self.cards.room)
            self.clock.advance(step)
            self.cards.heal()
            changed = self.services.step()
            self.on_step()
            self.probe.step()
            if self.agent is not None:
                self._maybe_tick(changed)
        return self

    def run_for(self, seconds: float) -> "World":
        """Let so much time go by."""
        return self.run(self.clock.now() + seconds)

    def _next_moment(self) -> float:
        now = self.clock.now()
        moments = [now + 0.5, self.probe.next_due()]
        if self._growing or self._grows():
            moments.append(now + self.probe.plan.period_s)
        due = self.clock.next_due()
        if due is not None:
            moments.append(due)
        if self.agent is not None:
            moments.append(max(self.asleep_until, self.agent.next_due(now)))
        return max(now + TICK_GAP_S, min(moments))

    def _grows(self) -> bool:
        return any(p.habit.grow_mib_s for p in self.kernel.alive())

    def _maybe_tick(self, services_changed: bool) -> None:
        now = self.clock.now()
        if self._workers.crash is not None:
            self._bury(AgentDied(str(self._workers.crash)))
            return
        is_due = self.agent is not None and self.agent.next_due(now) <= now + 1e-9
        if now < self.asleep_until:
            return
        woken = (
            self.probe.has_news
            or self.kernel_log.has_news
            or self.docker.is_changed
            or self.kernel.has_exits
            or bool(self._workers.done)
            or services_changed
        )
        if (
            (is_due or woken)
            and now - self._ticked_at >= TICK_GAP_S - 1e-9
            and self.agent is not None
        ):
            self._ticked_at = now
            try:
                self.agent.tick(now, self.clock.wall())
            except AgentDied as end:
                self._bury(end)
            self.ledger.acting = ""

    def _bury(self, end: AgentDied, *, is_restarted: bool = True) -> None:
        self.agent = None
        self.crashes += is_restarted  # a host that goes down takes it along
        self._workers.is_dead = True
        self.ledger.acting = ""
        self.ledger.note("agent-died", text=str(end), action="")
        if is_restarted and self.restart_after_s is not None:
            self.clock.later(self.restart_after_s, self.boot_agent)

    # --- the truth ---

    def bytes_of(self, tenant: TenantId) -> dict[DeviceId, int]:
        """What a tenant really holds, by device."""
        held = {d: self.kernel.bytes_of(tenant, d) for d in self.cards.cards}
        return {d: n for d, n in held.items() if n}

    def is_alive(self, tenant: TenantId) -> bool:
        """Whether any of its processes lives."""
        return bool(self.kernel.of(tenant))

    def cgroup_of(self, container: Container) -> CgroupId:
        """The group a container lives in now."""
        if container.group is None:
            raise RuntimeError(f"{container.name} has not started")
        group = container.group
        return CgroupId(path=group.path, inode=group.inode, hierarchy=group.hierarchy)
