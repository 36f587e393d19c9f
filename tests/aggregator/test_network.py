"""Cases 40 to 42: a network that loses, goes silent, or speaks in one direction. Times are scaled by twelve."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.model.fleet import Role
from gpuwarden.model.ids import IncidentId
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.adapters.test_uplink import Node, eventually
from tests.aggregator.centre import Centre
from tests.aggregator.proxy import Proxy
from tests.sample_view import incident, view

SCALE = 12
KEEPALIVE: dict[str, Any] = {"keepalive_s": 30 / SCALE, "keepalive_timeout_s": 20 / SCALE}
FIVE_MINUTES_S = 300 / SCALE


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre", ingest={"commit_s": 0.01, **KEEPALIVE}) as serving:
        yield serving


def node(centre: Centre, folder: Path, proxy: Proxy) -> Node:
    made = Node(centre, folder / "n1", via=proxy.address, **KEEPALIVE)
    made.start()
    return made


def tell(made: Node, upto: int) -> None:
    """A picture with so many incidents."""
    made.show(
        replace(
            view(),
            incidents=tuple(
                replace(incident(), id=IncidentId(f"inc-{n}"), steps=()) for n in range(upto)
            ),
        )
    )


def ids(centre: Centre) -> set[str]:
    return {each.id for each in centre.parts.store.incidents_named("n1", "", 1000)}


def _waits_at_most(made: Node, events: int) -> bool:
    return made.spool.waiting <= events


def connected(centre: Centre) -> bool:
    return any(n.is_connected for n in centre.parts.fleet.view.nodes)


def test_case_41_a_network_that_loses_a_third_keeps_its_stream(
    centre: Centre, tmp_path: Path
) -> None:
    """Five minutes of it, and nobody is told that it pings too often."""
    with Proxy(centre.address, lost=0.3, late_s=2 / SCALE) as proxy:
        made = node(centre, tmp_path, proxy)
        try:
            waited, told = threading.Event(), 0
            for told in range(1, 26):
                tell(made, told)
                waited.wait(FIVE_MINUTES_S / 25)
            eventually(lambda: len(ids(centre)) == told, "every incident")
            assert (made.uplink.connects, made.uplink.failures, proxy.connections) == (1, 0, 1)
        finally:
            made.close()


def test_case_41_a_quiet_stream_is_not_called_too_chatty(centre: Centre, tmp_path: Path) -> None:
    """Nothing is said for five minutes but pings: no GOAWAY."""
    with Proxy(centre.address) as proxy:
        made = Node(centre, tmp_path / "n1", via=proxy.address, **KEEPALIVE, batch_s=600.0)
        made.start()
        try:
            tell(made, 1)
            eventually(lambda: ids(centre) == {"inc-0"}, "the incident")
            threading.Event().wait(FIVE_MINUTES_S)
            assert (made.uplink.connects, made.uplink.failures, made.uplink.fault) == (1, 0, "")
        finally:
            made.close()


def test_case_41_a_half_open_stream_is_found_by_both_sides(centre: Centre, tmp_path: Path) -> None:
    with Proxy(centre.address) as proxy:
        made = node(centre, tmp_path, proxy)
        try:
            tell(made, 1)
            eventually(lambda: ids(centre) == {"inc-0"} and connected(centre), "the incident")
            proxy.hold()
            eventually(lambda: made.uplink.fault, "the node finds that its stream is dead")
            eventually(lambda: not connected(centre), "so does the aggregator")
            tell(made, 3)
            proxy.cut()
            proxy.heal()
            eventually(lambda: len(ids(centre)) == 3, "what happened meanwhile")
            assert connected(centre)
        finally:
            made.close()


def test_case_42_where_answers_are_lost_things_are_said_twice_and_done_once(
    centre: Centre, tmp_path: Path
) -> None:
    with Proxy(centre.address) as proxy:
        made = node(centre, tmp_path, proxy)
        try:
            tell(made, 1)
            eventually(lambda: ids(centre) == {"inc-0"}, "the incident")
            eventually(lambda: made.spool.waiting == 0, "acknowledged")
            proxy.hold(up=False)
            tell(made, 4)
            eventually(lambda: len(ids(centre)) == 4, "it is heard")
            assert made.spool.waiting > 0, "and the node does not know"
            proxy.cut()
            proxy.heal()
            eventually(lambda: made.spool.waiting == 0, "said again, and acknowledged")
            assert len(ids(centre)) == 4
            request = pb.OrderRequest(
                node="n1", verb="cordon", subject="node", reason="x", id="o-1"
            )
            query = centre.query(Role.OPERATOR)
            for _ in range(2):
                query.Order(request, timeout=20)
            assert len(made.obeyed) == 1
        finally:
            made.close()


def test_case_40_unacknowledged_events_keep_to_the_window(tmp_path: Path) -> None:
    """For as long as the stream is not known to be dead, which here takes most of a minute."""
    with Centre(tmp_path / "centre") as centre, Proxy(centre.address) as proxy:
        made = Node(centre, tmp_path / "n1", via=proxy.address)
        made.start()
        try:
            tell(made, 1)
            eventually(lambda: ids(centre) and made.spool.waiting == 0, "acknowledged")
            session = made.uplink._session
            assert session is not None
            proxy.hold(up=False)
            tell(made, 600)
            eventually(lambda: made.spool.waiting > 500, "they wait on disk")
            eventually(lambda: session.room() == 0, "as many are sent as may be")
            assert session.sent - session.upto <= session.window < 500
            proxy.cut()
            proxy.heal()
            for left in (400, 200, 0):
                eventually(partial(_waits_at_most, made, left), f"all but {left} of them")
            assert len(ids(centre)) == 600
        finally:
            made.close()
