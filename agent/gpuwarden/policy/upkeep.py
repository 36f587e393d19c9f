"""What is owed is given back, and held owners are stopped."""

from dataclasses import replace

from gpuwarden.model.action import Action, Kind
from gpuwarden.model.finding import Finding
from gpuwarden.model.memory import IN_FLIGHT, Case, Debt, Memory, Rung
from gpuwarden.policy import guard, ladder, tombstone
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.evict import holdings, new_case

RETRY_S = 5.0
"""An undo that failed is tried again after this long, for as long as it takes."""
THAW_RETRY_S = 0.5
"""The same of a thaw: what is frozen can neither work nor obey."""


def settle(desk: Desk) -> None:
    """Order the undo of every debt that is due. Undo is never withheld."""
    kept = []
    for debt in desk.debts:
        ordered = _ordered(desk.actions, debt)
        if ordered is not None:
            # The ladder gives it back itself in this pass (thaw after TERM): params are the debt's.
            kept.append(_again(desk, debt, ordered))
        elif _is_due(desk, debt):
            ordered = desk.order(
                debt.kind,
                debt.incident,
                "giving back",
                target=debt.target,
                device=debt.device,
                params=debt.old,
            )
            case = desk.cases.get(debt.tenant)
            if case is not None and debt.kind is Kind.THAW:
                desk.cases[debt.tenant] = replace(case, frozen_since=None)
            kept.append(_again(desk, debt, ordered))
        else:
            kept.append(debt)
    desk.debts = kept


def _ordered(actions: list[Action], debt: Debt) -> Action | None:
    mine = [a for a in actions if a.target is not None and a.target.tenant == debt.tenant]
    return next((a for a in mine if a.kind is debt.kind), None)


def _again(desk: Desk, debt: Debt, undo: Action) -> Debt:
    wait = THAW_RETRY_S if debt.kind is Kind.THAW else RETRY_S
    desk.wakes.append(desk.scene.snap.at + wait)
    return replace(debt, due_wall=desk.scene.snap.wall + wait, ordered=undo.id)


def _is_due(desk: Desk, debt: Debt) -> bool:
    case = desk.cases.get(debt.tenant)
    if debt.due_wall is not None and desk.scene.snap.wall < debt.due_wall:
        return False
    if debt.kind is Kind.THAW:
        if case is None or case.frozen_since is None:
            return True
        due = case.frozen_since + desk.cfg.ladder.hold_ttl_s
        desk.wakes.append(due)
        return desk.scene.snap.at >= due
    if debt.kind is Kind.CLEAR_LIMIT:
        return debt.tenant not in desk.scene.tenants
    if debt.kind is Kind.UNTHROTTLE:
        return case is None or not case.is_throttled
    return case is None or (debt.due_wall is not None and case.rung not in IN_FLIGHT)


def parting(memory: Memory) -> tuple[Memory, tuple[Action, ...]]:
    """For an agent that ends: the thaw of all it holds, for nobody is there when the time is over."""
    held = [debt for debt in memory.debts if debt.kind is Kind.THAW]
    actions = tuple(
        Action(
            id=f"{debt.incident}/{number}",
            kind=Kind.THAW,
            incident=debt.incident,
            why="the agent ends",
            target=debt.target,
            params=debt.old,
        )
        for number, debt in enumerate(held, memory.serial + 1)
    )
    owners = {debt.tenant for debt in held}
    cases = {
        tenant: replace(case, frozen_since=None) if tenant in owners else case
        for tenant, case in memory.cases.items()
    }
    return replace(memory, serial=memory.serial + len(held), cases=cases), actions


def hold_owners(desk: Desk, findings: list[Finding]) -> None:
    """Stop a held owner's new tenant in its runtime, and page once."""
    desk.tombstones = tombstone.weather(desk.cfg, desk.tombstones, desk.scene.snap.wall)
    for finding in findings:
        if finding.rule != "tombstone" or finding.tenant is None:
            continue
        tenant = desk.scene.tenants[finding.tenant]
        if not guard.may_evict_class(desk.cfg, tenant.cls, Rung.STOPPED):
            continue
        uses = desk.scene.uses_of(tenant.id)
        case = desk.cases.get(tenant.id)
        if not uses or (case is not None and case.rung in (*IN_FLIGHT, Rung.STUCK)):
            continue
        if case is None and tenant.id in desk.memory.cases:
            continue  # its case has just been closed: the next look judges it anew
        if case is None:
            claim = replace(finding, device=uses[0].device, used_bytes=uses[0].used_bytes)
            case = new_case(desk, tenant, claim, "tombstone", is_emergency=False)
        stopped = replace(
            ladder.enter(case, Rung.STOPPED, desk.scene.snap.at),
            reason="tombstone",
            **holdings(desk, uses[0].device, uses),
            began_at=desk.scene.snap.at,
        )
        refusal = guard.permit(desk.cfg, desk.memory, desk.scene, stopped, Kind.STOP, desk.busy())
        if refusal is not None:
            desk.cases[tenant.id] = desk.withhold(case, Kind.STOP, refusal)
            continue
        desk.cases[tenant.id] = stopped
        desk.order(
            Kind.STOP,
            case.incident,
            finding.summary,
            target=case.target,
            device=case.device,
            params=(("grace_s", f"{case.grace_s:.3f}"),),
        )
        _page_once(desk, stopped, finding)


def _page_once(desk: Desk, case: Case, finding: Finding) -> None:
    tenant = desk.scene.tenants[case.tenant]
    stone = desk.tombstones.get(tenant.owner_key or "")
    if stone is None or stone.is_paged:
        return
    desk.tombstones[stone.owner_key] = replace(stone, is_paged=True)
    desk.order(
        Kind.PAGE,
        case.incident,
        finding.summary,
        params=(("severity", "error"), ("summary", finding.summary)),
    )
