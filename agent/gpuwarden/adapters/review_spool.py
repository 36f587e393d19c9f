"""Predictions for people on their way to the aggregator, in memory until they are acknowledged.

Bounded in bytes; over the bound the segment with the most bytes gives up its oldest, which is counted. An
acknowledgement means that they are committed there; what is not acknowledged is sent again.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable

from gpuwarden.evaluate.quality.picking import Raise
from gpuwarden.evaluate.quality.sampling import Prediction
from gpuwarden.wire.fields import text
from gpuwarden.wire.review_check import ITEMS_MAX, TIMES_MAX
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2

BYTES_MAX = 512 * 1024
RAISES_MAX = 64
RAISE_MAX_S = 7 * 86_400.0
AGAIN_S = 30.0
"""What was sent and is not acknowledged by then is sent again: an aggregator whose store was ill says nothing."""


def to_item(prediction: Prediction) -> pb.ReviewItem:
    """Without its number. What is longer than the aggregator takes was left out by whoever made it."""
    return pb.ReviewItem(
        cohort=pb.Cohort(
            service=text(prediction.service),
            version=text(prediction.version),
            arm=text(prediction.arm),
            segment=text(prediction.segment),
        ),
        prediction_id=text(prediction.id),
        prediction=text(prediction.label),
        confidence=prediction.confidence,
        probabilities=prediction.probabilities,
        opinions=[text(each) for each in prediction.opinions],
        wall=prediction.at_wall,
        payload=text(prediction.input),
        is_random=prediction.is_random,
    )


class ReviewSpool:
    """Any thread. Numbers go on over restarts: they begin at the milliseconds of the wall clock."""

    def __init__(self, wall: float, bytes_max: int = BYTES_MAX) -> None:
        self._lock = threading.Lock()
        self._last = int(wall * 1000)
        self._max = bytes_max
        self._waiting: dict[int, tuple[str, bytes]] = {}
        self._bytes: Counter[str] = Counter()
        self._sent = 0
        self._sent_at = float("-inf")
        self.raises: tuple[Raise, ...] = ()
        """Replaced whole."""
        self.turn: Callable[[], None] = lambda: None
        """Called before anything is sent: what was picked since goes with it."""
        self.dropped = 0

    def put(self, predictions: Iterable[Prediction]) -> None:
        with self._lock:
            for each in predictions:
                self._last += 1
                message = to_item(each)
                message.sequence = self._last
                payload = message.SerializeToString()
                part = f"{each.service}/{each.segment}"
                self._waiting[self._last] = (part, payload)
                self._bytes[part] += len(payload)
            while self._bytes.total() > self._max:
                self._give_up()

    def _give_up(self) -> None:
        part = max(self._bytes, key=lambda name: (self._bytes[name], name))
        number = next(n for n, (its, _) in self._waiting.items() if its == part)
        self._remove(number)
        self.dropped += 1

    def _remove(self, number: int) -> None:
        part, payload = self._waiting.pop(number)
        self._bytes[part] -= len(payload)
        if not self._bytes[part]:
            del self._bytes[part]

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self) -> None:
        """A new stream: nothing was sent on it."""
        with self._lock:
            self._sent = 0

    def fill(self, batch: fleet_pb2.Batch, max_bytes: int, now: float) -> int:
        """Put what fits into a message; how many bytes."""
        self.turn()
        size = 0
        with self._lock:
            if self._sent and self._waiting and now - self._sent_at > AGAIN_S:
                self._sent = 0
            for number, (_, payload) in self._waiting.items():
                if number <= self._sent:
                    continue
                if len(batch.reviews) >= ITEMS_MAX or size + len(payload) > max_bytes:
                    break
                batch.reviews.add().ParseFromString(payload)
                size += len(payload)
                self._sent, self._sent_at = number, now
        return size

    def acknowledge(self, upto: int) -> None:
        with self._lock:
            for number in [n for n in self._waiting if n <= upto]:
                self._remove(number)

    def heed(self, told: Iterable[pb.SamplingRaise], now: float) -> None:
        """What the aggregator asks for; nonsense is left out, and so is what is beyond the bound."""
        fresh = {(r.service, r.segment): r for r in self.raises if r.until > now}
        for each in told:
            if not (1.0 < each.times <= TIMES_MAX and 0.0 < each.for_s <= RAISE_MAX_S):
                continue
            key = (each.service[:128], each.segment[:128])
            if key in fresh or len(fresh) < RAISES_MAX:
                fresh[key] = Raise(
                    service=key[0], segment=key[1], times=each.times, until=now + each.for_s
                )
        self.raises = tuple(fresh.values())
