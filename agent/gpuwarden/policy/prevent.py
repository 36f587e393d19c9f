"""The preventive limiter, and the host limits, are told what each tenant is allowed."""

from gpuwarden.model.action import Kind
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.memory import Debt, host_key, limit_key
from gpuwarden.model.tenant import Tenant, TenantClass, Use
from gpuwarden.policy import guard
from gpuwarden.policy.desk import Desk, target_of

RETRY_S = 30.0
"""A limit that could not be set is tried again after this long."""
BELIEVE_S = 15.0
"""A limit set again and still without effect after this long is not believed in: people are told, and
the reactive engine goes on alone (enforcement research, scenario 29)."""


def prevent(desk: Desk, findings: list[Finding]) -> None:
    """Order what differs from what was ordered last; once a change. A limit without effect is set
    again once, then reported."""
    wanted: dict[str, str] = {}
    if guard.is_enforcing(desk.cfg, "quota") and desk.scene.snap.can_record:
        for tenant in desk.scene.snap.tenants:
            if _may_limit(tenant):
                _limit_gpu(desk, tenant, wanted)
                _limit_host(desk, tenant, wanted)
        for finding in findings:
            if finding.rule == "limits":
                _believe(desk, finding, wanted)
    known = {t.id for t in desk.scene.snap.tenants}
    for key, value in desk.applied.items():
        if key not in wanted and key.split(" ")[1] in known:
            wanted[key] = value
    desk.applied = wanted


def preventive(tenant: Tenant) -> IncidentId:
    """Preventive settings belong to no incident; they carry the tenant's name instead."""
    return IncidentId(f"limits/{tenant.id}")


def _may_limit(tenant: Tenant) -> bool:
    """A limit makes an allocation fail: what may not be harmed is not limited."""
    return (
        tenant.cls is not TenantClass.PROTECTED
        and tenant.is_described
        and not tenant.is_never_victim
        and tenant.cgroup is not None
    )


def _is_due(desk: Desk, key: str, value: str) -> bool:
    """Whether a setting has to be ordered: never ordered, changed, or failed a while ago."""
    last = desk.applied.get(key)
    if last is None or not last.startswith("failed "):
        return last != value
    return desk.scene.snap.at >= float(last.split(" ")[1]) + RETRY_S


def _limit_host(desk: Desk, tenant: Tenant, wanted: dict[str, str]) -> None:
    host = tenant.host
    if host.memory_bytes is None and host.cpu_cores is None:
        return
    params = tuple(
        (name, str(value))
        for name, value in (("memory_bytes", host.memory_bytes), ("cpu_cores", host.cpu_cores))
        if value is not None
    )
    key, value = host_key(tenant.id), f"{host.memory_bytes}/{host.cpu_cores}"
    if not _is_due(desk, key, value):
        return
    wanted[key] = value
    desk.order(
        Kind.SET_HOST_LIMITS,
        preventive(tenant),
        "host limits of its policy",
        target=target_of(tenant),
        params=params,
    )


def _limit_gpu(desk: Desk, tenant: Tenant, wanted: dict[str, str]) -> None:
    if tenant.hard_bytes is None or desk.scene.snap.limiter == "none":
        return
    for use in desk.scene.uses_of(tenant.id):
        device = desk.scene.devices.get(use.device)
        if device is None or device.parent is not None:
            continue  # the driver refuses limits on MIG slices
        key, value = limit_key(tenant.id, use.device), f"{tenant.soft_bytes}/{tenant.hard_bytes}"
        if _is_due(desk, key, value):
            wanted[key] = value
            _set(desk, tenant, use, "quota of its policy")


def _set(desk: Desk, tenant: Tenant, use: Use, why: str) -> None:
    hard = tenant.hard_bytes or 0
    desk.order(
        Kind.SET_LIMIT,
        preventive(tenant),
        why,
        target=target_of(tenant),
        device=use.device,
        params=(
            ("soft_bytes", str(hard if tenant.soft_bytes is None else tenant.soft_bytes)),
            ("hard_bytes", str(hard)),
        ),
    )
    if not _owes(desk, tenant, use.device):
        desk.debts.append(
            Debt(
                tenant=tenant.id,
                kind=Kind.CLEAR_LIMIT,
                target=target_of(tenant),
                incident=preventive(tenant),
                device=use.device,
                since_wall=desk.scene.snap.wall,
            )
        )


def _owes(desk: Desk, tenant: Tenant, device: DeviceId) -> bool:
    return any(
        d.kind is Kind.CLEAR_LIMIT and d.tenant == tenant.id and d.device == device
        for d in desk.debts
    )


def _believe(desk: Desk, finding: Finding, wanted: dict[str, str]) -> None:
    """A limit that was set and is not there: once more, and then it is for people."""
    tenant = desk.scene.tenants.get(finding.tenant) if finding.tenant is not None else None
    if tenant is None or finding.device is None or not _may_limit(tenant):
        return
    key = limit_key(tenant.id, finding.device)
    if key in wanted or key not in desk.applied:
        return
    mark = f"again {tenant.id} {finding.device}"
    last = desk.applied.get(mark)
    now = desk.scene.snap.at
    if last is None:
        uses = [u for u in desk.scene.uses_of(tenant.id) if u.device == finding.device]
        if uses:
            wanted[mark] = f"{now:.3f}"
            _set(desk, tenant, uses[0], "it had no effect")
    elif last != "paged" and now - float(last) >= BELIEVE_S:
        wanted[mark] = "paged"
        text = f"{finding.summary}; set again without effect: only the reactive engine guards it"
        desk.order(
            Kind.PAGE,
            preventive(tenant),
            text,
            device=finding.device,
            params=(("severity", "warning"), ("summary", text)),
        )
