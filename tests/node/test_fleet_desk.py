"""The node's side of the fleet: permits in hand, orders from afar, each only once and only for us."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.command import Answer, Verb
from gpuwarden.model.fleet import Denial, Leave, Order, Permit
from gpuwarden.model.ids import DeviceId
from gpuwarden.node.fleet_desk import NodeFleetDesk
from gpuwarden.sim.node.clock import SimClock
from tests.sample_view import INCIDENT, view

BOOT = view().snapshot.boot_id
CFG = FleetConfig(aggregator=("127.0.0.1:1",))


class Loop:
    """Stands for the node's loop: notes what it was asked, and answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Verb, str, str]] = []
        self.is_down = False

    def ask(self, verb: Verb, subject: str, reason: str, uid: int, timeout_s: float) -> Answer:
        if self.is_down:
            raise Unavailable("no answer")
        self.asked.append((verb, subject, reason))
        return Answer(command=1, is_done=subject != "9", text="done", incident=None)


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def desk(clock: SimClock, loop: Loop) -> Iterator[NodeFleetDesk]:
    made = NodeFleetDesk(CFG, clock, "n1", "1.0", loop.ask)
    made.look(view())
    made.start()
    yield made
    made.close()


def wanting(device: str = "GPU-0") -> object:
    held = Withheld(
        kind=Kind.CORDON,
        incident=INCIDENT,
        tenant=None,
        device=DeviceId(device),
        budget="permit",
        detail="no permit",
    )
    return replace(view(), withheld=(held,))


def permit(desk: NodeFleetDesk, clock: SimClock) -> Permit:
    (ask,) = desk.asks()
    return Permit(
        id="p1",
        node="n1",
        boot_id=BOOT,
        ask=ask.id,
        kind=ask.kind,
        subject=ask.subject,
        group="",
        granted_wall=0.0,
        expires_at=clock.now() + 60,
    )


def order(clock: SimClock, **more: object) -> Order:
    values: dict[str, object] = {
        "id": "o1",
        "node": "n1",
        "boot_id": BOOT,
        "verb": "cordon",
        "subject": "0",
        "reason": "why",
        "by": "alice (operator)",
        "expires_at": clock.now() + 15,
        **more,
    }
    return Order(**values)  # type: ignore[arg-type]


def answers(desk: NodeFleetDesk) -> list[tuple[str, bool, str, str]]:
    found: list[tuple[str, bool, str, str]] = []
    for _ in range(200):
        found += desk.answered()
        if found:
            break
        threading.Event().wait(0.02)
    return found


def test_nothing_is_allowed_before_the_fleet_says_so(desk: NodeFleetDesk, clock: SimClock) -> None:
    assert desk.leave(clock.now()) == Leave(is_required=True)


def test_a_permit_is_in_hand_for_its_time_and_then_wanted_again(
    desk: NodeFleetDesk, clock: SimClock
) -> None:
    desk.look(wanting())  # type: ignore[arg-type]
    given = permit(desk, clock)
    desk.receive([given], [], is_required=True)
    assert desk.leave(clock.now()).permits == (("cordon", "GPU-0"),)
    assert desk.asks() == []
    clock.advance(clock.now() + 61)
    desk.linked(True)
    assert desk.leave(clock.now()).permits == ()
    assert len(desk.asks()) == 1


def test_permits_wake_the_loop(desk: NodeFleetDesk, clock: SimClock) -> None:
    import select

    (fd,) = desk.filenos()
    assert select.select([fd], [], [], 0)[0] == []
    desk.look(wanting())  # type: ignore[arg-type]
    desk.receive([permit(desk, clock)], [], is_required=True)
    assert select.select([fd], [], [], 0)[0] == [fd]
    desk.leave(clock.now())
    assert select.select([fd], [], [], 0)[0] == []


def test_a_fleet_without_the_brake_lets_the_node_alone(
    desk: NodeFleetDesk, clock: SimClock
) -> None:
    desk.receive([], [], is_required=False)
    assert desk.leave(clock.now()) == Leave(is_required=False)


def test_why_leave_is_withheld_is_told_until_it_is_not_wanted(
    desk: NodeFleetDesk, clock: SimClock
) -> None:
    desk.linked(True)
    desk.look(wanting())  # type: ignore[arg-type]
    (ask,) = desk.asks()
    denial = Denial(node="n1", ask=ask.id, budget="window", detail="2 of 2 nodes")
    desk.receive([], [denial], is_required=True)
    assert desk.complaints() == ["the fleet withholds leave: 2 of 2 nodes"]
    desk.look(view())
    assert desk.complaints() == []


def test_alone_it_gives_itself_leave_once(desk: NodeFleetDesk, clock: SimClock) -> None:
    desk.look(wanting())  # type: ignore[arg-type]
    clock.advance(clock.now() + CFG.local_after_s + 1)
    assert desk.leave(clock.now()).permits == (("cordon", "GPU-0"),)
    desk.look(wanting("GPU-1"))  # type: ignore[arg-type]
    assert ("cordon", "GPU-1") not in desk.leave(clock.now()).permits


def test_while_the_aggregator_is_heard_it_gives_itself_nothing(
    desk: NodeFleetDesk, clock: SimClock
) -> None:
    desk.linked(True)
    desk.look(wanting())  # type: ignore[arg-type]
    clock.advance(clock.now() + 1000)
    assert desk.leave(clock.now()).permits == ()


def test_an_order_is_obeyed_and_says_whose_it_was(
    desk: NodeFleetDesk, clock: SimClock, loop: Loop
) -> None:
    desk.order(order(clock))
    assert answers(desk) == [("o1", True, "done", "")]
    assert loop.asked == [(Verb.CORDON, "0", "why (by alice (operator), order o1)")]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"node": "n2"}, "it is for n2"),
        ({"boot_id": "other"}, "it is for another boot of this node"),
        ({"expires_at": 0.0}, "it has expired"),
        ({"verb": "reboot"}, "no such command: reboot"),
    ],
)
def test_what_is_not_for_us_is_refused_with_the_reason(
    desk: NodeFleetDesk, clock: SimClock, loop: Loop, wrong: dict[str, object], said: str
) -> None:
    clock.advance(clock.now() + 1)
    desk.order(order(clock, **wrong))
    assert answers(desk) == [("o1", False, said, "")]
    assert loop.asked == []


def test_what_the_loop_declines_or_does_not_answer_is_said(
    desk: NodeFleetDesk, clock: SimClock, loop: Loop
) -> None:
    desk.order(order(clock, subject="9"))
    assert answers(desk) == [("o1", False, "done", "")]
    loop.is_down = True
    desk.order(order(clock, id="o2"))
    assert answers(desk) == [("o2", False, "no answer", "")]
