"""The streams that are open now: one a node, the newest. Touched by the event loop's thread alone."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gpuwarden.config_aggregator import IngestConfig
from gpuwarden.errors import Refused
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Greeting, Report
from gpuwarden.wire import convert_fleet as convert
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.v1 import fleet_pb2 as pb

DIRECTIVES_MAX = 64
REFUSED_MAX = 64
QUARANTINE_MAX_S = 3600.0
TAKEN_OVER = "a newer stream of this node has taken over"
SAMPLE_ACK_S = 30.0
"""Samples are acknowledged at most this often, events at once."""


@dataclass(slots=True)
class Stream:
    """One node's stream: what it has sent, what is committed of that, and what it is to be told."""

    number: int
    greeting: Greeting
    acked_at: float
    heard_at: float
    tokens: float
    events_seen: int = 0
    samples_seen: int = 0
    events_upto: int = 0
    samples_upto: int = 0
    windows_upto: int = 0
    reviews_upto: int = 0
    has_news: bool = False
    refused: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=REFUSED_MAX))
    """Events that are told to be refused with the next word to the node."""
    malformed: int = 0
    put_by: int = 0
    """How many of its messages wait to be looked at."""
    newest: pb.Sample | None = None
    is_shown: bool = False
    """Whether all of ``newest`` was looked at: only then may people see it."""
    directives: deque[tuple[float, pb.Directive]] = field(
        default_factory=lambda: deque(maxlen=DIRECTIVES_MAX)
    )
    """Each with the time from which its permits and orders count."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    end: str = ""
    """Why it is to be ended; empty: it is not."""
    end_code: str = ""

    def allow(self, cfg: IngestConfig, now: float) -> bool:
        """Whether one more message is within this node's rate."""
        self.tokens = min(
            float(cfg.messages_burst), self.tokens + (now - self.heard_at) * cfg.messages_per_s
        )
        self.heard_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def tell(self, directive: pb.Directive, now: float) -> None:
        """Have it sent; of many that wait the oldest is dropped."""
        self.directives.append((now, directive))
        self.wake.set()

    def take_samples(self, older: Iterable[int], newest: pb.Sample) -> Report:
        """The newest of several. Of ``older`` ones nothing is used or kept: that their numbers rise is all that
        counts of them."""
        last = self.samples_seen
        for sequence in older:
            last = check.rising("sample.sequence", last, sequence)
        report = convert.from_sample(newest, last)
        self.newest, self.is_shown = newest, False
        self.samples_seen = report.sequence
        return report

    def refuse(self, sequence: int, why: str) -> None:
        """Have the node told that this event is not taken."""
        self.refused.append((sequence, why[:300]))
        self.has_news = True
        self.wake.set()

    def next_ack(self, window: int) -> pb.Ack:
        """How far everything is committed now, and what of it never will be."""
        refused = [pb.EventRefusal(sequence=n, why=why) for n, why in self.refused]
        self.refused.clear()
        return pb.Ack(
            log_id=self.greeting.log_id,
            events_upto=self.events_upto,
            samples_upto=self.samples_upto,
            window=window,
            refused=refused,
            windows_upto=self.windows_upto,
            reviews_upto=self.reviews_upto,
        )

    def next_directive(self, now: float) -> pb.Directive | None:
        """The oldest that waits. What it gives leave for ends when it was to end, however long this process
        was stopped meanwhile."""
        if not self.directives:
            return None
        since, directive = self.directives.popleft()
        for permit in directive.permits:
            permit.ttl_s = max(0.0, permit.ttl_s - (now - since))
        for order in directive.orders:
            order.ttl_s = max(0.0, order.ttl_s - (now - since))
        return directive

    def is_ending(self) -> bool:
        return bool(self.end)

    def stop(self, code: str, why: str) -> None:
        """Have it ended by the one who serves it."""
        if not self.end:
            self.end, self.end_code = why, code
            self.wake.set()


