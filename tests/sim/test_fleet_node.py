"""One node of a simulated fleet: it asks, holds, acts and obeys as an agent does, for it is one."""

from __future__ import annotations

from gpuwarden.clock import SystemClock
from gpuwarden.model.fleet import Order, Permit
from gpuwarden.sim.fleet.node import SimNode
from gpuwarden.sim.fleet.spool import HeapSpool


def sick() -> SimNode:
    node = SimNode(3, "default", SystemClock(), devices=2, aggregator="127.0.0.1:1")
    node.run_to(1)
    node.report_xid(79)
    node.desk.look(node.run_to(4))
    return node


def permits(node: SimNode) -> list[Permit]:
    """Leave for everything it wants."""
    now = node.world.clock.now()
    return [
        Permit(
            id=f"p-{ask.id}",
            node=node.name,
            boot_id=node.world.host.boot,
            ask=ask.id,
            kind=ask.kind,
            subject=ask.subject,
            group="",
            granted_wall=0.0,
            expires_at=now + 60,
        )
        for ask in node.desk.asks()
    ]


def test_a_node_at_rest_asks_for_nothing() -> None:
    node = SimNode(3, "default", SystemClock(), devices=2, aggregator="127.0.0.1:1")
    node.desk.look(node.run_to(5))
    assert node.desk.asks() == []
    assert node.board.view().incidents == ()


def test_without_leave_it_asks_and_holds() -> None:
    node = sick()
    node.desk.look(node.run_to(60))
    assert {ask.kind for ask in node.desk.asks()} == {"cordon", "reboot"}
    assert node.done() == frozenset()


def test_with_leave_it_acts() -> None:
    node = sick()
    node.desk.receive(permits(node), [], is_required=True)
    node.run_to(30)
    assert node.done() == {"cordon", "reboot"}


def test_rest_lets_time_go_by_in_the_picture_too() -> None:
    node = SimNode(3, "default", SystemClock(), devices=2, aggregator="127.0.0.1:1")
    first = node.run_to(1)
    later = node.rest_to(31)
    assert later.at - first.at >= 29
    assert later.snapshot.wall - first.snapshot.wall >= 29
    assert later.serial > first.serial


def test_an_operators_order_is_obeyed_at_once() -> None:
    node = sick()
    for number, verb in enumerate(("cordon", "uncordon")):
        order = Order(
            id=f"o{number}",
            node=node.name,
            boot_id=node.world.host.boot,
            verb=verb,
            subject="node",
            reason="test",
            by="somebody",
            expires_at=node.world.clock.now() + 10,
        )
        node.desk.order(order)
    assert [(name, is_done) for name, is_done, _, _ in node.desk.answered()] == [
        ("o0", True),
        ("o1", True),
    ]


def test_the_spool_keeps_what_is_not_acknowledged_and_is_bounded() -> None:
    now = [0.0]
    spool = HeapSpool("log", lambda: now[0])
    for number in range(12_000):
        spool.append(b"%d" % number)
    assert (spool.dropped, spool.waiting) == (2_000, 10_000)
    assert spool.take(0, 2, 100) == [(2001, b"2000"), (2002, b"2001")]
    assert spool.take(2001, 5, 5) == [(2002, b"2001")]
    now[0] = 3.0
    spool.acknowledge(2002)
    assert (spool.waiting, spool.waits_s) == (9_998, [3.0, 3.0])
    assert (spool.is_new_order("a"), spool.is_new_order("a")) == (True, False)
