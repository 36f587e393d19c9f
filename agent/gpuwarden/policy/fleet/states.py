"""How each node is; and whether it is they that are silent, or the aggregator that does not hear."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpuwarden.config_aggregator import SightConfig
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import NodeState
from gpuwarden.policy.fleet.fold import FleetMemory, NodeMemory
from gpuwarden.policy.fleet.freeze import Look

SICK = frozenset({NodeState.DEGRADED, NodeState.BLIND})
WELL_AGAIN = frozenset({NodeState.HEALTHY, NodeState.CORDONED})
GAP_S = 10.0
"""The fleet is judged every second: a longer break was a stopped or suspended aggregator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A state and its reason."""

    state: NodeState
    why: str


WELL = Judged(state=NodeState.HEALTHY, why="")
"""What nearly all are, every second."""


def resumed(memory: FleetMemory, now: float) -> FleetMemory:
    """After a break in which nothing could be heard, nobody is blamed for it."""
    if now - memory.decided_at <= GAP_S:
        return replace(memory, decided_at=now)
    return replace(memory, decided_at=now, resumed_at=now)


def judge(cfg: SightConfig, memory: FleetMemory, now: float) -> dict[str, Judged]:
    """Every node's state."""
    quiet = unheard(cfg, memory, now)
    if not quiet:
        return {name: _told(node) for name, node in memory.nodes.items()}
    is_doubtful = _doubts(cfg, memory, quiet)
    return {
        name: _told(node)
        if name not in quiet
        else _silent(cfg, memory, node, now, is_doubtful=is_doubtful)
        for name, node in memory.nodes.items()
    }


def in_doubt(cfg: SightConfig, memory: FleetMemory, now: float) -> bool:
    """Whether so many at once are not heard that the fault is here."""
    return _doubts(cfg, memory, unheard(cfg, memory, now))


def unheard(cfg: SightConfig, memory: FleetMemory, now: float) -> frozenset[str]:
    """Who has said nothing for too long; while the aggregator itself has not listened for so long, nobody."""
    long, started_at = cfg.silent_after_s, memory.started_at
    if now - memory.resumed_at <= long:
        return frozenset()
    return frozenset(
        name for name, node in memory.nodes.items() if now - (node.heard_at or started_at) > long
    )


def _doubts(cfg: SightConfig, memory: FleetMemory, quiet: frozenset[str]) -> bool:
    if len(quiet) < cfg.doubt_min:
        return False
    expected = {name for name, node in memory.nodes.items() if node.heard_at is not None}
    missing = len(expected & quiet)
    return missing >= cfg.doubt_min and missing >= cfg.doubt_ratio * len(expected)


def _told(node: NodeMemory) -> Judged:
    """By what the node itself says."""
    report = node.report
    if node.heard_at is None or report is None:
        return Judged(state=NodeState.UNKNOWN, why="has not reported yet")
    if report.unseen or not report.devices:
        what = f"{report.unseen} of {report.devices} devices" if report.devices else "no device"
        why = f"{what} cannot be seen" if report.devices else "sees no device"
        return Judged(state=NodeState.BLIND, why=why)
    if report.is_cordoned or report.cordoned == report.devices:
        return Judged(state=NodeState.CORDONED, why="out of use")
    if report.faults:
        return Judged(state=NodeState.DEGRADED, why=", ".join(report.faults[:4]))
    if report.worst is not None and report.worst >= Severity.ERROR:
        return Judged(state=NodeState.DEGRADED, why="a finding of an error stands")
    if report.cordoned:
        why = f"{report.cordoned} of {report.devices} devices are cordoned"
        return Judged(state=NodeState.DEGRADED, why=why)
    if report.degraded:
        return Judged(state=NodeState.DEGRADED, why=report.degraded[0])
    return WELL


def _silent(
    cfg: SightConfig, memory: FleetMemory, node: NodeMemory, now: float, *, is_doubtful: bool
) -> Judged:
    in_grace = now - memory.started_at < cfg.grace_s
    if node.heard_at is None:
        if in_grace:
            why = "not heard since the aggregator started; it may still be on its way"
            return Judged(state=NodeState.UNKNOWN, why=why)
        why = "not heard since the aggregator started"
        return Judged(state=NodeState.SILENT, why=why)
    gone_s = now - node.heard_at
    if is_doubtful:
        why = f"not heard for {gone_s:.0f} s, as are most: the aggregator's own sight is in doubt"
        return Judged(state=NodeState.UNKNOWN, why=why)
    if in_grace:
        why = f"not heard for {gone_s:.0f} s; the aggregator has just started"
        return Judged(state=NodeState.UNKNOWN, why=why)
    return Judged(state=NodeState.SILENT, why=f"not heard for {gone_s:.0f} s")


def since_sick(memory: FleetMemory, states: Mapping[str, Judged], now: float) -> FleetMemory:
    """When each node that is sick now turned so. One that cannot be judged keeps what was known."""
    turned = {}
    for name, node in memory.nodes.items():
        judged = states[name]
        if node.sick_since is None:
            if judged is not WELL and judged.state in SICK:
                turned[name] = node._replace(sick_since=now)
        elif judged.state in WELL_AGAIN:
            turned[name] = node._replace(sick_since=None)
    return replace(memory, nodes={**memory.nodes, **turned}) if turned else memory


def looks(
    cfg: SightConfig, memory: FleetMemory, states: Mapping[str, Judged], now: float
) -> dict[str, Look]:
    """Each group, as its freeze is judged."""
    groups: dict[str, list[str]] = {}
    fresh: dict[str, list[str]] = {}
    for name, node in memory.nodes.items():
        group = node.greeting.group
        if (names := groups.get(group)) is None:
            names = groups[group] = []
        names.append(name)
        if node.sick_since is not None and now - node.sick_since <= cfg.sick_window_s:
            fresh.setdefault(group, []).append(name)
    return {
        group: Look(
            members=names,
            fresh=fresh.get(group, []),
            healthy=[name for name in names if states[name].state is NodeState.HEALTHY],
            threshold=max(cfg.sick_min, math.ceil(cfg.sick_ratio * len(names))),
        )
        for group, names in groups.items()
    }