class Streams:
    """Who is connected; a node's second stream ends its first."""

    def __init__(self, cfg: IngestConfig) -> None:
        self.cfg = cfg
        self._quarantined: dict[str, tuple[float, float]] = {}
        """By node, until when it is kept out, and how long the last time was."""
        self._blamed: dict[str, tuple[int, float]] = {}
        """By node, how many messages were malformed since it was last kept out, and when the last came."""
        self.by_node: dict[str, Stream] = {}
        self.replaced = 0
        self.malformed = 0
        self.quarantines = 0

    def join(self, greeting: Greeting, number: int, now: float) -> Stream:
        """The node's stream from now on, unless it has a newer one already."""
        before = self.by_node.get(greeting.node)
        stream = Stream(
            number=number,
            greeting=greeting,
            acked_at=now,
            heard_at=now,
            tokens=float(self.cfg.messages_burst),
        )
        if before is not None and before.number > number:
            stream.stop("ABORTED", TAKEN_OVER)
            return stream
        if before is not None:
            self.replaced += 1
            before.stop("ABORTED", TAKEN_OVER)
        self.by_node[greeting.node] = stream
        return stream

    def overtaken(self, node: str, number: int) -> None:
        """The node has a stream of this number at another aggregator."""
        stream = self.by_node.get(node)
        if stream is not None and stream.number < number:
            self.replaced += 1
            stream.stop("ABORTED", TAKEN_OVER)

    def leave(self, stream: Stream) -> None:
        """It has ended."""
        if self.by_node.get(stream.greeting.node) is stream:
            del self.by_node[stream.greeting.node]

    def windows_kept(self, node: str, number: int, upto: int) -> None:
        """Windows of this stream up to this one are in the store, or never will be."""
        stream = self.by_node.get(node)
        if stream is not None and stream.number == number:
            stream.windows_upto = max(stream.windows_upto, upto)
            stream.has_news = True
            stream.wake.set()

    def reviews_kept(self, node: str, number: int, upto: int) -> None:
        """The same of predictions for people."""
        stream = self.by_node.get(node)
        if stream is not None and stream.number == number:
            stream.reviews_upto = max(stream.reviews_upto, upto)
            stream.has_news = True
            stream.wake.set()

    def end_of(self, nodes: Iterable[str], why: str) -> None:
        """End these: their nodes come back, here or elsewhere, and send again what was not kept."""
        for node in nodes:
            if (stream := self.by_node.get(node)) is not None:
                stream.stop("UNAVAILABLE", why)

    def shown(self, node: str, now: float) -> pb.Sample | None:
        """A node's newest sample for people, once the rest of it was looked at as well."""
        stream = self.by_node.get(node)
        if stream is None or stream.newest is None:
            return None
        if not stream.is_shown:
            try:
                convert.check_shown(stream.newest)
            except Refused as refused:
                get_log().warning("sample_refused", node=node, reason=str(refused))
                stream.newest = None
                self.blame(stream, now, str(refused))
                return None
            stream.is_shown = True
        return stream.newest

    def send_away(self, node: str, why: str) -> None:
        """End a node's stream: it is not to come back."""
        stream = self.by_node.get(node)
        if stream is not None:
            stream.stop("PERMISSION_DENIED", f"node {node} is denied: {why}"[:300])

    def refuse(self, stream: Stream, refused: Sequence[tuple[int, str]], now: float) -> None:
        """Events by their numbers, each with why: the node is told, and blamed."""
        for sequence, why in refused:
            get_log().warning("event_refused", node=stream.greeting.node, reason=why)
            stream.refuse(sequence, why)
            self.blame(stream, now, why)

    def blame(self, stream: Stream, now: float, why: str) -> None:
        """A message was not what it must be; too many, and the node is kept out for a while."""
        self.malformed += 1
        stream.malformed += 1
        node = stream.greeting.node
        # A stream may be ended by one such message: its node's next stream begins with what this one did.
        count, at = self._blamed.get(node, (0, now))
        count = count + 1 if now - at < QUARANTINE_MAX_S else 1
        self._blamed[node] = (count, now)
        if max(count, stream.malformed) < self.cfg.malformed_max:
            return
        del self._blamed[node]
        _, last_s = self._quarantined.get(node, (0.0, self.cfg.quarantine_s / 2))
        for_s = min(QUARANTINE_MAX_S, last_s * 2)
        self._quarantined[node] = (now + for_s, for_s)
        self.quarantines += 1
        stream.stop("INVALID_ARGUMENT", why)

    def kept_out_s(self, node: str, now: float) -> float:
        """For how long this node has to stay away; 0: it may come."""
        until, _ = self._quarantined.get(node, (now, 0.0))
        return max(0.0, until - now)

    def reap(self, now: float) -> None:
        """End streams that have said nothing for too long; forget quarantines long over."""
        for stream in self.by_node.values():
            if now - stream.heard_at > self.cfg.idle_s:
                stream.stop("DEADLINE_EXCEEDED", "nothing was said for too long")
        for node, (until, _) in list(self._quarantined.items()):
            if now - until > QUARANTINE_MAX_S:
                del self._quarantined[node]
