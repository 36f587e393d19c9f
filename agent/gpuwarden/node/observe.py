"""Turns ports into a snapshot. What failed is a Gap, not an exception."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from gpuwarden.config import Config
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.fleet import Leave
from gpuwarden.model.health import Surroundings
from gpuwarden.model.ids import CgroupId, DeviceId, Pid, TenantId
from gpuwarden.model.kernel_line import SxidLine
from gpuwarden.model.kernel_record import KernelRecord
from gpuwarden.model.memory import IN_FLIGHT, Memory, Rung
from gpuwarden.model.owner import ProcessFacts, RuntimeFacts
from gpuwarden.model.rollback import Recorded
from gpuwarden.model.service import ProbeReading
from gpuwarden.model.snapshot import Gap, GapKind, Guest, ServiceState, Snapshot
from gpuwarden.model.tenant import Standing, Tenant
from gpuwarden.model.views import KernelView, ProbeView
from gpuwarden.node.attribution import Attribution
from gpuwarden.node.neighbours import Neighbours, core_shares
from gpuwarden.policy.admission import Who, admit
from gpuwarden.policy.carriers import carriers, replicas
from gpuwarden.policy.rollback import wells
from gpuwarden.ports import Ports

Value = TypeVar("Value")


RECHECK_S = 10.0
"""Rows that do not change are attributed afresh this often: a process may have changed its cgroup."""


ROTATED = 32
"""Cached processes read afresh every ``sampling.slow_every_s``."""


class Observer:
    """Keeps what is expensive to look at twice. The loop's thread only."""

    def __init__(self, cfg: Config, ports: Ports) -> None:
        self._cfg = cfg
        self._ports = ports
        self._attribution = Attribution(
            processes=ports.processes,
            tenant_of=ports.tenant_of,
            growth_window_s=cfg.quota.growth_window_s,
        )
        self._neighbours = Neighbours(cfg.quota.growth_window_s, cfg.sampling.list_every_s)
        self._tenants: dict[TenantId, Tenant] = {}
        self._first_seen: dict[TenantId, float] = {}
        self._recheck_at = 0.0
        self._epoch = -1
        self._is_stale = True
        self._rotate_due = 0.0
        self._pressure_due = 0.0
        self._pressure: dict[TenantId, float | None] = {}
        self._admitted: dict[
            TenantId, tuple[ProcessFacts, RuntimeFacts, tuple[Pid, ...], Tenant]
        ] = {}
        """Each tenant as last judged, with what it was judged from: a list alone changes nothing."""
        self._gaps: list[Gap] = []
        self._around: tuple[Surroundings | None, Surroundings | None] = (None, None)
        """The newest sample with remains, and the same with whose they were."""
        self.port_errors: dict[str, int] = {}
        """Unexpected exceptions by port: each is a defect of an adapter, contained here."""

    def adopt(self, cfg: Config) -> None:
        """Use a new configuration from the next look on."""
        self._cfg = cfg
        self._attribution.growth_window_s = cfg.quota.growth_window_s
        self._neighbours.window_s = cfg.quota.growth_window_s
        self._neighbours.list_every_s = cfg.sampling.list_every_s
        self._is_stale = True
        self._admitted = {}

    def look(self, now: float, wall: float, memory: Memory, *, journal_fault: str = "") -> Snapshot:
        """One look at the node. ``journal_fault``: why the journal cannot be written; empty: it can."""
        self._gaps = []
        if self._epoch < 0:
            self._remember_dead(memory)
        if journal_fault:
            kind = GapKind.UNAVAILABLE
            self._gaps.append(
                Gap(source="journal", subject="journal", kind=kind, detail=journal_fault)
            )
        exited = self._ask("processes", self._ports.processes.exited) or ()
        if exited or now >= self._recheck_at:
            self._attribution.recheck()
            self._recheck_at = now + RECHECK_S
        view = self._ask("probe", lambda: self._ports.probe.drain(now)) or ProbeView(
            devices=(), listings=()
        )
        kernel = self._ask("kernel_log", lambda: self._ports.kernel_log.drain(now)) or KernelView()
        self._rotate(now)
        changed = self._fold_lists(view, now)
        if self._ask("runtimes", self._ports.runtimes.changed):
            changed = True
        if changed or exited or self._is_stale:
            self._name_tenants(now)
        self._read_pressure(now)
        devices = self._devices(view)
        services = self._ask("services", lambda: self._ports.services.states(now)) or ()
        probes = self._ask("services", lambda: self._ports.services.probes(now)) or ()
        standings = self._standings(memory)
        host = self._ask("host", lambda: self._ports.host.sample(now))
        boot_id = self._ask("host", self._ports.host.boot_id) or memory.boot_id
        limits = tuple(self._ask("limiter", self._ports.limiter.readings) or ())
        unseen = self._ask("runtimes", self._ports.runtimes.gaps) or ()
        leave = self._ask("leave", lambda: self._ports.leave(now)) or Leave(is_required=True)
        shares, untold = core_shares(view, self._attribution, services, now)
        gaps = (*view.gaps, *kernel.gaps, *unseen, *untold, *self._gaps)
        return Snapshot(
            at=now,
            wall=wall,
            boot_id=boot_id,
            devices=devices,
            tenants=tuple(self._tenants.values()),
            uses=self._attribution.uses(),
            standings=standings,
            events=view.events,
            kernel=kernel.records,
            kernel_log=kernel.trust,
            kernel_forgery=kernel.forgery,
            named=self._named(view, kernel.records),
            services=tuple(services),
            probes=tuple(probes),
            host=host,
            limits=limits,
            limiter=self._ports.limiter.name,
            gaps=gaps,
            unattributed=tuple(sorted(self._attribution.unattributed.items())),
            driver=view.driver,
            surroundings=self._surroundings(view),
            can_record=not journal_fault,
            fleet_permit=not leave.is_required,
            permits=leave.permits,
            guests=self._guests(memory, now),
            commands=tuple(self._ask("commands", self._ports.commands.drain) or ()),
            growths=self._neighbours.growths(),
            shares=shares,
            versions=self._versions(services, probes, now, wall),
        )

    def _versions(
        self,
        services: Sequence[ServiceState],
        probes: Sequence[ProbeReading],
        now: float,
        wall: float,
    ) -> tuple[Recorded, ...]:
        versions = self._ports.versions
        if versions is None:
            return ()
        carried = replicas(self._cfg, self._tenants.values())
        health = wells(services, probes)
        self._ask("versions", lambda: versions.follow(carried, health, now, wall))
        return tuple(self._ask("versions", versions.known) or ())

    def _remember_dead(self, memory: Memory) -> None:
        """Whose the pids are that an earlier agent acted on: bytes may stay listed under them."""
        for case in memory.cases.values():
            for pid in case.target.pids:
                self._attribution.dead[pid.pid] = (pid, case.tenant)

    def _named(self, view: ProbeView, kernel: tuple[KernelRecord, ...]) -> dict[int, TenantId]:
        """Whose the processes are that this look's events and kernel lines name."""
        pids = {e.pid for e in view.events if e.pid is not None}
        lines = [r.line for r in kernel if r.line is not None]
        pids |= {line.pid for line in lines if not isinstance(line, SxidLine) and line.pid}
        named: dict[int, TenantId] = {}
        for pid in pids:
            owner = self._ask("processes", partial(self._attribution.owner_of, pid))
            if owner is not None:
                named[pid] = owner
        return named

    def _rotate(self, now: float) -> None:
        """Re-read some cached processes now and then: one may have been moved to another group."""
        if now < self._rotate_due:
            return
        self._rotate_due = now + self._cfg.sampling.slow_every_s
        if self._ask("processes", lambda: self._ports.processes.rotate(ROTATED)):
            self._attribution.recheck()

    def _surroundings(self, view: ProbeView) -> Surroundings | None:
        """The newest sample; bytes of the dead with whose they were."""
        self._ask("senses", lambda: self._ports.senses.watch(view.listings))
        around = self._ask("senses", self._ports.senses.surroundings)
        if around is None or not around.remains:
            return around
        if around is not self._around[0]:
            named = tuple(
                replace(left, tenant=self._attribution.holder_of(left.device, left.raw_pid))
                for left in around.remains
            )
            self._around = around, replace(around, remains=named)
        return self._around[1]

    def _fold_lists(self, view: ProbeView, now: float) -> bool:
        changed = False
        for listing in view.listings:
            changed |= self._attribution.take(listing)
        self._neighbours.take(view, self._attribution, now)
        if view.epoch != self._epoch:
            self._epoch = view.epoch
            changed = True
        if changed:
            self._attribution.keep_only(list(view.devices))
        return changed

    def _devices(self, view: ProbeView) -> tuple[Device, ...]:
        return tuple(
            replace(d, listed_at=self._attribution.listed_at.get(d.id)) for d in view.devices
        )

    def _name_tenants(self, now: float) -> None:
        """Tenants of this look, with their labels as far as their runtime has told them."""
        tenants: dict[TenantId, Tenant] = {}
        self._is_stale = False
        for tenant_id, pids in self._attribution.pids().items():
            facts = self._attribution.facts_of.get(tenant_id)
            if facts is None:
                old = self._tenants.get(tenant_id)
                if old is not None:
                    tenants[tenant_id] = replace(old, pids=pids)
                continue
            first_seen = self._first_seen.setdefault(tenant_id, now)
            tenant = self._ask(
                "runtimes",
                partial(self._admit, tenant_id, facts, first_seen, pids),
            )
            if tenant is not None:
                full = self._pressure.get(tenant_id)
                tenants[tenant_id] = replace(tenant, memory_full_avg10=full) if full else tenant
        for gone in [t for t in self._first_seen if t not in tenants]:
            del self._first_seen[gone]
            self._admitted.pop(gone, None)
        self._tenants = tenants
        carried = carriers(self._cfg, tenants.values())
        self._ask("services", lambda: self._ports.services.watch(carried))

    def _admit(
        self, tenant_id: TenantId, facts: ProcessFacts, first_seen: float, pids: tuple[Pid, ...]
    ) -> Tenant:
        told = self._ports.runtimes.facts(facts.owner, tenant_id, facts.cgroup)
        known = self._admitted.get(tenant_id)
        if known is not None and known[0] is facts and known[1] == told and known[2] == pids:
            return known[3]
        tenant = self._judged(facts, told, pids, first_seen, is_group=tenant_id.startswith("pgrp:"))
        self._admitted[tenant_id] = (facts, told, pids, tenant)
        return tenant

    def _judged(
        self,
        facts: ProcessFacts,
        told: RuntimeFacts,
        pids: tuple[Pid, ...],
        first_seen: float,
        *,
        is_group: bool,
    ) -> Tenant:
        who = Who(
            runtime="pgrp" if is_group else facts.owner.runtime,
            comm=facts.comm,
            unit=facts.owner.unit,
            uid=facts.uid,
            is_never_victim=facts.owner.is_never_victim,
        )
        return admit(
            self._cfg,
            told if told.user is not None else replace(told, user=str(facts.uid)),
            who,
            cgroup=None if is_group else facts.cgroup,
            pids=pids,
            first_seen=first_seen,
        )

    def _guests(self, memory: Memory, now: float) -> tuple[Guest, ...]:
        """Containers with a GPU, for as long as one must not be used, or not by everybody."""
        is_cordoned = any(state.cordoned_by is not None for state in memory.devices.values())
        if not (is_cordoned or self._cfg.fleet.group in self._cfg.placement):
            return ()
        guests = []
        for container in self._ask("runtimes", self._ports.runtimes.gpu_containers) or ():
            facts = self._ask("processes", partial(self._ports.processes.facts, container.pid))
            if facts is None:
                continue
            name = self._ports.tenant_of(facts)
            tenant = self._tenants.get(name) or self._ask(
                "runtimes", partial(self._admitted_afresh, name, facts, now)
            )
            if tenant is not None:
                guests.append(Guest(tenant=tenant, devices=container.devices))
        return tuple(guests)

    def _admitted_afresh(self, name: TenantId, facts: ProcessFacts, now: float) -> Tenant:
        told = self._ports.runtimes.facts(facts.owner, name, facts.cgroup)
        return self._judged(facts, told, (facts.pid,), now, is_group=name.startswith("pgrp:"))

    def _read_pressure(self, now: float) -> None:
        """PSI of tenants with a host-memory quota, on the host's slow schedule."""
        if now < self._pressure_due:
            return
        self._pressure_due = now + self._cfg.sampling.host_every_s
        for tenant in list(self._tenants.values()):
            if tenant.host.memory_bytes is None or tenant.cgroup is None:
                continue
            told = self._ask("cgroups", partial(self._ports.cgroups.pressure, tenant.cgroup)) or {}
            full = told.get("memory_full_avg10")
            self._pressure[tenant.id] = full
            self._tenants[tenant.id] = replace(tenant, memory_full_avg10=full)
        for gone in [t for t in self._pressure if t not in self._tenants]:
            del self._pressure[gone]

    def _standings(self, memory: Memory) -> tuple[Standing, ...]:
        """What the kernel says of every tenant under eviction, read now."""
        return tuple(
            self._standing(case.tenant, case.target)
            for case in memory.cases.values()
            if case.rung in IN_FLIGHT or case.rung is Rung.STUCK
        )

    def _standing(self, tenant: TenantId, target: Target) -> Standing:
        ports = self._ports
        pids = set(target.pids)
        if target.cgroup is None and target.runtime == "pgrp":
            pids.update(self._ask("processes", lambda: _group(ports, target)) or ())
        live = tuple(p for p in sorted(pids) if ports.processes.is_alive(p))
        stuck = tuple(p for p in live if ports.processes.is_stuck(p))
        if target.cgroup is None:
            return Standing(
                tenant=tenant,
                identity_holds=True,
                is_populated=bool(live),
                live_pids=live,
                stuck_pids=stuck,
            )
        cgroup = target.cgroup
        holds, populated, frozen = True, None, None
        try:
            populated = ports.cgroups.is_populated(cgroup)
            frozen = ports.cgroups.is_frozen(cgroup) if populated else False
        except Refused:
            holds = False
        except (Unavailable, Unsupported) as error:
            self._gap("cgroups", cgroup, error)
        return Standing(
            tenant=tenant,
            identity_holds=holds,
            is_populated=populated,
            is_frozen=frozen,
            live_pids=live,
            stuck_pids=stuck,
        )

    def _gap(self, source: str, subject: CgroupId | DeviceId | str, error: Exception) -> None:
        kind = GapKind.UNSUPPORTED if isinstance(error, Unsupported) else GapKind.UNAVAILABLE
        name = subject.path if isinstance(subject, CgroupId) else str(subject)
        self._gaps.append(Gap(source=source, subject=name, kind=kind, detail=str(error)[:200]))

    def _ask(self, source: str, call: Callable[[], Value]) -> Value | None:
        """Call a port. Whatever escapes becomes a gap; what should not have escaped is counted."""
        try:
            return call()
        except (Unavailable, Unsupported, Refused) as error:
            self._gap(source, source, error)
        except Exception as error:  # noqa: BLE001  the port boundary of HOUSE_STYLE rule 11
            self.port_errors[source] = self.port_errors.get(source, 0) + 1
            self._gaps.append(
                Gap(
                    source=source,
                    subject=source,
                    kind=GapKind.UNAVAILABLE,
                    detail=f"{type(error).__name__}: {error}"[:200],
                )
            )
        return None


def _group(ports: Ports, target: Target) -> tuple[Pid, ...]:
    """Live members of a bare process group, by its tenant's name ``pgrp:<id>@<start>``. The number of a
    group that is over may be another's by now."""
    pgrp = target.tenant.partition(":")[2].partition("@")[0]
    members = ports.processes.group(int(pgrp)) if pgrp.isdecimal() else ()
    found = [(pid, ports.processes.facts(pid.pid)) for pid in members]
    return tuple(
        pid for pid, facts in found if facts is not None and ports.tenant_of(facts) == target.tenant
    )


def sees(snapshot: Snapshot) -> bool:
    """Whether anything of the GPUs can be seen."""
    return any(d.sight is Sight.OK for d in snapshot.devices)
