"""What of a node's message is about services."""

from collections.abc import Callable
from dataclasses import dataclass

from gpuwarden.aggregator.streams import Stream
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire import review_check, window_check
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What of one message is about services."""

    node: str
    stream: int
    windows: tuple[pb.ServiceWindow, ...]
    verdicts: tuple[pb.GuardrailVerdict, ...]
    size: int
    reviews: tuple[pb.ReviewItem, ...] = ()


HearServices = Callable[[Arrival], None]


def of_services(batch: fleet_pb2.Batch, stream: Stream, size: int) -> Arrival:
    """What of a message is about services; ``Refused`` when it is more than one may hold."""
    check.length("batch.windows", batch.windows, window_check.WINDOWS_MAX)
    check.length("batch.verdicts", batch.verdicts, window_check.VERDICTS_MAX)
    check.length("batch.reviews", batch.reviews, review_check.ITEMS_MAX)
    return Arrival(
        node=stream.greeting.node,
        stream=stream.number,
        windows=tuple(batch.windows),
        verdicts=tuple(batch.verdicts),
        size=size,
        reviews=tuple(batch.reviews),
    )
