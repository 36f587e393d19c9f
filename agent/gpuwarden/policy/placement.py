"""Rule placement: a tenant whose class does not belong on nodes of this group.

Whoever runs is a finding and stays. A container that has only just started is turned away where the operator
says so: nobody asks before a container starts, so its start is answered, as on a cordoned device.
"""

from collections.abc import Iterable

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Memory
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy.arrival import is_given
from gpuwarden.policy.scene import Scene

RULE = "placement"
NEW_S = 60.0
"""A container is turned away within this of its start: whoever got through while nobody looked stays, and so
does whoever was there before the rule."""


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a tenant that holds memory of a GPU, or was given one, and does not belong here."""
    group = cfg.fleet.group
    rule = cfg.placement.get(group)
    if rule is None:
        return []
    admitted = ", ".join(cls.label for cls in sorted(set(rule.admit), reverse=True))
    return [
        Finding(
            rule=RULE,
            key=f"{RULE} {tenant.id}",
            severity=Severity.WARNING,
            summary=f"{tenant.name} ({tenant.cls.label}) is on a node of group {group}, which admits {admitted}",
            tenant=tenant.id,
            device=device,
        )
        for tenant, device in _present(scene)
        if tenant.cls not in rule.admit and tenant.is_described and not tenant.is_never_victim
    ]


def _present(scene: Scene) -> Iterable[tuple[Tenant, DeviceId | None]]:
    """Everybody with memory of a GPU, then who was given one and uses none; each once, with a device."""
    seen = set()
    for use in scene.snap.uses:
        tenant = scene.tenants.get(use.tenant)
        if tenant is not None and tenant.id not in seen:
            seen.add(tenant.id)
            yield tenant, use.device
    for guest in scene.snap.guests:
        if guest.tenant.id not in seen:
            seen.add(guest.tenant.id)
            given = (d.id for d in scene.snap.devices if is_given(guest, d))
            yield guest.tenant, next(given, None)


def is_refused(cfg: Config, scene: Scene, finding: Finding) -> bool:
    """Whether a finding of this rule is about a container that has just started and is to be turned away."""
    rule = cfg.placement.get(cfg.fleet.group)
    if finding.rule != RULE or rule is None or not rule.refuse:
        return False
    started = next(
        (g.tenant.started_wall for g in scene.snap.guests if g.tenant.id == finding.tenant), None
    )
    return started is not None and 0.0 <= scene.snap.wall - started <= NEW_S
