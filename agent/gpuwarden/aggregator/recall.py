"""What earlier lives, and other leaders, have left that counts on. A part of wiring."""

from dataclasses import replace

from gpuwarden.aggregator.store import KeptPermit, Store
from gpuwarden.clock import Clock
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Permit
from gpuwarden.policy.fleet.fold import FleetMemory, NodeMemory


def remembered(store: Store, clock: Clock) -> FleetMemory:
    """Nodes of earlier lives; nobody has been heard yet. Permits are recalled by whoever leads."""
    now = clock.now()
    out = store.out_of_use()
    nodes = {g.node: NodeMemory(greeting=g, is_out=g.node in out) for g in store.greetings()}
    get_log().info("fleet_remembered", nodes=len(nodes))
    return FleetMemory(started_at=now, decided_at=now, resumed_at=now, nodes=nodes)


def recalled(store: Store, clock: Clock, wall: float, within_s: float) -> tuple[Permit, ...]:
    """What was granted in so many seconds before now, by earlier lives and other leaders, on this clock. Ages are of
    the moment of the store's answer: a time read before it would end each budget's window too early."""
    kept = store.ledger(wall, within_s)
    now = clock.now()
    return tuple(_on_this_clock(each, now) for each in kept)


def _on_this_clock(kept: KeptPermit, now: float) -> Permit:
    """Counted, and as long as it holds its node may use it."""
    permit = replace(kept.permit, granted_at=now - kept.age_s, expires_at=0.0)
    return permit if kept.left_s <= 0 else replace(permit, expires_at=now + kept.left_s)
