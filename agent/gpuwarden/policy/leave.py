"""What a node in a fleet may do to itself: what it has leave for, and a little where nobody can be asked."""

import hashlib
from collections.abc import Sequence

from gpuwarden.config_fleet import FleetConfig
from gpuwarden.model.action import Withheld
from gpuwarden.model.decision import Incident
from gpuwarden.model.fleet import Ask, Leave, Permit

NODE = "node"
LOCAL_TTL_S = 60.0


def asks(withheld: Sequence[Withheld], incidents: Sequence[Incident], now: float) -> list[Ask]:
    """What is held back for want of a permit, each wish once, under a name that lasts as long as it."""
    opened = {i.id: i.opened_at if i.noticed_at is None else i.noticed_at for i in incidents}
    found: dict[str, Ask] = {}
    for held in withheld:
        if held.budget != "permit":
            continue
        subject = held.device or NODE
        name = hashlib.sha256(f"{held.incident}/{held.kind}/{subject}".encode()).hexdigest()[:32]
        age_s = max(0.0, now - opened.get(held.incident, now))
        found[name] = Ask(
            id=name, kind=held.kind.value, subject=subject, incident=held.incident, age_s=age_s
        )
    return list(found.values())


def held(permits: Sequence[Permit], boot_id: str, now: float) -> Leave:
    """What those permits allow that have not run out and are for this very boot."""
    good = {(p.kind, p.subject) for p in permits if now < p.expires_at and p.boot_id == boot_id}
    return Leave(is_required=True, permits=tuple(sorted(good)))


def local(
    cfg: FleetConfig,
    wanted: Sequence[Ask],
    given: Sequence[Permit],
    boot_id: str,
    away_s: float,
    now: float,
) -> list[Permit]:
    """Leave that a node gives itself while the aggregator is away: few, of harmless kinds, and counted."""
    if away_s < cfg.local_after_s:
        return []
    recent = {p.ask for p in given if now - p.granted_at <= cfg.local_window_s}
    fresh: list[Permit] = []
    for ask in sorted(wanted, key=lambda each: (-each.age_s, each.id)):
        if ask.kind not in cfg.local_kinds or ask.id in recent:
            continue
        if len(recent) >= cfg.local_actions:
            break
        recent.add(ask.id)
        fresh.append(
            Permit(
                id=f"local-{ask.id}",
                node="",
                boot_id=boot_id,
                ask=ask.id,
                kind=ask.kind,
                subject=ask.subject,
                group="",
                granted_wall=0.0,
                granted_at=now,
                expires_at=now + LOCAL_TTL_S,
            )
        )
    return fresh
