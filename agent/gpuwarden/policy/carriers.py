"""Which tenant carries a service whose objective is measured. Labels claim it; anybody may write one."""

from collections.abc import Iterable

from gpuwarden.config import Config
from gpuwarden.model.ids import TenantId
from gpuwarden.model.tenant import Tenant


def carriers(cfg: Config, tenants: Iterable[Tenant]) -> dict[TenantId, str]:
    """At most one tenant a service: of the highest class, then the one seen first.

    A class that labels alone can reach carries nothing: whoever claims a protected service's name would
    take its objective away from it, or have its own device judged by a stranger's latency.
    """
    best: dict[str, Tenant] = {}
    for tenant in tenants:
        if tenant.service is None or tenant.cls <= cfg.default.class_max:
            continue
        other = best.get(tenant.service)
        if other is None or _precedence(tenant) < _precedence(other):
            best[tenant.service] = tenant
    return {tenant.id: service for service, tenant in best.items()}


def replicas(cfg: Config, tenants: Iterable[Tenant]) -> dict[TenantId, str]:
    """Every tenant that carries a service, several of one too; of the same classes as ``carriers``."""
    return {
        tenant.id: tenant.service
        for tenant in tenants
        if tenant.service is not None and tenant.cls > cfg.default.class_max
    }


def _precedence(tenant: Tenant) -> tuple[int, float, TenantId]:
    return -tenant.cls, tenant.first_seen, tenant.id
