"""Who has to go, in which order (DESIGN 4.5). A ranking, so that a failed one falls to the next."""

from gpuwarden.config import Config
from gpuwarden.model.device import Device
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.tenant import Tenant, TenantClass, Use
from gpuwarden.policy.scene import NOISE_BYTES, Scene


def is_eligible(tenant: Tenant, below: TenantClass) -> bool:
    """Whether a tenant may be a victim at all, for the sake of class ``below``."""
    return (
        tenant.cls < below
        and tenant.cls is not TenantClass.PROTECTED
        and not tenant.is_never_victim
        and tenant.is_described
        and tenant.cannot_act is None
    )


def rank(scene: Scene, device: DeviceId, below: TenantClass) -> list[Use]:
    """Eligible uses of a device, first victim first."""
    candidates = []
    for use in scene.uses_on(device):
        tenant = scene.tenants.get(use.tenant)
        if tenant is None or not is_eligible(tenant, below) or use.used_bytes <= 0:
            continue
        candidates.append((precedence(tenant, use), tenant.id, use))
    return [use for *_, use in sorted(candidates, key=lambda c: c[:2])]


def precedence(tenant: Tenant, use: Use) -> tuple[float, ...]:
    """Sorts the first victim first: lower class, over quota, relative overrun, growth, size (larger
    first: fewer victims), youngest."""
    over = relative_overrun(tenant, use)
    return (
        float(tenant.cls),
        0.0 if over > 1 else 1.0,
        -max(over, 1.0),
        -float(grown_bytes(use)),
        -float(use.used_bytes),
        -tenant.first_seen,
    )


def grown_bytes(use: Use) -> int:
    """Growth over the window; less than a list is taken for (64 MiB) is none."""
    return use.grown_bytes if use.grown_bytes >= NOISE_BYTES else 0


def relative_overrun(tenant: Tenant, use: Use) -> float:
    """Use over quota as a ratio; 0 where no quota is set."""
    if not tenant.hard_bytes:
        return 0.0
    return use.used_bytes / tenant.hard_bytes


def target_bytes(cfg: Config, device: Device, overrun_bytes: int) -> int:
    """Bytes to take back: the overrun and 5 % of the device, so that the next poll does not
    trip.
    """
    return overrun_bytes + int(cfg.quota.min_reclaim_ratio * device.total_bytes)


def smallest_set(ranked: list[Use], needed_bytes: int, scene: Scene) -> list[Use]:
    """The fewest of a ranking that free enough. Among those that stand level with the first (same
    class, within quota, as little or as much grown) the smallest that suffices alone is preferred."""
    if not ranked:
        return []
    head = _standing(scene, ranked[0])
    enough = [u for u in ranked if _standing(scene, u) == head and u.used_bytes >= needed_bytes]
    if enough and head[1] == 1:  # nobody is at fault: take the smallest that helps
        return [min(enough, key=lambda u: (u.used_bytes, -_first_seen(scene, u), u.tenant))]
    chosen: list[Use] = []
    freed = 0
    for use in ranked:
        if freed >= needed_bytes:
            break
        chosen.append(use)
        freed += use.used_bytes
    return chosen


def _standing(scene: Scene, use: Use) -> tuple[TenantClass, int, int]:
    tenant = scene.tenants[use.tenant]
    is_within = 0 if relative_overrun(tenant, use) > 1 else 1
    return tenant.cls, is_within, grown_bytes(use)


def _first_seen(scene: Scene, use: Use) -> float:
    return scene.tenants[use.tenant].first_seen
