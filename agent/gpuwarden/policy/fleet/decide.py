"""One pure pass over the fleet: states, claims about the whole, and leave for what nodes ask."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from gpuwarden.config_aggregator import AggregatorConfig, SightConfig
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import (
    Ask,
    Denial,
    FleetClaim,
    FleetIncident,
    NodeStanding,
    NodeState,
    Permit,
)
from gpuwarden.policy.fleet import freeze, incidents, permits, states
from gpuwarden.policy.fleet.fold import FleetMemory
from gpuwarden.policy.fleet.standings import Standings
from gpuwarden.policy.fleet.states import WELL, Judged

OFFSET_MAX_S = 2.0
ASKED_S = 15.0
"""Nodes say every 5 s what they still want leave for: what was said longer ago is not wanted any more."""
NAMES_SHOWN = 5
FAULTS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDecision:
    """``granted`` are new permits: they have to be on disk before anybody hears of them. ``held`` are asks
    that a permit answers which was given before. ``incidents`` are those that have begun, grown or ended
    with this pass; ``pages`` those of them of which people are to be told now."""

    memory: FleetMemory
    nodes: Collection[NodeStanding]
    claims: tuple[FleetClaim, ...] = ()
    frozen: str = ""
    freezes: tuple[str, ...] = ()
    """Of each frozen group, for people: since when, of whom, and whose word lifts it."""
    granted: tuple[Permit, ...] = ()
    held: tuple[Permit, ...] = ()
    denied: tuple[Denial, ...] = ()
    incidents: tuple[FleetIncident, ...] = ()
    pages: tuple[FleetIncident, ...] = ()


def decide(
    cfg: AggregatorConfig,
    memory: FleetMemory,
    now: float,
    wall: float,
    epoch: int | None,
    more: tuple[FleetClaim, ...] = (),
) -> FleetDecision:
    """What is so, and what may be done. Without an epoch another leads: nothing that is asked is answered, and
    nobody is told anything. ``more``: claims about the whole that others make, of policies and certificates."""
    memory = states.resumed(memory, now)
    memory = replace(memory, ledger=permits.remembered(cfg.permit, memory.ledger, now))
    judged = states.judge(cfg.sight, memory, now)
    memory = states.since_sick(memory, judged, now)
    is_doubtful = states.in_doubt(cfg.sight, memory, now)
    memory = _followed(cfg.sight, memory, judged, now)
    frozen = _frozen(memory, is_doubtful)
    asks = [] if epoch is None else _asks(memory, now)
    granted: tuple[Permit, ...] = ()
    held: tuple[Permit, ...] = ()
    denied: tuple[Denial, ...] = ()
    if epoch is not None and asks:
        scene = permits.Scene.of(cfg.permit, memory, frozen, now=now, wall=wall, epoch=epoch)
        granted, held, denied = _answers(scene, asks)
    memory = replace(memory, ledger=(*memory.ledger, *granted))
    claims = (*_claims(cfg.sight, memory, judged, frozen, is_doubtful), *more)
    kept = incidents.follow(
        cfg.sight, memory.incidents, claims, now, wall, may_page=epoch is not None
    )
    memory = replace(memory, incidents=kept.standing)
    return FleetDecision(
        memory=memory,
        nodes=Standings(memory.nodes, judged),
        claims=claims,
        frozen="; ".join(dict.fromkeys(frozen.values())),
        freezes=tuple(_shown(memory, group, now) for group in sorted(memory.freezes)),
        granted=granted,
        held=held,
        denied=denied,
        incidents=kept.changed,
        pages=kept.pages,
    )


def _asks(memory: FleetMemory, now: float) -> list[tuple[str, Ask]]:
    """What is wanted now, oldest fault first."""
    asks = sorted(
        (-ask.age_s, name, ask.id, ask)
        for name, node in memory.nodes.items()
        if node.asks and node.is_connected and now - node.asked_at <= ASKED_S
        for ask in node.asks
    )
    return [(name, ask) for _, name, _, ask in asks]


def _answers(
    scene: permits.Scene, asks: list[tuple[str, Ask]]
) -> tuple[tuple[Permit, ...], tuple[Permit, ...], tuple[Denial, ...]]:
    """Every ask in turn, each seeing what those before it were given."""
    granted: list[Permit] = []
    held: list[Permit] = []
    denied: list[Denial] = []
    ledger = list(scene.memory.ledger)
    standing = permits.standing(ledger, scene.now)
    for name, ask in asks:
        node = scene.memory.nodes[name]
        key = (name, node.greeting.boot_id, ask.id)
        if key in standing:
            held.append(permits.fenced(standing[key], scene.epoch))
            continue
        answer = permits.consider(scene, name, node, ask, ledger)
        if isinstance(answer, Denial):
            denied.append(answer)
        else:
            granted.append(answer)
            ledger.append(answer)
            standing[key] = answer
    return tuple(granted), tuple(held), tuple(denied)


def _followed(
    cfg: SightConfig, memory: FleetMemory, judged: Mapping[str, Judged], now: float
) -> FleetMemory:
    """With the freezes and the words against them that stand now."""
    looks = states.looks(cfg, memory, judged, now)
    freezes = freeze.follow(memory.freezes, looks, now, cfg.over_s, memory.resumed_at)
    thaws = freeze.thaws_standing(memory.thaws, freezes, looks, now)
    return replace(memory, freezes=freezes, thaws=thaws)


def _sizes(memory: FleetMemory) -> Counter[str]:
    """Of the groups, where one of them is frozen: nobody else asks."""
    if not memory.freezes:
        return Counter()
    return Counter([node.greeting.group for node in memory.nodes.values()])


def _shown(memory: FleetMemory, group: str, now: float) -> str:
    each, size = memory.freezes[group], _sizes(memory)[group]
    text = f"group {group}: {len(each.sick)} of {size} sick, frozen for {now - each.since:.0f} s"
    thaw = memory.thaws.get(group)
    if thaw is None:
        return text
    return f"{text}; lifted by {thaw.by} for another {thaw.until - now:.0f} s: {thaw.reason}"


def _frozen(memory: FleetMemory, is_doubtful: bool) -> dict[str, str]:
    """Groups for which nobody gets leave, and why."""
    if is_doubtful:
        why = "most nodes are not heard: the aggregator does not trust its own sight"
        return dict.fromkeys((n.greeting.group for n in memory.nodes.values()), why)
    sizes = _sizes(memory)
    return {
        group: f"{len(each.sick)} of {sizes[group]} nodes of group {group} turned sick at once"
        for group, each in memory.freezes.items()
        if group not in memory.thaws
    }


def _claims(
    cfg: SightConfig,
    memory: FleetMemory,
    judged: Mapping[str, Judged],
    frozen: Mapping[str, str],
    is_doubtful: bool,
) -> tuple[FleetClaim, ...]:
    claims = []
    if is_doubtful:
        why = "most nodes are not heard at once: look at the aggregator's own network first"
        why += "; no permits are given"
        claims.append(FleetClaim(key="sight", severity=Severity.CRITICAL, summary=why))
    sizes = _sizes(memory)
    for group, each in sorted(memory.freezes.items()):
        count, size = len(each.sick), sizes[group]
        summary = _mass(cfg, memory, group, count, size)
        summary += "; no permits are given" if group in frozen else ""
        claims.append(
            FleetClaim(
                key=f"mass {group}", severity=Severity.CRITICAL, summary=summary, count=count
            )
        )
    ill = [(name, each.state) for name, each in judged.items() if each is not WELL]
    for state, severity in ((NodeState.SILENT, Severity.ERROR), (NodeState.BLIND, Severity.ERROR)):
        names = sorted(name for name, its in ill if its is state)
        if names:
            summary = _named(names, state)
            claims.append(
                FleetClaim(key=state, severity=severity, summary=summary, count=len(names))
            )
    skewed = sorted(
        name
        for name, node in memory.nodes.items()
        if node.wall_offset_s and node.is_connected and abs(node.wall_offset_s) > OFFSET_MAX_S
    )
    if skewed:
        summary = _named(skewed, "off by more than 2 s in their wall clocks")
        claims.append(
            FleetClaim(
                key="wallclock", severity=Severity.WARNING, summary=summary, count=len(skewed)
            )
        )
    return tuple(claims)


def _mass(cfg: SightConfig, memory: FleetMemory, group: str, count: int, size: int) -> str:
    """One sentence for however many: how many, of what, and what so many together mean."""
    faults = Counter(
        fault
        for node in memory.nodes.values()
        if node.greeting.group == group and node.sick_since is not None and node.report is not None
        for fault in node.report.faults
    )
    what = ", ".join(f"{fault} on {number}" for fault, number in faults.most_common(FAULTS_SHOWN))
    text = f"{count} of {size} nodes of group {group} turned sick at once"
    text += f" ({what})" if what else ""
    if count >= cfg.doubt_ratio * size:
        text += "; when most are sick it is what they share, or what reports them, that is"
    return text


def _named(names: list[str], what: str) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} {'node is' if len(names) == 1 else 'nodes are'} {what}: {shown}{more}"
