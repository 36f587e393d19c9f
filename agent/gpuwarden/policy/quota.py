"""Rule quota: a tenant holds more GPU memory on a device than it is allowed."""

from functools import lru_cache

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.memory import Episode, Memory
from gpuwarden.policy.scene import Scene
from gpuwarden.policy.words import size


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """Hard: over quota + margin (confirmed by a second list). Soft: over soft for ``soft_hold_s``,
    claimed until the episode has cleared.
    """
    findings = []
    for episode in memory.episodes.values():
        if episode.tenant not in scene.limits:
            continue
        if episode.hard_lists > 0:
            name, trip = scene.tenants[episode.tenant].name, scene.limits[episode.tenant].trip
            findings.append(
                _hard(
                    *(episode.tenant, episode.device, episode.used_bytes, episode.limit_bytes),
                    *(episode.hard_lists, episode.confirmed_at is not None),
                    *(name, trip, _gpu(episode, scene)),
                )
            )
        elif episode.is_breach:
            findings.append(_soft(episode, scene))
    return findings


@lru_cache(maxsize=1024)  # a breach that does not change is worded once
def _hard(
    tenant: TenantId,
    device: DeviceId,
    used_bytes: int,
    limit_bytes: int,
    lists_over: int,
    is_confirmed: bool,
    name: str,
    trip_bytes: int,
    where: str,
) -> Finding:
    return Finding(
        rule="quota",
        key=f"quota-hard {tenant} {device}",
        severity=Severity.ERROR,
        summary=f"{name} holds {size(used_bytes)} on {where}, its quota is {size(limit_bytes)}",
        tenant=tenant,
        device=device,
        is_confirmed=is_confirmed,
        used_bytes=used_bytes,
        limit_bytes=limit_bytes,
        evidence=(
            ("hard_trip_bytes", str(trip_bytes)),
            ("lists_over", str(lists_over)),
            ("held_bytes", str(used_bytes)),
        ),
    )


def _soft(episode: Episode, scene: Scene) -> Finding:
    tenant = scene.tenants[episode.tenant]
    if episode.over_since is not None:
        since = scene.snap.at - (episode.soft_since or episode.over_since)
        text = f"{tenant.name} has been over its soft quota for {since:.0f} s with"
    else:
        text = f"{tenant.name} went over its quota and is not well below it yet:"
    return Finding(
        rule="quota",
        key=f"quota-soft {episode.tenant} {episode.device}",
        severity=Severity.WARNING,
        summary=(
            f"{text} {size(episode.used_bytes)} on {_gpu(episode, scene)} "
            f"(quota {size(episode.limit_bytes)})"
        ),
        tenant=episode.tenant,
        device=episode.device,
        used_bytes=episode.used_bytes,
        limit_bytes=episode.limit_bytes,
        evidence=(("held_bytes", str(episode.used_bytes)),),
    )


def _gpu(episode: Episode, scene: Scene) -> str:
    device = scene.devices.get(episode.device)
    return f"GPU {device.index}" if device is not None else "a GPU that is gone"
