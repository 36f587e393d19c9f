"""A service's rollback over the nodes that carry it: batch by batch, halted when nodes fail. The same from every
point at which the aggregator may have ended: what was ordered is asked for again under the same id."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gpuwarden.config_ramp import RampConfig
from gpuwarden.model.ramp import Campaign, CampaignState, NodeTurn, Turn

UNDER_WAY = frozenset({Turn.ORDERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of one node's turn: by its answer to the order, or by the incident it made."""

    is_done: bool | None = None
    """None: it has not ended."""
    incident: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of the nodes of a campaign."""

    answers: Mapping[str, Answer]
    heard: frozenset[str]
    """Nodes that are connected."""
    frozen: str = ""
    """Why the fleet gives no leave now; empty: it does."""


def begun(campaign: Campaign, nodes: Iterable[str]) -> Campaign:
    """With a turn for each node, in an order of its own: not always the same nodes first."""
    names = sorted(set(nodes), key=lambda node: _digest(campaign.id, node))
    turns = tuple(NodeTurn(node=name, order=order_of(campaign.id, name)) for name in names)
    return replace(campaign, nodes=turns)


def order_of(campaign: str, node: str) -> str:
    """The id of the order to a node: the same whoever gives it, and however often."""
    return f"rb-{_digest(campaign, node)[:24]}"


def _digest(campaign: str, node: str) -> str:
    return hashlib.sha256(f"{campaign} {node}".encode()).hexdigest()


def step(cfg: RampConfig, campaign: Campaign, seen: Seen, wall: float) -> Campaign:
    """One look: turns that ended, and as many new ones as a batch lets begin."""
    if campaign.state is not CampaignState.RUNNING:
        return campaign
    turns = [_ended(cfg, turn, seen, wall) for turn in campaign.nodes]
    failed = [turn for turn in turns if turn.turn is Turn.FAILED]
    busy = sum(turn.turn in UNDER_WAY for turn in turns)
    if len(failed) > cfg.failed_most:
        left = sum(turn.turn is Turn.WAITING for turn in turns)
        why = f"{len(failed)} nodes failed ({failed[0].node}: {failed[0].detail}); {left} are left as they are"
        state = CampaignState.RUNNING if busy else CampaignState.HALTED
        return replace(campaign, nodes=tuple(turns), state=state, why=why)
    why = ""
    if seen.frozen and any(turn.turn is Turn.WAITING for turn in turns):
        why = f"no node is begun: {seen.frozen}"
    else:
        turns = _begin(turns, batch(cfg, len(turns)) - busy, seen, wall)
    if all(turn.turn not in (Turn.WAITING, Turn.ORDERED) for turn in turns):
        lost = [turn.node for turn in turns if turn.turn is Turn.LOST]
        bad = [turn.node for turn in turns if turn.turn is Turn.FAILED]
        state = CampaignState.HALTED if bad or lost else CampaignState.DONE
        why = "; ".join(
            f"{what}: {', '.join(names[:5])}"
            for what, names in (("failed", bad), ("not heard", lost))
            if names
        )
        return replace(campaign, nodes=tuple(turns), state=state, why=why)
    return replace(campaign, nodes=tuple(turns), why=why)


def batch(cfg: RampConfig, nodes: int) -> int:
    """How many may be under way at once."""
    return max(1, min(cfg.batch_most, math.floor(cfg.batch_ratio * nodes)))


def _ended(cfg: RampConfig, turn: NodeTurn, seen: Seen, wall: float) -> NodeTurn:
    if turn.turn is not Turn.ORDERED:
        return turn
    answer = seen.answers.get(turn.node, Answer())
    turn = replace(turn, incident=answer.incident or turn.incident)
    if answer.is_done is not None:
        end = Turn.DONE if answer.is_done else Turn.FAILED
        return replace(turn, turn=end, detail=answer.detail, since_wall=wall)
    if wall - turn.since_wall < cfg.node_s and wall >= turn.since_wall - cfg.node_s:
        return turn
    if turn.node in seen.heard:
        return replace(turn, turn=Turn.FAILED, detail="no end within its time", since_wall=wall)
    return replace(turn, turn=Turn.LOST, detail="it is not heard", since_wall=wall)


def _begin(turns: list[NodeTurn], free: int, seen: Seen, wall: float) -> list[NodeTurn]:
    """Nodes that are heard first; one that is not waits for its turn last, and is lost if it does not come."""
    ready = [turn for turn in turns if turn.turn is Turn.WAITING and turn.node in seen.heard]
    deaf = [turn for turn in turns if turn.turn is Turn.WAITING and turn.node not in seen.heard]
    chosen = {turn.node for turn in (*ready, *deaf)[: max(0, free)]}
    return [
        replace(turn, turn=Turn.ORDERED, since_wall=wall) if turn.node in chosen else turn
        for turn in turns
    ]
