"""An event that the aggregator will not take is let go of by itself: named, counted, said once; no other is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.adapters.test_uplink import Node, eventually, ids
from tests.aggregator.centre import Centre, event, incident
from tests.sample_view import view


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre", ingest={"quarantine_s": 1, "commit_s": 0.01}) as serving:
        yield serving


def told(name: str) -> bytes:
    return pb.FleetEvent(wall=1.7e9, incident=incident(name)).SerializeToString()


def bad() -> bytes:
    """Its id is none."""
    body = node.Incident(id="not an id", rule="quota", opened_wall=1.7e9)
    return pb.FleetEvent(wall=1.7e9, incident=body).SerializeToString()


def test_of_many_only_what_is_refused_is_lost(centre: Centre, tmp_path: Path) -> None:
    here = Node(centre, tmp_path / "n1")
    for payload in (told("a"), bad(), told("b"), told("c"), bad(), told("d")):
        here.spool.append(payload)
    try:
        here.start()
        here.show(view())
        eventually(lambda: ids(centre) >= {"a", "b", "c", "d"}, "all others")
        eventually(lambda: here.spool.waiting == 0, "nothing waits")
        assert here.uplink.counters()["fleet", "events_rejected"] == 2
        assert here.uplink.connects == 1  # the stream went on
    finally:
        here.close()


def test_a_node_that_is_kept_out_for_them_is_told_of_them_first(
    centre: Centre, tmp_path: Path
) -> None:
    here = Node(centre, tmp_path / "n1")
    for payload in (told("a"), bad(), bad(), bad(), bad(), told("b")):
        here.spool.append(payload)
    try:
        here.start()
        here.show(view())
        eventually(lambda: ids(centre) >= {"a", "b"}, "all others")
        eventually(lambda: here.spool.waiting == 0, "nothing waits")
        assert here.uplink.rejected == 4
        assert centre.parts.ingest.streams.quarantines >= 1
    finally:
        here.close()


def test_what_is_wrong_with_the_hello_costs_no_event(centre: Centre, tmp_path: Path) -> None:
    here = Node(centre, tmp_path / "n1", group="not a group")
    for name in ("a", "b"):
        here.spool.append(told(name))
    try:
        here.start()
        here.show(view())
        eventually(lambda: here.uplink.failures >= 2, "it was refused twice")
        assert "INVALID_ARGUMENT" in here.uplink.fault
        kept = [pb.FleetEvent.FromString(p).incident.id for _, p in here.spool.take(0, 2, 2**20)]
        assert (kept, here.uplink.rejected) == (["a", "b"], 0)
    finally:
        here.close()


def test_events_beside_what_cannot_be_taken_are_asked_for_again(centre: Centre) -> None:
    line = centre.line("n1")
    line.batch(events=[event(1)])
    line.until_acked(1)
    line.batch(events=[event(2)], samples=[pb.Sample(sequence=1, mode="nonsense")])
    line.batch(events=[event(3)])
    assert line.ended().name == "INVALID_ARGUMENT"
    again = centre.line("n1")
    again.next()
    assert again.events_upto == 1  # 3 was not taken for all before it
    again.close()
