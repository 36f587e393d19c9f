"""Who of the tenants beside a service may be why it is red: ranked by evidence, for people. It convicts nobody.

In this order: over his quota (and by how much), grown there by himself of late, named by an Xid, busy on the cores. What
is not known stands as not known, and ranks as nothing.
"""

from dataclasses import dataclass

from gpuwarden.config import Config
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import ServiceState
from gpuwarden.model.tenant import Tenant, Use
from gpuwarden.policy.scene import Scene
from gpuwarden.policy.words import size

TOLD_MOST = 5
"""So many of them are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One tenant on one device of the service."""

    tenant: TenantId
    device: DeviceId
    quota_ratio: float | None
    """Use over hard quota; None: it has no quota, or the driver withholds a size."""
    grown_bytes: int | None
    """By itself, within the window; None: that cannot be told."""
    xids: tuple[str, ...]
    """Codes of faults on the device that name it."""
    sm_ratio: float | None
    """Of the device's cores; None: the driver does not tell."""


def rank(cfg: Config, memory: Memory, scene: Scene, state: ServiceState) -> list[Suspect]:
    """Everybody else on the devices of a service, the most suspicious first. Empty: it is alone, or nobody carries
    it."""
    if state.tenant is None:
        return []
    found = [
        _suspect(cfg, memory, scene, use)
        for mine in scene.uses_of(state.tenant)
        for use in scene.uses_on(mine.device)
        if use.tenant != state.tenant
    ]
    return sorted(found, key=_weight)


def told(
    cfg: Config, memory: Memory, scene: Scene, state: ServiceState
) -> tuple[tuple[str, str], ...]:
    """The ranking as evidence."""
    ranked = rank(cfg, memory, scene, state)
    pairs = [
        (f"suspect {number} of {state.service}", _words(scene, suspect))
        for number, suspect in enumerate(ranked[:TOLD_MOST], start=1)
    ]
    if len(ranked) > TOLD_MOST:
        pairs.append((f"more suspects of {state.service}", str(len(ranked) - TOLD_MOST)))
    return tuple(pairs)


def _suspect(cfg: Config, memory: Memory, scene: Scene, use: Use) -> Suspect:
    tenant = scene.tenants.get(use.tenant)
    share = next(
        (s for s in scene.snap.shares if (s.tenant, s.device) == (use.tenant, use.device)), None
    )
    return Suspect(
        tenant=use.tenant,
        device=use.device,
        quota_ratio=_ratio(tenant, use),
        grown_bytes=_grown(scene, use),
        xids=_xids(memory, use),
        sm_ratio=None if share is None else share.sm_ratio,
    )


def _ratio(tenant: Tenant | None, use: Use) -> float | None:
    if tenant is None or not tenant.hard_bytes:
        return None
    ratio = use.used_bytes / tenant.hard_bytes
    return ratio if ratio > 1.0 or not use.unknown_rows else None


def _grown(scene: Scene, use: Use) -> int | None:
    if use.unknown_rows:
        return None
    growths = scene.snap.growths
    return next(
        (g.own_bytes for g in growths if (g.tenant, g.device) == (use.tenant, use.device)), 0
    )


def _xids(memory: Memory, use: Use) -> tuple[str, ...]:
    return tuple(
        fault.root.code
        for fault in memory.faults.values()
        if fault.root.device == use.device
        and (use.tenant == fault.accused or use.tenant in fault.tenants)
    )


def _weight(suspect: Suspect) -> tuple[float, float, float, float, str, str]:
    over = suspect.quota_ratio or 0.0
    return (
        -over if over > 1.0 else 0.0,
        -float(suspect.grown_bytes or 0),
        -float(len(suspect.xids)),
        -(suspect.sm_ratio or 0.0),
        suspect.tenant,
        suspect.device,
    )


def _words(scene: Scene, suspect: Suspect) -> str:
    tenant, device = scene.tenants.get(suspect.tenant), scene.devices.get(suspect.device)
    name = suspect.tenant if tenant is None else tenant.name
    where = suspect.device if device is None else f"GPU {device.index}"
    ratio, grown, share = suspect.quota_ratio, suspect.grown_bytes, suspect.sm_ratio
    quota = "quota not known" if ratio is None else f"{ratio:.0%} of its quota"
    growth = (
        "growth not known" if grown is None else f"grew {size(grown)}" if grown else "has not grown"
    )
    return ", ".join(
        (
            f"{name} on {where}: {quota}",
            growth,
            *suspect.xids,
            "SM share not told" if share is None else f"{share:.0%} of the SMs",
        )
    )
