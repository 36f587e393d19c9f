"""The streams of nodes: the newest of each, and what waits to be told on it."""

from __future__ import annotations

from gpuwarden.aggregator.streams import Stream, Streams
from gpuwarden.config_aggregator import IngestConfig
from gpuwarden.model.fleet import Greeting
from gpuwarden.wire.v1 import fleet_pb2 as pb

GREETING = Greeting(node="n1", boot_id="b", log_id="log")


def joined(streams: Streams, number: int) -> Stream:
    return streams.join(GREETING, number, 100.0)


def test_the_newer_stream_stays_whichever_comes_first() -> None:
    for first, second in ((1, 2), (2, 1)):
        streams = Streams(IngestConfig())
        both = {number: joined(streams, number) for number in (first, second)}
        assert streams.by_node["n1"] is both[2]
        assert both[1].end_code == "ABORTED"
        assert not both[2].end


def test_a_stream_elsewhere_ends_an_older_one_alone() -> None:
    streams = Streams(IngestConfig())
    mine = joined(streams, 5)
    for number in (4, 5):
        streams.overtaken("n1", number)
        assert not mine.end
    streams.overtaken("n2", 9)
    streams.overtaken("n1", 6)
    assert mine.end_code == "ABORTED"


def test_case_10_leave_ends_when_it_was_to_end_though_this_process_was_stopped() -> None:
    stream = joined(Streams(IngestConfig()), 1)
    permit, order = pb.Permit(id="p", ttl_s=60), pb.Order(id="o", ttl_s=15)
    stream.tell(pb.Directive(permits=[permit], orders=[order]), 100.0)
    stream.tell(pb.Directive(permits=[permit]), 100.0)
    told = stream.next_directive(120.0)
    assert told is not None
    assert (told.permits[0].ttl_s, told.orders[0].ttl_s) == (40.0, 0.0)
    late = stream.next_directive(190.0)
    assert late is not None
    assert late.permits[0].ttl_s == 0.0
    assert stream.next_directive(190.0) is None
