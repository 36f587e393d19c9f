"""What waits to be looked at: in order, and one stream's can be had without the others'."""

from __future__ import annotations

from gpuwarden.aggregator.put_by import BYTES_MAX, MANY_MAX, PutBy
from gpuwarden.aggregator.streams import Stream, Streams
from gpuwarden.config_aggregator import IngestConfig
from gpuwarden.model.fleet import Greeting


def stream(node: str) -> Stream:
    return Streams(IngestConfig()).join(Greeting(node=node, boot_id="b", log_id="l"), 1, 0.0)


def test_one_streams_messages_come_before_those_of_others_and_in_their_order() -> None:
    one, other, waiting = stream("one"), stream("other"), PutBy()
    for number in range(4):
        waiting.add(one if number % 2 else other, bytes([number]), float(number))
    assert [data for _, data, _ in waiting.pop_all_of(one)] == [b"\1", b"\3"]
    assert (one.put_by, other.put_by) == (0, 2)
    assert waiting.pop_all_of(one) == []
    assert [waiting.pop()[1], waiting.pop()[1]] == [b"\0", b"\2"]
    assert not waiting


def test_it_is_full_by_number_and_by_size_and_has_room_again() -> None:
    one, waiting = stream("one"), PutBy()
    found = [waiting.is_full]
    waiting.add(one, bytes(BYTES_MAX), 0.0)
    found.append(waiting.is_full)
    waiting.pop()
    found.append(waiting.is_full)
    for _ in range(MANY_MAX):
        waiting.add(one, b"", 0.0)
    found.append(waiting.is_full)
    waiting.pop_all_of(one)
    found.append(waiting.is_full)
    assert found == [False, True, False, True, False]
