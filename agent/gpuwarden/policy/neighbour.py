"""Rule neighbour: a protected service turns red, and one tenant on its device grew before it did (DESIGN 4.4).

The weakest of the three claims that open the emergency lane, and the last to be asked: nobody is accused where a
quota, a fault or a locked device explains it. It rests on proof alone:

- who is accused has processes that were listed on the device before and have grown there since, each against its own
  earlier reading; a start, or the first listing of a process, is none;
- a list had shown that growth before the first reading of the service that was over its limit, and the reading before
  that one was within it; it turned red within ``quota.growth_window_s``;
- from a window before it turned red until now nobody else on the device grew or started there (the service itself is one,
  bytes that are nobody's are one), and the device was listed all that time without a break.
"""

from gpuwarden.config import Config
from gpuwarden.model.device import Device
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.growth import Growth
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Health, ServiceState
from gpuwarden.model.tenant import TenantClass, Use
from gpuwarden.policy import suspects
from gpuwarden.policy.scene import NOISE_BYTES, Scene
from gpuwarden.policy.words import size

RISE_BYTES = 4 * NOISE_BYTES
"""256 MiB: what a framework's allocator takes for a batch more is no start of something new."""


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """At most one finding a device: who alone grew before the service turned red."""
    findings = []
    for state in scene.snap.services:
        is_new = scene.snap.at - state.since <= cfg.quota.growth_window_s
        if state.health is not Health.RED or state.tenant is None or not is_new:
            continue
        for mine in scene.uses_of(state.tenant):
            growth = _grower(cfg, memory, scene, state, mine)
            if growth is not None:
                findings.append(_finding(cfg, memory, scene, state, growth))
    return findings


def _grower(
    cfg: Config, memory: Memory, scene: Scene, state: ServiceState, mine: Use
) -> Growth | None:
    """The one on a device that grew, where nothing better explains what happens there."""
    owner, device = scene.tenants.get(mine.tenant), scene.devices.get(mine.device)
    if owner is None or owner.cls is not TenantClass.PROTECTED or device is None:
        return None
    if not scene.is_claimable(mine) or _is_explained(memory, device):
        return None
    growth = proven(cfg, scene, state, device)
    if growth is None or growth.tenant is None:
        return None
    tenant, use = scene.tenants.get(growth.tenant), scene.use_of(growth.tenant, device.id)
    if tenant is None or tenant.cls >= TenantClass.HIGH or use is None:
        return None
    return growth if scene.is_claimable(use) else None


def proven(cfg: Config, scene: Scene, state: ServiceState, device: Device) -> Growth | None:
    """Who alone grew on a device before a service turned red, by what the lists prove; ``None``: nobody, more than
    one, or it cannot be told."""
    begun = state.since - cfg.quota.growth_window_s
    stirred = [
        g
        for g in scene.snap.growths
        if g.device == device.id and (g.stirred_at >= begun or g.rose_at is not None)
    ]
    if len(stirred) != 1 or state.late_since is None:
        return None
    (growth,) = stirred
    if growth.rose_at is None or growth.watched_since > begun:
        return None
    return growth if growth.rose_at < state.late_since <= state.since else None


def _is_explained(memory: Memory, device: Device) -> bool:
    """Whether the device itself is ill: then its tenants are not asked."""
    state = memory.devices.get(device.id)
    is_locked = state is not None and state.locked_since is not None
    has_fault = any(
        fault.root.device == device.id and fault.root.scope not in (None, "", "app")
        for fault in memory.faults.values()
    )
    return is_locked or has_fault or bool(device.recovery_action)


def _finding(
    cfg: Config, memory: Memory, scene: Scene, state: ServiceState, growth: Growth
) -> Finding:
    assert growth.tenant is not None  # ``_grower`` says so
    tenant, device = scene.tenants[growth.tenant], scene.devices[growth.device]
    use = scene.use_of(growth.tenant, growth.device)
    lead_s = state.since - (growth.rose_at or state.since)
    return Finding(
        rule="neighbour",
        key=f"neighbour {state.service} {growth.tenant} {growth.device}",
        severity=Severity.ERROR,
        summary=(
            f"{tenant.name} alone grew on GPU {device.index} (by {size(growth.own_bytes)}) before"
            f" service {state.service} turned red"
        ),
        tenant=growth.tenant,
        device=growth.device,
        service=state.service,
        used_bytes=None if use is None else use.used_bytes,
        limit_bytes=tenant.hard_bytes,
        evidence=(
            ("service", state.service),
            ("grown", size(growth.own_bytes)),
            ("grown_before_red", f"{lead_s:.1f} s"),
            *suspects.told(cfg, memory, scene, state),
        ),
    )
