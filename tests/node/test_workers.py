"""Workers: bounded lanes, counted drops, a lane that hangs stops only itself."""

import select
import threading

from gpuwarden.model.action import Action, Kind, Outcome, Result
from gpuwarden.model.ids import IncidentId
from gpuwarden.node.workers import MAX_LANES, PAGE_LANE, QUEUE, ThreadWorkers


def action(name: str = "a") -> Action:
    return Action(id=name, kind=Kind.STOP, incident=IncidentId("i"), why="test")


def outcome(name: str) -> Outcome:
    return Outcome(
        action=name,
        kind=Kind.STOP,
        incident=IncidentId("i"),
        tenant=None,
        device=None,
        result=Result.DONE,
        at=1.0,
        wall=1.0,
    )


def wait_readable(workers: ThreadWorkers) -> None:
    ready, _, _ = select.select(list(workers.filenos()), [], [], 10)
    assert ready, "no outcome came"


def test_an_outcome_makes_the_descriptor_readable_once() -> None:
    workers = ThreadWorkers()
    assert workers.submit("node", action(), lambda: outcome("a"))
    wait_readable(workers)
    assert [o.action for o in workers.finished()] == ["a"]
    assert workers.finished() == ()
    ready, _, _ = select.select(list(workers.filenos()), [], [], 0)
    assert not ready
    workers.close()


def test_a_lane_that_hangs_stops_only_itself() -> None:
    workers = ThreadWorkers()
    gate = threading.Event()

    def hang() -> Outcome:
        gate.wait(30)
        return outcome("hung")

    assert workers.submit("device 0", action(), hang)
    assert workers.submit("device 1", action(), lambda: outcome("free"))
    wait_readable(workers)
    assert [o.action for o in workers.finished()] == ["free"]
    gate.set()
    wait_readable(workers)
    assert [o.action for o in workers.finished()] == ["hung"]
    workers.close()


def test_a_full_lane_refuses_and_counts() -> None:
    workers = ThreadWorkers()
    gate = threading.Event()
    started = threading.Event()

    def hang() -> Outcome:
        started.set()
        gate.wait(30)
        return outcome("hung")

    assert workers.submit("node", action(), hang)
    assert started.wait(10)
    for _ in range(QUEUE):
        assert workers.submit("node", action(), lambda: outcome("queued"))
    assert not workers.submit("node", action(), lambda: outcome("late"))
    assert workers.dropped == 1
    gate.set()
    workers.close()


def test_lanes_are_bounded() -> None:
    workers = ThreadWorkers()
    for number in range(MAX_LANES):
        assert workers.submit(f"lane {number}", action(), lambda: outcome("x"))
    assert not workers.submit("one more", action(), lambda: outcome("x"))
    assert workers.dropped == 1
    workers.close()


def test_a_storm_of_pages_is_taken_whole() -> None:
    workers = ThreadWorkers()
    gate = threading.Event()

    def wait() -> Outcome:
        gate.wait(30)
        return outcome("page")

    assert all(workers.submit(PAGE_LANE, action(), wait) for _ in range(20 * QUEUE))
    assert workers.dropped == 0
    gate.set()
    workers.close()
