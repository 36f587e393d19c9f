"""What people ask: pages, filters, changes as they come, and refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.aggregator.centre import Centre, Line, event, incident, sample

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with Centre(Path(tmp_path_factory.mktemp("centre"))) as serving:
        yield serving


@pytest.fixture(scope="module")
def lines(centre: Centre) -> Iterator[list[Line]]:
    """Seven nodes; the last of another group and cordoned."""
    made = [centre.line(f"n{number}") for number in range(6)]
    made.append(centre.line("other", group="batch"))
    for number, line in enumerate(made):
        line.batch(
            samples=[sample(is_cordoned=line is made[-1])],
            events=[event(1, incident(f"inc-{number}", closed_wall=1.8e9 if number else None))],
        )
        line.until_acked(1)
    query = centre.query()
    while sum(n.devices > 0 for n in query.Nodes(pb.NodesRequest()).nodes) < 7:
        pass
    yield made
    for line in made:
        line.close()


def refused(call: Any, request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value


def test_nodes_page_by_page(centre: Centre, lines: list[Line]) -> None:
    query, seen, token = centre.query(Role.VIEWER), [], ""
    while True:
        page = query.Nodes(pb.NodesRequest(page_size=3, page_token=token))
        assert page.total == 7
        seen += [each.node for each in page.nodes]
        token = page.next_page_token
        if not token:
            break
    assert seen == [*(f"n{number}" for number in range(6)), "other"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (pb.NodesRequest(group="batch"), ["other"]),
        (pb.NodesRequest(prefix="n", page_size=2), ["n0", "n1"]),
        (pb.NodesRequest(states=[pb.NODE_STATE_CORDONED]), ["other"]),
        (pb.NodesRequest(states=[pb.NODE_STATE_SILENT]), []),
    ],
)
def test_filters(
    centre: Centre, lines: list[Line], request_: pb.NodesRequest, expected: list[str]
) -> None:
    assert [each.node for each in centre.query().Nodes(request_).nodes] == expected


def test_samples_come_where_they_are_asked_for(centre: Centre, lines: list[Line]) -> None:
    query = centre.query()
    assert not query.Nodes(pb.NodesRequest()).nodes[0].HasField("sample")
    with_sample = query.Nodes(pb.NodesRequest(with_sample=True)).nodes[0]
    assert with_sample.sample.devices[0].sight == node.SIGHT_OK


def test_status_counts(centre: Centre, lines: list[Line]) -> None:
    said = centre.query(Role.VIEWER).Status(pb.StatusRequest())
    assert {(each.state, each.count) for each in said.states} == {
        (pb.NODE_STATE_HEALTHY, 6),
        (pb.NODE_STATE_CORDONED, 1),
    }
    assert said.incidents_open == 1


def test_incidents_page_by_page(centre: Centre, lines: list[Line]) -> None:
    query, seen, token = centre.query(), set(), ""
    while True:
        request = pb.FleetIncidentsRequest(page_size=3, page_token=token)
        page = query.FleetIncidents(request)
        seen |= {(each.node, each.incident.id) for each in page.incidents}
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == 7
    still = query.FleetIncidents(pb.FleetIncidentsRequest(is_open_only=True)).incidents
    assert [each.incident.id for each in still] == ["inc-0"]


@pytest.mark.parametrize("token", ["x", "AAAA", "W10=", "WyJhIiwgMV0=", "é", "A" * 5000])
def test_a_page_that_is_not_ours(centre: Centre, token: str) -> None:
    query = centre.query()
    for call, request in (
        (query.Nodes, pb.NodesRequest(page_token=token)),
        (query.FleetIncidents, pb.FleetIncidentsRequest(page_token=token)),
    ):
        assert refused(call, request).code() is Code.INVALID_ARGUMENT


def test_what_is_not_there_is_not_found(centre: Centre, lines: list[Line]) -> None:
    query = centre.query()
    error = refused(query.FleetExplain, pb.FleetExplainRequest(incident="inc-99"))
    assert error.code() is Code.NOT_FOUND
    error = refused(query.FleetExplain, pb.FleetExplainRequest(incident="inc"))
    assert error.code() is Code.NOT_FOUND
    assert "fits several" in (error.details() or "")
    order = pb.OrderRequest(node="n99", verb="cordon", subject="0")
    assert refused(query.Order, order).code() is Code.NOT_FOUND


@pytest.mark.parametrize(
    "wrong",
    [{"verb": "reboot"}, {"id": "a b"}, {"reason": "x" * 2000}, {"subject": "x" * 999}],
)
def test_orders_that_are_none(centre: Centre, lines: list[Line], wrong: dict[str, str]) -> None:
    values = {"node": "n0", "verb": "cordon", "subject": "0", **wrong}
    error = refused(centre.query().Order, pb.OrderRequest(**values))
    assert error.code() is Code.INVALID_ARGUMENT


def test_an_order_for_who_does_not_answer_says_that_it_may_still_come(tmp_path: Path) -> None:
    with Centre(tmp_path, ask={"order_s": 0.3}) as centre:
        line = centre.line("n1")
        line.batch(samples=[sample()])
        query = centre.query()
        while not query.Nodes(pb.NodesRequest()).nodes:
            pass
        order = pb.OrderRequest(node="n1", verb="cordon", subject="0", id="o1")
        error = refused(query.Order, order)
        assert error.code() is Code.UNAVAILABLE
        assert "order o1" in (error.details() or "")
        while not any(d.orders for d in line.directives):
            line.next()
        (sent,) = next(d for d in line.directives if d.orders).orders
        assert (sent.node, sent.boot_id, sent.by) == ("n1", "boot-1", "somebody (admin)")
        line.close()


def test_of_another_nodes_order_nobody_else_may_speak(tmp_path: Path) -> None:
    with Centre(tmp_path, ask={"order_s": 0.5}) as centre:
        line, liar = centre.line("n1"), centre.line("n2")
        query = centre.query()
        while len(query.Nodes(pb.NodesRequest()).nodes) < 2:
            pass
        result = pb.OrderResult(order="o1", is_done=True, text="trust me")
        liar.batch(events=[event(1, order=result)])
        liar.until_acked(1)
        order = pb.OrderRequest(node="n1", verb="cordon", subject="0", id="o1")
        call = query.Order.future(order, timeout=20)
        while not any(d.orders for d in line.directives):
            line.next()
        liar.batch(events=[event(2, order=result)])
        liar.until_acked(2)
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert caught.value.code() is Code.UNAVAILABLE


def test_a_watcher_hears_of_changes_alone(centre: Centre, lines: list[Line]) -> None:
    call = centre.query().WatchFleet(pb.WatchFleetRequest(), timeout=20)
    first = next(call)
    assert len(first.changed) == 7
    lines[0].batch(samples=[sample(2, degraded=["the journal cannot be written"])])
    changed = next(m for m in call if m.changed).changed
    assert [(each.node, each.state) for each in changed] == [("n0", pb.NODE_STATE_DEGRADED)]
    call.cancel()
    lines[0].batch(samples=[sample(3)])


def test_a_question_that_is_none(centre: Centre) -> None:
    assert refused(centre.query().Query, pb.QueryRequest()).code() is Code.INVALID_ARGUMENT
