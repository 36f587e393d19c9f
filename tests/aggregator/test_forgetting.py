"""A node that is gone for good is forgotten by an operator's word, on record, wherever its fleet is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.adapters.test_uplink import eventually
from tests.aggregator.centre import Centre, event, incident, sample
from tests.aggregator.pairs import asked, pair, permit

GONE = pb.ForgetRequest(node="n1", reason="scrapped")


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre") as serving:
        yield serving


def refused(call: Any, request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value


def came_and_went(centre: Centre, name: str) -> None:
    line = centre.line(name)
    line.batch(samples=[sample()], events=[event(1, incident("inc-1"))])
    line.until_acked(1)
    line.close()
    eventually(lambda: not connected(centre, name), f"{name} has gone")


def connected(centre: Centre, name: str) -> bool:
    return any(e.greeting.node == name and e.is_connected for e in centre.parts.fleet.view.nodes)


def knows(centre: Centre, wanted: list[str]) -> bool:
    return sorted(names(centre)) == wanted


def names(centre: Centre) -> list[str]:
    return [each.greeting.node for each in centre.parts.fleet.view.nodes]


def test_it_is_known_no_more_and_what_was_open_of_it_is_over(tmp_path: Path) -> None:
    with Centre(tmp_path / "centre") as centre:
        came_and_went(centre, "n1")
        came_and_went(centre, "n2")
        query = centre.query()
        assert query.Status(pb.StatusRequest()).incidents_open == 2
        query.Forget(GONE, timeout=20)
        eventually(lambda: names(centre) == ["n2"], "it is forgotten")
        assert query.Status(pb.StatusRequest()).incidents_open == 1
        told = query.FleetIncidents(pb.FleetIncidentsRequest(node="n1")).incidents
        assert len(told) == 1, "what was told of it stays"
        said = [(a.what, a.detail) for a in centre.parts.store.audit_lines(0, 100)]
        assert ("forget", "n1: scrapped") in said
    with Centre(tmp_path / "centre") as again:
        eventually(partial(knows, again, ["n2"]), "also after a restart")
        line = again.line("n1")
        line.batch(samples=[sample()], events=[event(1, incident("inc-2"))])
        line.until_acked(1)
        eventually(partial(knows, again, ["n1", "n2"]), "one that calls again is known again")
        line.close()


@pytest.mark.postgres
def test_what_one_aggregator_forgets_the_other_does_too(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        lines = [one.line("n1"), two.line("n2")]
        for line in lines:
            line.batch(samples=[sample()], events=[event(1)])
            line.until_acked(1)
        for each in (one, two):
            eventually(partial(knows, each, ["n1", "n2"]), "both know both")
        error = refused(two.query().Forget, GONE)
        assert "n1 is connected" in (error.details() or ""), "there, where it is not held, too"
        lines[0].close()
        eventually(lambda: not connected(two, "n1"), "two knows that it has gone")
        two.query().Forget(GONE, timeout=20)
        for each in (one, two):
            eventually(partial(knows, each, ["n2"]), "n1 is forgotten")


def test_leave_that_was_given_to_it_counts_and_troubles_nobody(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(samples=[sample()], events=[event(1)])
    asked(line, "a1", kind="reset-gpu")
    permit(line)
    line.close()
    eventually(lambda: not connected(centre, "n1"), "it has gone")
    centre.query().Forget(GONE, timeout=20)
    eventually(lambda: names(centre) == [], "it is forgotten")
    came_and_went(centre, "n2")
    assert centre.parts.fleet.failures == 0
    assert centre.parts.fleet.view.permits_held == 1


def test_one_that_is_connected_or_not_known_is_not_forgotten(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(samples=[sample()], events=[event(1)])
    line.until_acked(1)
    error = refused(centre.query().Forget, GONE)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "n1 is connected" in (error.details() or "")
    error = refused(centre.query().Forget, pb.ForgetRequest(node="n9", reason="scrapped"))
    assert "no node n9" in (error.details() or "")
    line.batch(samples=[sample(2)], events=[event(2)])
    line.until_acked(2)
    line.close()


@pytest.mark.parametrize(
    "request_", [pb.ForgetRequest(node="n1"), pb.ForgetRequest(node="../x", reason="r")]
)
def test_which_and_why_have_to_be_said(centre: Centre, request_: pb.ForgetRequest) -> None:
    came_and_went(centre, "n1")
    refused(centre.query().Forget, request_)
    assert names(centre) == ["n1"]


def test_security_only_an_administrator_may(centre: Centre) -> None:
    for role in (Role.VIEWER, Role.OPERATOR):
        error = refused(centre.query(role).Forget, GONE)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
