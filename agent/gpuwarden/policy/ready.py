"""Whether an instance may be sent work: everything that speaks against it, for a load balancer or a person."""

from gpuwarden.model.action import Kind
from gpuwarden.model.ids import TenantId
from gpuwarden.model.memory import IN_FLIGHT, Memory
from gpuwarden.model.service import Care, CarePhase, Fitness, ProbeReading
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import ailment

STALE_S = 10.0
"""A look, or a device's memory, older than this says nothing any more; a tick comes at least once a second."""
MISSED_ROUNDS = 3
"""A probe that has not been told for so many of its rounds says nothing any more."""
ID_MIN_CHARS = 12
"""So much of a runtime's id names a tenant, as Docker shows it."""
REASONS_MAX = 16


def judge(snap: Snapshot, memory: Memory, name: str, now: float) -> Fitness | None:
    """The instance of that name: a service's, a tenant's name, or (the beginning of) its id. ``None``:
    nobody here is called so. Fit is who has nothing against it; what cannot be seen is against it."""
    reading = next((r for r in snap.probes if r.service == name), None)
    state = next((s for s in snap.services if s.service == name), None)
    carriers = {r.tenant for r in (reading, state) if r is not None and r.tenant is not None}
    if reading is None and state is None:
        found = _named(snap.tenants, name)
        if not found:
            return None
        if len(found) > 1:
            some = ", ".join(t.id for t in found[:4])
            return _judged(name, [f"{len(found)} tenants are called so: {some}"])
        tenant: Tenant | None = found[0]
        reading = next((r for r in snap.probes if r.tenant == found[0].id), None)
    else:
        tenant = next((t for t in snap.tenants if t.id in carriers), None)
    said = []
    if now - snap.at > STALE_S:
        said.append(f"nobody has looked for {now - snap.at:.0f} s")
    care = memory.cares.get(reading.service) if reading is not None else None
    if reading is not None:
        said += _of_probe(reading, care, now)
    elif tenant is None:
        said.append("nobody is seen to carry it")
    said += _of_tenant(memory, tenant)
    said += _of_devices(snap, memory, tenant, care, now)
    service = reading.service if reading is not None else name if state is not None else ""
    return _judged(name, said, tenant, service)


def _judged(name: str, said: list[str], tenant: Tenant | None = None, service: str = "") -> Fitness:
    return Fitness(
        name=name,
        is_fit=not said,
        service=service,
        tenant=None if tenant is None else tenant.id,
        reasons=tuple(said[:REASONS_MAX]),
    )


def _named(tenants: tuple[Tenant, ...], name: str) -> list[Tenant]:
    """By id, by the beginning of the runtime's own id, by service, by name: the first kind that fits any."""

    def begins(tenant: TenantId) -> bool:
        return len(name) >= ID_MIN_CHARS and tenant.partition(":")[2].startswith(name)

    for fits in (
        [t for t in tenants if t.id == name],
        [t for t in tenants if begins(t.id)],
        [t for t in tenants if t.service == name],
        [t for t in tenants if t.name == name],
    ):
        if fits:
            return fits
    return []


def _of_probe(reading: ProbeReading, care: Care | None, now: float) -> list[str]:
    if reading.is_failing:
        return [f"its probe fails: {reading.detail or 'no answer'}"]
    if care is not None and care.phase in (CarePhase.RESTARTING, CarePhase.VERIFYING):
        return ["it is being restarted"]
    if reading.is_well is None or reading.at is None:
        return [f"its probe says nothing yet{': ' if reading.detail else ''}{reading.detail}"]
    age_s = now - reading.at
    if age_s > MISSED_ROUNDS * reading.every_s + STALE_S:
        return [f"its probe has said nothing for {age_s:.0f} s"]
    return []


def _of_tenant(memory: Memory, tenant: Tenant | None) -> list[str]:
    """Whether it is held back, or on its way out."""
    if tenant is None:
        return []
    said = []
    case = memory.cases.get(tenant.id)
    owed = {debt.kind for debt in memory.debts if debt.tenant == tenant.id}
    if case is not None and case.rung in IN_FLIGHT:
        said.append(f"it is being evicted ({case.rung})")
    if Kind.THAW in owed or (case is not None and case.frozen_since is not None):
        said.append("it is frozen")
    if tenant.is_paused:
        said.append("it is paused")
    if Kind.UNTHROTTLE in owed or (case is not None and case.is_throttled):
        said.append("it is throttled")
    return said


def _of_devices(
    snap: Snapshot, memory: Memory, tenant: Tenant | None, care: Care | None, now: float
) -> list[str]:
    """Of every device it holds bytes on; of those it was last seen on where it holds none now."""
    held = sorted({u.device for u in snap.uses if tenant is not None and u.tenant == tenant.id})
    devices = held or (list(care.devices) if care is not None else [])
    known = {d.id: d for d in snap.devices}
    said = list(ailment.of_node(memory))
    for device_id in devices:
        device = known.get(device_id)
        ill = ailment.of_device(memory, device_id, device)
        said += ill
        if ill or device is None:
            continue
        if device.at is None or now - device.at > STALE_S:
            said.append(f"GPU {device.index} has not been read lately")
    return said
