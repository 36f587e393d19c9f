"""Leave for harmful node actions: how many nodes of a group may be hit in a window, and be out of use at once.

Undo is not in here: nobody needs leave to thaw, to lift a cordon or to give back.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuwarden.config_aggregator import Budget, PermitConfig
from gpuwarden.model.fleet import Ask, Denial, Permit
from gpuwarden.policy.fleet.fold import FleetMemory, NodeMemory

DAY_S = 86_400.0
ENDS_USE = frozenset({"cordon", "reboot"})
"""After these a node is out of use for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one round of asks is judged against."""

    cfg: PermitConfig
    memory: FleetMemory
    frozen: Mapping[str, str]
    """Groups for which no permits are given, and why."""
    now: float
    wall: float
    epoch: int
    sizes: Mapping[str, int]
    """Of the groups."""
    out: Mapping[str, frozenset[str]]
    """The nodes that are out of use by their last word, by group."""

    @classmethod
    def of(
        cls,
        cfg: PermitConfig,
        memory: FleetMemory,
        frozen: Mapping[str, str],
        *,
        now: float,
        wall: float,
        epoch: int,
    ) -> "Scene":
        """The groups are counted once, for however many asks."""
        out: dict[str, set[str]] = {}
        for name, node in memory.nodes.items():
            if node.is_out:
                out.setdefault(node.greeting.group, set()).add(name)
        return cls(
            cfg=cfg,
            memory=memory,
            frozen=frozen,
            now=now,
            wall=wall,
            epoch=epoch,
            sizes=Counter([node.greeting.group for node in memory.nodes.values()]),
            out={group: frozenset(names) for group, names in out.items()},
        )


def counted_s(cfg: PermitConfig) -> float:
    """So long ago a permit may be and still count."""
    return max(DAY_S, cfg.cordon.window_s, cfg.repair.window_s, cfg.reboot.window_s)


def remembered(cfg: PermitConfig, ledger: Iterable[Permit], now: float) -> tuple[Permit, ...]:
    """What budgets still count."""
    longest = counted_s(cfg)
    return tuple(permit for permit in ledger if now - permit.granted_at <= longest)


def standing(ledger: Iterable[Permit], now: float) -> dict[tuple[str, str, str], Permit]:
    """What holds now, by node, boot and ask: the same ask gets the same permit while that holds."""
    found: dict[tuple[str, str, str], Permit] = {}
    for permit in ledger:
        if now < permit.expires_at:
            found.setdefault((permit.node, permit.boot_id, permit.ask), permit)
    return found


def consider(
    scene: Scene, name: str, node: NodeMemory, ask: Ask, ledger: Sequence[Permit]
) -> Permit | Denial:
    """Leave, or the budget that stops it, for an ask that no permit of ``standing`` answers."""
    group = node.greeting.group
    stopped = _stopped(scene, name, node, ask, ledger)
    if stopped is not None:
        return Denial(node=name, ask=ask.id, budget=stopped[0], detail=stopped[1])
    return Permit(
        id=f"{scene.epoch}-{name}-{ask.id}-{int(scene.now * 1000)}",
        node=name,
        boot_id=node.greeting.boot_id,
        ask=ask.id,
        kind=ask.kind,
        subject=ask.subject,
        group=group,
        granted_wall=scene.wall,
        granted_at=scene.now,
        expires_at=scene.now + scene.cfg.ttl_s,
        epoch=scene.epoch,
    )


def _stopped(
    scene: Scene, name: str, node: NodeMemory, ask: Ask, ledger: Sequence[Permit]
) -> tuple[str, str] | None:
    cfg, group = scene.cfg, node.greeting.group
    if not cfg.required:
        return None
    if ask.age_s > cfg.stale_s:
        return "stale", f"the fault was noticed {ask.age_s:.0f} s ago; old faults are not replayed"
    if group in scene.frozen:
        return "frozen", scene.frozen[group]
    mine = [p for p in ledger if p.node == name]
    if ask.kind == "reset-gpu":
        # The same wish, given leave anew because the device took long to empty, is one reset.
        recent = {p.ask for p in mine if p.kind == ask.kind and scene.now - p.granted_at <= DAY_S}
        spent = len(recent - {ask.id})
        if spent >= cfg.resets_per_node_day:
            return "per-node", f"{spent} resets of this node within a day"
    return (
        _domain(scene, name, node, ledger)
        or _window(scene, name, ask.kind, ledger, group)
        or _standing(scene, name, ask.kind, ledger, group)
    )


def purse(kind: str) -> str:
    """Which budget a kind of action is paid from: by name, for two may be of one size."""
    return kind if kind in ("cordon", "reboot") else "repair"


def budget_of(cfg: PermitConfig, kind: str) -> Budget:
    """That budget."""
    return {"cordon": cfg.cordon, "reboot": cfg.reboot, "repair": cfg.repair}[purse(kind)]


def allowance(ratio: float, size: int, most: int | None = None) -> int:
    """So many nodes: a share rounded down, at least one, at most so many."""
    share = max(1, math.floor(ratio * size))
    return share if most is None else min(share, most)


def _domain(
    scene: Scene, name: str, node: NodeMemory, ledger: Sequence[Permit]
) -> tuple[str, str] | None:
    """Whether another node that fails together with this one is being hit right now."""
    mine = {d for d in node.greeting.domains if d[0] in scene.cfg.one_per_domain}
    for permit in ledger if mine else ():
        if scene.now >= permit.expires_at or permit.node == name:
            continue
        other = scene.memory.nodes.get(permit.node)
        if other is None:
            continue
        shared = mine.intersection(other.greeting.domains)
        if shared:
            what = "=".join(min(shared))
            return "domain", f"{permit.node} of the same {what} has leave for a {permit.kind}"
    return None


def _window(
    scene: Scene,
    name: str,
    kind: str,
    ledger: Sequence[Permit],
    group: str,
) -> tuple[str, str] | None:
    budget, paid_from = budget_of(scene.cfg, kind), purse(kind)
    since = scene.now - budget.window_s
    hit = {
        p.node
        for p in ledger
        if p.granted_at >= since and p.group == group and purse(p.kind) == paid_from
    }
    most = allowance(budget.ratio, scene.sizes[group], budget.most)
    if len(hit | {name}) <= most:
        return None
    detail = f"{len(hit)} of {most} nodes of group {group} within {budget.window_s:g} s"
    return "window", f"{detail} have had leave for a {kind}"


def _standing(
    scene: Scene,
    name: str,
    kind: str,
    ledger: Sequence[Permit],
    group: str,
) -> tuple[str, str] | None:
    if kind not in ENDS_USE:
        return None
    # By its last word: a node that was cordoned and fell silent, or was booted, is not back before it says so.
    out = scene.out.get(group, frozenset()) | {
        p.node
        for p in ledger
        if p.group == group and p.kind in ENDS_USE and _may_be_in_use(scene, p)
    }
    most = allowance(scene.cfg.standing_ratio, scene.sizes[group])
    if len(out | {name}) <= most:
        return None
    return "standing", f"{len(out)} of {most} nodes of group {group} are out of use already"


def _may_be_in_use(scene: Scene, permit: Permit) -> bool:
    """Whether a permit holds, or its node has not been heard since it ran out: then nobody knows what it did."""
    node = scene.memory.nodes.get(permit.node)
    if scene.now < permit.expires_at or node is None:
        return scene.now < permit.expires_at
    return node.heard_at is None or node.heard_at < permit.expires_at


def fenced(permit: Permit, epoch: int) -> Permit:
    """A permit of an earlier aggregator's life, as this one gives it out again."""
    return replace(permit, epoch=epoch)
