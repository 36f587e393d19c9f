"""Tenants on the metrics page: what each holds, may hold, and where it stands on the ladder."""

from collections.abc import Mapping, Sequence

from gpuwarden.adapters.exposition import PREFIX, Page, Remembered, distinct, labels
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.memory import Rung
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Tenant

TENANTS_MAX = 256
"""Series of their own for the largest; the others are summed as tenant="other"."""


def add_tenants(
    page: Page, view: View, places: Mapping[DeviceId, str], remembered: Remembered
) -> None:
    """Per tenant before per process: info once, bytes a device, quota, overrun, rung.

    ``places`` holds the labels of each device that is seen: what tenants hold on the others is not known.
    """
    shown = _largest(view)
    said = {}
    info = page.family("tenant_info", "gauge", "Identity of a tenant.")
    rank = page.family("tenant_class", "gauge", "Rank: 0 best-effort to 4 protected.")
    for tenant in shown:
        known = _known(tenant, remembered)
        said[tenant.id] = known[1]
        info.lines.append(known[2])
        rank.lines.append(known[3])
    _add_allowances(page, shown, said)
    _add_uses(page, view, said, places)
    _add_cases(page, view, said)
    limits = page.family(
        "tenant_limiter_hard_bytes", "gauge", "What the preventive limiter has set."
    )
    for reading in view.snapshot.limits:
        if reading.tenant in said and reading.hard_bytes is not None:
            where = labels((("uuid", reading.device), ("backend", reading.backend)))
            limits.add(f"{said[reading.tenant]},{where}", reading.hard_bytes)


def _largest(view: View) -> list[Tenant]:
    tenants = list(view.snapshot.tenants)
    if len(tenants) <= TENANTS_MAX:
        return tenants
    held: dict[TenantId, int] = {}
    for use in view.snapshot.uses:
        held[use.tenant] = held.get(use.tenant, 0) + use.used_bytes
    return sorted(tenants, key=lambda tenant: -held.get(tenant.id, 0))[:TENANTS_MAX]


def _known(tenant: Tenant, remembered: Remembered) -> tuple[str, ...]:
    """Its labels and the samples that change only with its identity; the first piece tells which."""
    identity = (
        f"{tenant.name}\0{tenant.runtime}\0{tenant.cls}\0{tenant.service}\0{tenant.owner_key}"
    )
    known = remembered.get(tenant.id, "tenant")
    if known is None or known[0] != identity:
        mine = labels((("tenant", distinct(tenant.id)),))
        info = labels(
            (
                ("name", tenant.name),
                ("runtime", tenant.runtime),
                ("class", tenant.cls.label),
                ("service", tenant.service or ""),
                ("owner", tenant.owner_key or ""),
            )
        )
        known = (
            identity,
            mine,
            f"{PREFIX}tenant_info{{{mine},{info}}} 1\n",
            f"{PREFIX}tenant_class{{{mine}}} {int(tenant.cls)}\n",
        )
        remembered.keep(tenant.id, "tenant", known)
    return known


def _add_allowances(page: Page, tenants: Sequence[Tenant], said: Mapping[TenantId, str]) -> None:
    processes = page.family("tenant_processes", "gauge", "Processes that hold device memory.")
    quota = page.family(
        "tenant_gpu_quota_bytes", "gauge", "Allowance of device memory on each device."
    )
    for tenant in tenants:
        mine = said[tenant.id]
        processes.lines.append(f"{processes.name}{{{mine}}} {len(tenant.pids)}\n")
        if tenant.soft_bytes is not None:
            quota.lines.append(f'{quota.name}{{{mine},bound="soft"}} {tenant.soft_bytes}\n')
        if tenant.hard_bytes is not None:
            quota.lines.append(f'{quota.name}{{{mine},bound="hard"}} {tenant.hard_bytes}\n')


def _add_uses(
    page: Page, view: View, said: Mapping[TenantId, str], places: Mapping[DeviceId, str]
) -> None:
    """The one loop that grows with tenants times devices: it appends its lines itself."""
    by_id = {tenant.id: tenant for tenant in view.snapshot.tenants}
    memory = page.family("tenant_gpu_memory_bytes", "gauge", "Device memory a tenant holds.")
    over = page.family(
        "tenant_over_quota", "gauge", "Whether a tenant holds more than its allowance."
    )
    add_memory, add_over = memory.lines.append, over.lines.append
    other: dict[str, int] = {}
    for use in view.snapshot.uses:
        place = places.get(use.device)
        if place is None:
            continue
        mine, used = said.get(use.tenant), use.used_bytes
        if mine is None:
            other[place] = other.get(place, 0) + used
            continue
        where = f"{{{mine},{place}"
        add_memory(f"{memory.name}{where}}} {used}\n")
        tenant = by_id[use.tenant]
        if tenant.soft_bytes is not None:
            is_over = "1" if used > tenant.soft_bytes else "0"
            add_over(f'{over.name}{where},bound="soft"}} {is_over}\n')
        if tenant.hard_bytes is not None:
            is_over = "1" if used > tenant.hard_bytes else "0"
            add_over(f'{over.name}{where},bound="hard"}} {is_over}\n')
    for place, size in other.items():
        memory.add(f'tenant="other",{place}', size)


def _add_cases(page: Page, view: View, said: dict[TenantId, str]) -> None:
    frozen = page.family("tenant_frozen", "gauge", "Whether a tenant is held by the agent.")
    rungs = page.family("tenant_rung", "gauge", "Step of the ladder, 1 for the one.")
    for case in view.cases:
        mine = said.get(case.tenant) or labels((("tenant", distinct(case.tenant)),))
        frozen.add(mine, case.frozen_since is not None)
        for rung in Rung:
            rungs.add(f'{mine},rung="{rung.value}"', rung is case.rung)
