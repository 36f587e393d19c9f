"""Rule tombstone: an owner evicted again and again comes back; it is held until the window is
over.
"""

from collections.abc import Iterable
from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import TenantId
from gpuwarden.model.memory import Memory, Tombstone
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy.scene import Scene

BYSTANDERS_MAX = 64


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a live tenant that has come back to a held owner. Whoever was there all the while (a
    replica beside the one that was evicted) is no more guilty than before."""
    if not memory.tombstones:
        return []
    findings = []
    for tenant in scene.snap.tenants:
        stone = memory.tombstones.get(tenant.owner_key or "")
        if stone is None or stone.held_until_wall is None:
            continue
        if scene.snap.wall >= stone.held_until_wall or not _has_come_back(tenant, stone, scene):
            continue
        findings.append(
            Finding(
                rule="tombstone",
                key=f"tombstone {tenant.id}",
                severity=Severity.ERROR,
                summary=(
                    f"{tenant.name} came back after {len(stone.evicted_wall)} evictions: what its owner "
                    f"starts is stopped for {stone.held_until_wall - scene.snap.wall:.0f} s more"
                ),
                tenant=tenant.id,
                evidence=(("owner", stone.owner_key),),
            )
        )
    return findings


def _has_come_back(tenant: Tenant, stone: Tombstone, scene: Scene) -> bool:
    """Whether it was started after the last eviction began; by when it was first seen where its
    runtime does not tell. Never who was there beside an evicted one: that one bore its name by labels,
    which anybody may write."""
    if tenant.id in stone.bystanders:
        return False
    return _started_wall(tenant, scene) >= max(stone.evicted_wall, default=0.0)


def _started_wall(tenant: Tenant, scene: Scene) -> float:
    seen_wall = scene.snap.wall - (scene.snap.at - tenant.first_seen)
    return seen_wall if tenant.started_wall is None else tenant.started_wall


def there_since_before(wall: float, owner_key: str, scene: Scene) -> list[TenantId]:
    """Who has gone by that name since before an eviction began."""
    return [
        tenant.id
        for tenant in scene.snap.tenants
        if tenant.owner_key == owner_key and _started_wall(tenant, scene) < wall
    ]


def bury(
    cfg: Config,
    stones: dict[str, Tombstone],
    owner_key: str,
    wall: float,
    *,
    who: TenantId | None = None,
    there: Iterable[TenantId] = (),
) -> Tombstone:
    """The owner's tombstone after one more eviction, of ``who``, begun at ``wall``; held once
    ``tombstone_evictions`` fall in a window. ``there``: who goes by the owner's name now.
    """
    old = stones.get(owner_key) or Tombstone(owner_key=owner_key)
    window = cfg.ladder.tombstone_window_s
    recent = (*(w for w in old.evicted_wall if 0 <= wall - w <= window), wall)
    held = wall + window if len(recent) >= cfg.ladder.tombstone_evictions else None
    seen = dict.fromkeys((*old.bystanders, *there))
    return replace(
        old,
        evicted_wall=recent[-100:],
        held_until_wall=held if held is not None else old.held_until_wall,
        bystanders=tuple(t for t in seen if t != who)[-BYSTANDERS_MAX:],
    )


def weather(cfg: Config, stones: dict[str, Tombstone], wall: float) -> dict[str, Tombstone]:
    """Tombstones whose window is over are taken away."""
    window = cfg.ladder.tombstone_window_s
    return {
        key: stone
        for key, stone in stones.items()
        if (stone.held_until_wall is not None and wall < stone.held_until_wall)
        or any(0 <= wall - w <= window for w in stone.evicted_wall)
    }
