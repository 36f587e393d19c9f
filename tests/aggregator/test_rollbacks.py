"""Rollbacks over nodes at a real aggregator: dead nodes, half a batch, and one that is ended in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.aggregator.rollout_parts import carriers
from gpuwarden.clock import SystemClock
from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1 import rollout_pb2 as ro
from gpuwarden.wire.v1.rollout_pb2_grpc import RolloutServiceStub
from tests.aggregator.centre import Centre, event, sample

WAIT_S = 30.0


class Worker:
    """A node that carries a service, and does what it is ordered; ``ends``: how, or None: it begins and never ends."""

    def __init__(self, centre: Centre, name: str, ends: bool | None = True, **hello: Any) -> None:
        self.name, self.ends = name, ends
        self.orders: list[str] = []
        self.line = centre.line(name, **hello)
        self._sequence = 0
        tenant = pb.TenantSample(tenant="docker:x", name="risk", service="risk", device=0)
        self.line.batch(samples=[sample(1, tenants=[tenant])])
        self._thread = threading.Thread(target=self._obey, daemon=True)
        self._thread.start()

    def _obey(self) -> None:
        while True:
            try:
                response = self.line.next()
            except Exception:  # noqa: BLE001  the stream has ended, or nothing came
                return
            for order in response.directive.orders:
                self.orders.append(order.id)
                self._do(order)

    def _do(self, order: pb.Order) -> None:
        done = pb.OrderResult(order=order.id, is_done=True, text=f"{order.subject} (inc)")
        self.tell(order=done)
        summary = f"root rolls risk back: {order.reason} (by {order.by}, order {order.id})"
        facts: dict[str, Any] = {
            "id": f"inc-{order.id}",
            "rule": "rollback",
            "opened_wall": 1.7e9,
            "summary": summary,
        }
        self.tell(incident=node.Incident(**facts))
        if self.ends is None:
            return
        step = node.IncidentStep(kind="roll-back", text="risk: v2 back to v1 [no such image]")
        outcome = "service rolled back" if self.ends else "not rolled back: what ran before runs on"
        over: dict[str, Any] = {
            "closed_at": 2.0,
            "closed_wall": 1.7e9 + 5,
            "outcome": outcome,
            "steps": [step],
        }
        self.tell(incident=node.Incident(**facts, **over))

    def tell(self, **body: Any) -> None:
        self._sequence += 1
        self.line.batch(events=[event(self._sequence, **body)])


def stub(centre: Centre, role: Role = Role.OPERATOR) -> Any:
    return RolloutServiceStub(centre.channel(centre.credentials(role, "somebody")))


def until(what: Callable[[], Any]) -> Any:
    """Its first true answer."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if found := what():
            return found
        SystemClock().sleep(0.05)
    raise AssertionError("not within its time")


def campaign(centre: Centre) -> ro.Campaign:
    said: ro.RolloutsResponse = stub(centre).Rollouts(ro.RolloutsRequest(service="risk"))
    (found,) = said.campaigns
    return found


def turns(centre: Centre) -> dict[str, str]:
    return {turn.node: turn.turn for turn in campaign(centre).nodes}


def begin(centre: Centre, **rest: Any) -> ro.Campaign:
    request = ro.RollBackRequest(service="risk", version="v1", reason="p99", **rest)
    begun: ro.Campaign = stub(centre).RollBack(request).campaign
    return begun


def begin_nodes(centre: Centre) -> list[str]:
    """Who is known to carry it."""
    return list(carriers(centre.parts.fleet, centre.parts.ingest, "risk"))


def test_every_node_that_carries_it_is_ordered_once(tmp_path: Path) -> None:
    with Centre(tmp_path, rollout={"batch_ratio": 0.5}) as centre:
        workers = [Worker(centre, name) for name in ("n1", "n2", "n3", "n4")]
        until(lambda: len(begin_nodes(centre)) == 4)
        begun = begin(centre)
        assert {turn.node for turn in begun.nodes} == {"n1", "n2", "n3", "n4"}
        until(lambda: campaign(centre).state == "done")
        assert [len(worker.orders) for worker in workers] == [1, 1, 1, 1]
        audit = [line.what for line in centre.parts.store.audit_lines(0, 100)]
        assert audit.index("rollback") >= 0


def test_nodes_that_fail_halt_it(tmp_path: Path) -> None:
    with Centre(tmp_path, rollout={"failed_most": 0}) as centre:
        for name in ("n1", "n2", "n3"):
            Worker(centre, name, ends=False)
        until(lambda: len(begin_nodes(centre)) == 3)
        begin(centre)
        until(lambda: campaign(centre).state == "halted")
        assert sorted(turns(centre).values()) == ["failed", "waiting", "waiting"]
        assert "no such image" in campaign(centre).why


def test_an_aggregator_that_ends_half_way_is_taken_on_where_it_stopped(tmp_path: Path) -> None:
    rollout = {"batch_ratio": 0.34}
    with Centre(tmp_path, rollout=rollout) as centre:
        first = [Worker(centre, name, ends=None) for name in ("n1", "n2", "n3")]
        until(lambda: len(begin_nodes(centre)) == 3)
        begin(centre)
        until(lambda: any(worker.orders for worker in first))
        until(lambda: "ordered" in turns(centre).values())
        done = next(worker for worker in first if worker.orders)
        (order,) = done.orders
    with Centre(tmp_path, rollout=rollout) as again:
        later = {
            name: Worker(again, name, log_id="log-2" if name != done.name else "log-1")
            for name in ("n1", "n2", "n3")
        }
        summary = f"root rolls risk back (order {order})"
        facts: dict[str, Any] = {
            "id": f"inc-{order}",
            "rule": "rollback",
            "opened_wall": 1.7e9,
            "summary": summary,
        }
        over: dict[str, Any] = {
            "closed_at": 2.0,
            "closed_wall": 1.7e9 + 5,
            "outcome": "service rolled back",
        }
        later[done.name]._sequence = 2
        later[done.name].tell(incident=node.Incident(**facts, **over))
        until(lambda: campaign(again).state == "done")
        assert later[done.name].orders == [], "what it did under the first is not ordered again"
        assert [len(later[n].orders) for n in later if n != done.name] == [1, 1]


def test_a_dead_node_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with Centre(tmp_path, rollout={"node_s": 3.0, "batch_ratio": 1.0}) as centre:
        workers = [Worker(centre, name) for name in ("n1", "n2")]
        dead = Worker(centre, "n3", ends=None)
        until(lambda: len(begin_nodes(centre)) == 3)
        dead.line.close()
        view = centre.parts.fleet
        until(lambda: not all(n.is_connected for n in view.view.nodes))
        started = begin(centre)
        assert len(started.nodes) >= 2
        until(lambda: campaign(centre).state != "running")
        found = turns(centre)
        assert {found["n1"], found["n2"]} == {"done"}
        assert found.get("n3", "lost") == "lost"
        assert all(len(worker.orders) == 1 for worker in workers)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.NODE])
def test_who_may_not_act_may_not_roll_back(tmp_path: Path, role: Role) -> None:
    with Centre(tmp_path) as centre:
        with pytest.raises(grpc.RpcError) as refused:
            stub(centre, role).RollBack(ro.RollBackRequest(service="risk"))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_two_at_once_are_refused_and_the_same_again_is_the_same(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        Worker(centre, "n1", ends=None)
        until(lambda: begin_nodes(centre))
        first = begin(centre, id="mine")
        assert begin(centre, id="mine").id == first.id
        with pytest.raises(grpc.RpcError, match="is being rolled back already"):
            stub(centre).RollBack(ro.RollBackRequest(service="risk", id="other"))
