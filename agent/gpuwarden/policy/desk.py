"""What one pass has decided so far. Lives for one ``decide`` call; nobody else sees it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gpuwarden.config import Config
from gpuwarden.model.action import Action, Kind, Target, Withheld
from gpuwarden.model.decision import IncidentNote, NoteKind
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId
from gpuwarden.model.memory import (
    IN_FLIGHT,
    Case,
    Debt,
    DeviceMemory,
    Memory,
    Tombstone,
)
from gpuwarden.model.repair import Repair
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import guard
from gpuwarden.policy.scene import Scene

UNDO = {
    Kind.FREEZE: Kind.THAW,
    Kind.THROTTLE: Kind.UNTHROTTLE,
    Kind.RESTART_OFF: Kind.RESTART_BACK,
    Kind.SET_LIMIT: Kind.CLEAR_LIMIT,
    Kind.CORDON: Kind.UNCORDON,
}


@dataclass(slots=True)
class Desk:
    """Collects the pass's actions, notes and new memory."""

    cfg: Config
    scene: Scene
    memory: Memory
    serial: int = 0
    cases: dict[TenantId, Case] = field(default_factory=dict)
    incidents: dict[str, IncidentId] = field(default_factory=dict)
    debts: list[Debt] = field(default_factory=list)
    devices: dict[DeviceId, DeviceMemory] = field(default_factory=dict)
    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    repairs: dict[str, Repair] = field(default_factory=dict)
    applied: dict[str, str] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    notes: list[IncidentNote] = field(default_factory=list)
    touched: set[IncidentId] = field(default_factory=set)
    wakes: list[float] = field(default_factory=list)

    @staticmethod
    def over(cfg: Config, scene: Scene, memory: Memory) -> "Desk":
        """A desk that starts from what is remembered."""
        return Desk(
            cfg=cfg,
            scene=scene,
            memory=memory,
            serial=memory.serial,
            cases=dict(memory.cases),
            incidents=dict(memory.open_incidents),
            debts=list(memory.debts),
            devices=dict(memory.devices),
            tombstones=dict(memory.tombstones),
            repairs=dict(memory.repairs),
            applied=dict(memory.applied),
        )

    def incident(self, subject: str, finding: Finding | None = None) -> IncidentId:
        """The open incident of a subject; opened (and noted) when there is none."""
        known = self.incidents.get(subject)
        if known is not None:
            return known
        self.serial += 1
        incident = IncidentId(f"inc-{int(self.scene.snap.wall):x}-{self.serial}")
        self.incidents[subject] = incident
        if finding is not None:
            self.note(incident, NoteKind.OPENED, finding.summary, finding)
        return incident

    def note(
        self,
        incident: IncidentId,
        kind: NoteKind,
        text: str,
        finding: Finding | None = None,
    ) -> None:
        """Add a line to an incident."""
        self.touched.add(incident)
        self.notes.append(
            IncidentNote(
                incident=incident,
                kind=kind,
                text=text,
                rule=finding.rule if finding else "",
                tenant=finding.tenant if finding else None,
                device=finding.device if finding else None,
                used_bytes=finding.used_bytes if finding else None,
                limit_bytes=finding.limit_bytes if finding else None,
                evidence=finding.evidence if finding else (),
            )
        )

    def busy(self) -> list[tuple[DeviceId, TenantId]]:
        """Evictions in flight, this pass's included."""
        return [
            (device, case.tenant)
            for case in self.cases.values()
            if case.rung in IN_FLIGHT
            for device in (case.devices or (case.device,))
        ]

    def busy_with(self, device: DeviceId, but: TenantId) -> bool:
        """Whether somebody else's eviction is in flight on a device."""
        return any(
            case.rung in IN_FLIGHT
            and case.tenant != but
            and device in (case.devices or (case.device,))
            for case in self.cases.values()
        )

    def order(
        self,
        kind: Kind,
        incident: IncidentId,
        why: str,
        *,
        target: Target | None = None,
        device: DeviceId | None = None,
        params: Iterable[tuple[str, str]] = (),
        ttl_s: float | None = None,
        owes: tuple[tuple[str, str], ...] = (),
    ) -> Action:
        """Decide an action; a debt is written down for whatever it changes of somebody else's.
        ``owes``: what is known already of how it was."""
        self.serial += 1
        known = self.scene.devices.get(device) if device is not None else None
        if known is not None and kind in (Kind.CORDON, Kind.UNCORDON):
            params = (*params, ("index", str(known.index)), ("pci", known.pci or ""))
        action = Action(
            id=f"{incident}/{self.serial}",
            kind=kind,
            incident=incident,
            why=why,
            target=target,
            device=device,
            undo=UNDO.get(kind),
            ttl_s=ttl_s,
            params=tuple(params),
        )
        self.actions.append(action)
        self._owe(UNDO.get(kind), action, owes)
        return action

    def _owe(self, owed: Kind | None, action: Action, old: tuple[tuple[str, str], ...]) -> None:
        target = action.target
        if target is None or owed not in (Kind.THAW, Kind.UNTHROTTLE, Kind.RESTART_BACK):
            return
        debt = Debt(
            tenant=target.tenant,
            kind=owed,
            target=target,
            incident=action.incident,
            # Given back by the worker that took it: never before it has been taken.
            device=action.device if owed is Kind.RESTART_BACK else None,
            old=old,
            since_wall=self.scene.snap.wall,
            ordered=action.id,
        )
        for index, known in enumerate(self.debts):
            if known.tenant == target.tenant and known.kind is owed:
                is_same = owed is Kind.RESTART_BACK or known.target.cgroup == target.cgroup
                self.debts[index] = replace(debt, old=known.old or old) if is_same else debt
                return
        self.debts.append(debt)

    def withhold(self, case: Case, kind: Kind, refusal: guard.Refusal) -> Case:
        """Report an action not taken, once a case and budget."""
        mark = f"{kind}/{refusal.budget}"
        if mark in case.withheld:
            return case
        self.withheld.append(
            Withheld(
                kind=kind,
                incident=case.incident,
                tenant=case.tenant,
                device=case.device,
                budget=refusal.budget,
                detail=refusal.detail,
            )
        )
        self.touched.add(case.incident)
        return replace(case, withheld=(*case.withheld, mark)[-32:])

    def device(self, device: DeviceId) -> DeviceMemory:
        """What is remembered of a device."""
        return self.devices.get(device) or DeviceMemory()

    def remembered(self) -> Memory:
        """The memory this pass ends with."""
        return replace(
            self.memory,
            serial=self.serial,
            cases=self.cases,
            open_incidents=self.incidents,
            debts=tuple(self.debts),
            devices=self.devices,
            tombstones=self.tombstones,
            repairs=self.repairs,
            applied=self.applied,
        )


def target_of(tenant: Tenant) -> Target:
    """Whom an action on a tenant is for."""
    return Target(
        tenant=tenant.id,
        runtime=tenant.runtime,
        cgroup=tenant.cgroup,
        pids=tenant.pids,
        name=tenant.name,
    )
