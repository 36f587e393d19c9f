"""A policy's way through the fleet: stage by stage, halted by itself when the nodes that have it fare worse.

A stage is given a policy, every node of it that is heard has to apply it, and then has to be well for a while.
Worse is: a node refuses it; findings or withheld actions are more than before; nodes are not heard any more.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from gpuwarden.config_aggregator import PolicyConfig
from gpuwarden.model.policy import (
    Before,
    PolicyHead,
    PolicyStanding,
    Rollout,
    RolloutState,
    Stage,
)


def newest_first(heads: Mapping[int, PolicyHead]) -> dict[int, PolicyHead]:
    """In the order in which ``wanted`` looks at them."""
    return dict(sorted(heads.items(), reverse=True))


def is_for(head: PolicyHead, group: str) -> bool:
    """Whether a policy is meant for nodes of this group."""
    return not head.groups or any(fnmatchcase(group, each) for each in head.groups)


def has(rollout: Rollout, node: str, group: str) -> bool:
    """Whether a node is in a stage that was released."""
    return any(
        _in(stage, rollout.version, node, group) for stage in rollout.stages[: rollout.released]
    )


def _in(stage: Stage, version: int, node: str, group: str) -> bool:
    is_named = not stage.groups or any(fnmatchcase(group, each) for each in stage.groups)
    return is_named and (stage.percent >= 100 or place(version, node) < stage.percent)


def place(version: int, node: str) -> int:
    """Where of a hundred a node stands: the same in every stage of one policy, another in the next policy, so that
    it is not always the same nodes that go first."""
    digest = hashlib.sha256(f"{version} {node}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100


def wanted(
    heads: Mapping[int, PolicyHead],
    rollouts: Mapping[int, Rollout],
    node: str,
    group: str,
    wall: float,
) -> int:
    """The version a node should have: the newest that is for it, was released to it and has not run out; 0: none.
    ``heads`` newest first: this is asked for every node every second."""
    for version, head in heads.items():
        if wall >= head.not_after_wall or not is_for(head, group) or version not in rollouts:
            continue
        if has(rollouts[version], node, group):
            return version
    return 0


def begun(
    head: PolicyHead,
    stages: Sequence[Stage],
    soak_s: float,
    nodes: Iterable[PolicyStanding],
    wall: float,
) -> Rollout:
    """Its first stage is released."""
    rollout = Rollout(
        version=head.version,
        stages=tuple(stages) or (Stage(),),
        released=1,
        released_wall=wall,
        soak_s=soak_s,
    )
    return replace(rollout, before=_before(head, rollout, nodes))


def superseded(rollout: Rollout, by: int) -> Rollout:
    """Another policy was published: this one goes no further. Those that have it keep it until they get the other."""
    if rollout.state in (RolloutState.DONE, RolloutState.SUPERSEDED):
        return rollout
    why = f"policy {by} was published"
    return replace(rollout, state=RolloutState.SUPERSEDED, why=why, before=())


def halted(rollout: Rollout, why: str) -> Rollout:
    """By hand."""
    return replace(rollout, state=RolloutState.HALTED, why=why)


def resumed(
    head: PolicyHead, rollout: Rollout, nodes: Iterable[PolicyStanding], wall: float
) -> Rollout:
    """By hand: it goes on, and how the nodes are now is what later is measured against."""
    fresh = replace(
        rollout, state=RolloutState.RUNNING, why="", released_wall=wall, settled_wall=None
    )
    nodes = list(nodes)
    refusing = {node.node for node in nodes if _refusal(fresh, node) is not None}
    before = [
        replace(each, has_refused=each.node in refusing) for each in _before(head, fresh, nodes)
    ]
    return replace(fresh, before=tuple(before))


def step(
    cfg: PolicyConfig,
    head: PolicyHead,
    rollout: Rollout,
    nodes: Sequence[PolicyStanding],
    wall: float,
) -> Rollout:
    """One look: halted, on to the next stage, done, or as it was."""
    if rollout.state is not RolloutState.RUNNING:
        return rollout
    members = _members(head, rollout, nodes)
    heard = [node for node in members if node.is_connected]
    if why := _worse(cfg, rollout, members):
        return replace(rollout, state=RolloutState.HALTED, why=why)
    missing = [node for node in heard if node.report.version < rollout.version]
    if missing:
        if wall - rollout.released_wall >= cfg.apply_s:
            why = f"{_named(missing)} did not apply it within {cfg.apply_s:g} s"
            return replace(rollout, state=RolloutState.HALTED, why=why)
        return replace(rollout, settled_wall=None)
    settled = wall if rollout.settled_wall is None else rollout.settled_wall
    # Where nobody is heard there is nothing to wait for, and nothing to learn either: the time is still taken.
    if wall - settled < rollout.soak_s:
        return replace(rollout, settled_wall=settled)
    if rollout.released >= len(rollout.stages):
        return replace(rollout, state=RolloutState.DONE, settled_wall=settled, before=())
    fresh = replace(rollout, released=rollout.released + 1, released_wall=wall, settled_wall=None)
    return replace(fresh, before=_merged(fresh.before, _before(head, fresh, nodes)))


def _members(
    head: PolicyHead, rollout: Rollout, nodes: Iterable[PolicyStanding]
) -> list[PolicyStanding]:
    return [
        node for node in nodes if is_for(head, node.group) and has(rollout, node.node, node.group)
    ]


def _before(
    head: PolicyHead, rollout: Rollout, nodes: Iterable[PolicyStanding]
) -> tuple[Before, ...]:
    """How the nodes of the released stages are now, those that are heard."""
    return tuple(
        Before(node=node.node, findings=node.findings or 0, withheld=node.withheld or 0)
        for node in _members(head, rollout, nodes)
        if node.is_connected and not node.is_lost
    )


def _merged(old: tuple[Before, ...], new: tuple[Before, ...]) -> tuple[Before, ...]:
    """What was noted first of a node stands: a slow decline over many stages is one, too."""
    known = {each.node for each in old}
    return (*old, *(each for each in new if each.node not in known))


def _worse(cfg: PolicyConfig, rollout: Rollout, members: Sequence[PolicyStanding]) -> str:
    """Why the nodes that have it fare worse than before; empty: they do not."""
    forgiven = {each.node for each in rollout.before if each.has_refused}
    refusals = [
        f"{node.node}: {why}"
        for node in members
        if node.node not in forgiven and (why := _refusal(rollout, node)) is not None
    ]
    if refusals:
        return f"{len(refusals)} of {len(members)} nodes refuse it: {refusals[0]}"
    now = {node.node: node for node in members}
    known = [each for each in rollout.before if each.node in now]
    lost = [each.node for each in known if now[each.node].is_lost]
    if rollout.before and len(lost) >= max(cfg.lost_min, cfg.lost_ratio * len(rollout.before)):
        return f"{len(lost)} nodes went silent or blind: {', '.join(sorted(lost)[:5])}"
    seen = [each for each in known if now[each.node].is_connected]
    allowed = max(float(cfg.more_min), cfg.more_ratio * len(seen))
    for what in ("findings", "withheld"):
        were = sum(getattr(each, what) for each in seen)
        are = sum(getattr(now[each.node], what) or 0 for each in seen)
        if are - were > allowed:
            name = "findings" if what == "findings" else "withheld actions"
            return f"{are} {name} on {len(seen)} nodes, {were} before"
    return ""


def _refusal(rollout: Rollout, node: PolicyStanding) -> str | None:
    """Why a node would not take it; None: it has not said so."""
    if node.report.version == rollout.version:
        return None
    return next((r.why for r in node.report.refusals if r.version == rollout.version), None)


def _named(nodes: Sequence[PolicyStanding]) -> str:
    names = ", ".join(sorted(node.node for node in nodes)[:5])
    return f"{len(nodes)} nodes ({names})" if len(nodes) > 5 else names
