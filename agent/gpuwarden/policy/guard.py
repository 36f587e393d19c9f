"""The only gate to harm (HOUSE_STYLE rule 6): mode, protection, freshness, one in flight, cooldown,
warm-up, fleet permit. What it withholds is reported with the budget that stopped it."""

from collections.abc import Collection
from dataclasses import dataclass

from gpuwarden.config import Config
from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.ids import CgroupId, DeviceId, TenantId
from gpuwarden.model.memory import IN_FLIGHT, Case, Memory, Rung
from gpuwarden.model.tenant import Tenant, TenantClass
from gpuwarden.policy.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an action is withheld."""

    budget: str
    detail: str


def is_enforcing(cfg: Config, rule: str) -> bool:
    """Whether a rule may act: its own mode, else the node's (observe by default)."""
    own = getattr(cfg.rules, rule, None)
    mode = own.mode if own is not None and own.mode is not None else cfg.agent.mode
    return mode == "enforce"


def is_on(cfg: Config, rule: str) -> bool:
    """Whether a rule is asked at all."""
    own = getattr(cfg.rules, rule, None)
    return own is None or own.mode != "off"


RULE_OF_REASON = {
    "quota-soft": "quota",
    "quota-hard": "quota",
    "reserve": "reserve",
    "unattributed": "unattributed",
    "tombstone": "tombstone",
    "locked": "locked",
    "pressure": "pressure",
    "drain": "repair",
    "fault": "fault",
    "neighbour": "neighbour",
}


def permit(
    cfg: Config,
    memory: Memory,
    scene: Scene,
    case: Case,
    kind: Kind,
    busy: Collection[tuple[DeviceId, TenantId]],
) -> Refusal | None:
    """``None``: go ahead. ``busy`` are the (device, tenant) of evictions in flight, this tick's
    included.
    """
    if kind not in HARMFUL:
        return None
    rule = RULE_OF_REASON.get(case.reason, case.reason)
    if not is_enforcing(cfg, rule):
        return Refusal(budget="observe", detail=f"rule {rule} is in observe mode")
    if not scene.snap.can_record:
        return Refusal(budget="journal", detail="the intent cannot be written down")
    if kind is Kind.CORDON:
        has_leave = scene.snap.has_leave(kind.value, case.device)
        return None if has_leave else Refusal(budget="permit", detail="no permit")
    if kind is Kind.RELOCATE:
        allowed = cfg.ladder.allow_protected_restart
        return (
            None if allowed else Refusal(budget="operator", detail="allow_protected_restart is off")
        )
    has_begun = case.tenant in memory.cases and memory.cases[case.tenant].rung in IN_FLIGHT
    tenant = scene.tenants.get(case.tenant)
    if tenant is not None:
        if tenant.cls is TenantClass.PROTECTED:
            return Refusal(budget="protected", detail=f"{tenant.name} is protected")
        if tenant.is_never_victim:
            return Refusal(budget="never-victim", detail=f"{tenant.name} is never a victim")
        if tenant.cannot_act is not None:  # nor will it ever be described, as a rule
            return Refusal(budget="cannot-act", detail=tenant.cannot_act)
        if not (tenant.is_described or has_begun):
            return Refusal(budget="undescribed", detail="its runtime has not described it yet")
    inside_it = inside(scene, case.tenant, case.target.cgroup)
    if inside_it is not None:
        return Refusal(budget="nested", detail=f"{inside_it.name} lives inside it")
    if kind is Kind.THROTTLE:
        is_seen = any(scene.is_claimable(u) for u in scene.uses_of(case.tenant))
        return None if is_seen else _STALE
    if case.rung not in IN_FLIGHT:
        return None
    if has_begun:
        return _raise(cfg, scene, case, kind)
    return _begin(cfg, memory, scene, case, busy, is_known=tenant is not None)


_STALE = Refusal(budget="stale", detail="its size was read too long ago")


def inside(scene: Scene, who: TenantId, group: CgroupId | None) -> Tenant | None:
    """Another tenant whose group lies inside the target's: what hits the one would hit the other."""
    if group is None:
        return None
    above = group.path.rstrip("/") + "/"
    for tenant in scene.snap.tenants:
        inner = tenant.cgroup
        if tenant.id != who and inner is not None and inner.path.startswith(above):
            return tenant
    return None


def _raise(cfg: Config, scene: Scene, case: Case, kind: Kind) -> Refusal | None:
    """What an eviction under way needs before it goes one rung higher: to be measured again.

    In an emergency the measure would change nothing; then it may be two lists old, on a device that
    has stopped answering too.
    """
    if kind not in (Kind.TERM, Kind.KILL):
        return None
    device = scene.devices.get(case.device)
    if device is None or device.listed_at is None:
        return _STALE
    if case.is_emergency:
        age_s = scene.snap.at - device.listed_at
        return None if age_s <= 2 * cfg.sampling.list_every_s else _STALE
    mine = [u for u in scene.uses_of(case.tenant) if u.device == case.device]
    is_fresh = scene.is_list_fresh(device) and all(scene.is_harm_fresh(u) for u in mine)
    return None if is_fresh else _STALE


def _begin(
    cfg: Config,
    memory: Memory,
    scene: Scene,
    case: Case,
    busy: Collection[tuple[DeviceId, TenantId]],
    *,
    is_known: bool,
) -> Refusal | None:
    """What an eviction needs before its first harmful rung."""
    now = scene.snap.at
    if not is_known:
        return Refusal(budget="absent", detail="the tenant is not in this look at the node")
    for device_id in case.devices or (case.device,):
        for other_device, other in busy:
            if other_device == device_id and other != case.tenant:
                return Refusal(
                    budget="one-per-device",
                    detail=f"{other} is being evicted from {device_id}",
                )
    if case.reason in ("tombstone", "drain", "arrival", "placement"):
        return None
    fresh = [u for u in scene.uses_of(case.tenant) if u.device == case.device]
    if not fresh or not scene.is_harm_fresh(fresh[0]):
        return _STALE
    device = memory.devices.get(case.device)
    if device is not None and now < device.cooldown_until and not case.is_emergency:
        return Refusal(budget="cooldown", detail="the last eviction's bytes are being counted back")
    if now - memory.started_at < cfg.quota.warmup_s and not case.is_emergency:
        return Refusal(budget="warm-up", detail="the agent has just started")
    return None


def may_evict_class(cfg: Config, cls: TenantClass, rung: Rung) -> bool:
    """Whether a class may be evicted for its own overrun: protected never, high by policy only."""
    if cls is TenantClass.PROTECTED:
        return False
    return cls is not TenantClass.HIGH or cfg.quota.evict_high or rung not in IN_FLIGHT
