"""FleetService: takes what nodes tell on their streams, and tells them what is committed and wanted."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc.aio import EOF  # type: ignore[attr-defined]  # grpc-stubs leave it out

from gpuwarden.aggregator.arrivals import HearServices, of_services
from gpuwarden.aggregator.committer import Committer, Mark
from gpuwarden.aggregator.enrolment import Enrolment
from gpuwarden.aggregator.frames import answer_of, is_of_samples, parsed, samples_alone
from gpuwarden.aggregator.lead import Leadership
from gpuwarden.aggregator.loop import Answers
from gpuwarden.aggregator.put_by import PutBy
from gpuwarden.aggregator.store import Entry, Welcome
from gpuwarden.aggregator.streams import SAMPLE_ACK_S, Stream, Streams
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Ask, Greeting, Identity, Report, Told
from gpuwarden.model.policy import PolicyReport
from gpuwarden.policy.fleet.fold import Heard, Joined, Left
from gpuwarden.wire import convert_fleet as convert
from gpuwarden.wire.convert_policy import from_policy_report
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetServiceServicer

GREET_S = 10.0
FULL_S = 0.05
REAP_S = 1.0
TOGETHER_S = 0.1

IdentityOf = Callable[[Any], Identity]
Hear = Callable[[Joined | Left | Heard], None]
OrderDone = Callable[[str, str, bool, str], None]
"""By node, order, whether it was obeyed, and what was said."""


class Ingest(FleetServiceServicer):
    """One coroutine reads a stream, one writes; what is read waits for the committer, and is then told."""

    def __init__(
        self,
        cfg: AggregatorConfig,
        committer: Committer,
        clock: Clock,
        *,
        hear: Hear,
        identity_of: IdentityOf,
        enrolment: Enrolment,
        leadership: Leadership,
        order_done: OrderDone,
    ) -> None:
        self.cfg = cfg
        self._committer = committer
        self._clock = clock
        self._hear = hear
        self._identity_of = identity_of
        self._enrolment = enrolment
        self._leadership = leadership
        self._order_done = order_done
        self._loop: asyncio.AbstractEventLoop | None = None
        self.takes_pages: Callable[[], bool] = lambda: False  # whether nodes' pages are sent here
        self.hear_services: HearServices = lambda arrival: None
        self.streams = Streams(cfg.ingest)
        self._by = PutBy()
        self._is_look_due = False
        self.messages = self.limited = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop that serves: what other threads tell goes through it."""
        self._loop = loop

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewResponse:
        try:
            issued = await self._enrolment.renew(self._identity_of(context), request.request_der)
        except Refused as refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refused))
        except GpuwardenError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return pb.RenewResponse(
            schema_version=convert.SCHEMA_VERSION,
            certificate_pem=issued.certificate_pem,
            authorities_pem=self._enrolment.authorities_pem,
        )

    async def Attend(  # type: ignore[override]  # it writes to the context instead of yielding
        self, request_iterator: Any, context: Any
    ) -> None:
        """A node's stream, from its hello to its end."""
        certified = self._identity_of(context).name
        kept_out_s = self.streams.kept_out_s(certified, self._clock.now())
        if kept_out_s > 0:
            text = (
                f"kept out for {kept_out_s:.0f} s more: too much that cannot be read came from here"
            )
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        greeting = await self._greeted(context, certified)
        welcome = await self._greet(context, greeting)
        now = self._clock.now()
        stream = self.streams.join(greeting, welcome.stream, now)
        stream.events_upto = stream.events_seen = welcome.upto
        stream.has_news = True
        offset_s = greeting.wall - self._clock.wall() if greeting.wall else None
        self._hear(Joined(at=now, stream=stream.number, greeting=greeting, wall_offset_s=offset_s))
        self.direct(greeting.node, pb.Directive())
        reader = asyncio.create_task(self._read(stream, context))
        try:
            await self._write(stream, context, reader)
        finally:
            reader.cancel()
            self.look_at_samples()
            self.streams.leave(stream)
            self._committer.forget(stream.number)
            self._hear(Left(at=self._clock.now(), stream=stream.number, node=greeting.node))
        if stream.end:
            code = grpc.StatusCode[stream.end_code]
            await context.abort(code, stream.end)

    async def _greeted(self, context: Any, certified: str) -> Greeting:
        """The hello; ends the call when it does not come in time or is not one."""
        try:
            data = await asyncio.wait_for(context.read(), self.cfg.ingest.first_message_s)
            if data is EOF:
                raise Refused("the first message has to be a hello")
            message = parsed(data)
            if message.WhichOneof("body") != "hello":
                raise Refused("the first message has to be a hello")
            return convert.from_hello(message.hello, certified)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no hello in time")
        except Refused as refused:
            self.streams.malformed += 1
            get_log().warning("hello_refused", node=certified, reason=str(refused))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refused))
        raise AssertionError("abort() returned")

    async def _greet(self, context: Any, greeting: Greeting) -> Welcome:
        wall = self._clock.wall()
        future = self._committer.do(lambda store: store.greet(greeting, wall))
        try:
            welcome = await asyncio.wait_for(asyncio.wrap_future(future), GREET_S)
            if welcome.epoch is not None:
                self._leadership.learn(welcome.epoch)
            return welcome
        except (GpuwardenError, TimeoutError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error) or "the store is slow")
        raise AssertionError("abort() returned")

    async def _read(self, stream: Stream, context: Any) -> None:
        """Take messages until the node ends or the stream is to be ended."""
        while not stream.is_ending():
            data = await context.read()
            if data is EOF:
                return
            now = self._clock.now()
            if is_of_samples(data):
                while self._by.is_full and not (self.look_at_samples() or stream.is_ending()):
                    await asyncio.sleep(FULL_S)
                self._by.add(stream, data, now)
                self._look_within(TOGETHER_S)
                continue
            while not self._look_at_those_of(stream):  # what came before it counts first
                await asyncio.sleep(FULL_S)
            taken = self._digest(stream, data, now)
            while taken is not None and not self._committer.offer(*taken):
                await asyncio.sleep(FULL_S)
                if stream.is_ending():
                    return

    def _look_within(self, seconds: float) -> None:
        if not self._is_look_due:
            self._is_look_due = True
            asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._is_look_due = False
        self.look_at_samples()

    def look_at_samples(self) -> bool:
        """All that were put by, one after the other, which costs half. False while the committer is full."""
        while self._by:
            if self._committer.waiting >= self.cfg.ingest.queue_max:
                self._look_within(FULL_S)
                return False
            self._look_at(*self._by.pop())
        return True

    def _look_at_those_of(self, stream: Stream) -> bool:
        """As ``look_at_samples``, of one stream: what is urgent does not wait for all others."""
        if not stream.put_by:
            return True
        if self._committer.waiting >= self.cfg.ingest.queue_max:
            return False
        for each in self._by.pop_all_of(stream):
            self._look_at(*each)
        return True

    def _look_at(self, stream: Stream, data: bytes, at: float) -> None:
        """One that was put by and is so no more."""
        taken = None if stream.is_ending() else self._digest(stream, data, at)
        if taken is not None:
            self._committer.offer(*taken)

    def _digest(self, stream: Stream, data: bytes, now: float) -> tuple[Entry, Mark] | None:
        """Check a message and have the fleet hear of it; what of it is to be kept, if anything."""
        self.messages += 1
        if not stream.allow(self.cfg.ingest, now):
            self.limited += 1
            stream.stop("RESOURCE_EXHAUSTED", "more messages than this node may send")
            return None
        message: pb.AttendRequest | None = None
        asks: tuple[Ask, ...] = ()
        policy: PolicyReport | None = None
        events_dropped = 0
        try:
            if (samples := samples_alone(data)) is not None:
                entry, mark = self._kept(stream, stream.take_samples(*samples))
            else:
                message = parsed(data)
                batch = message.batch
                events_dropped = batch.events_dropped
                policy = from_policy_report(batch.policy) if batch.HasField("policy") else None
                entry, mark, asks = self._taken(stream, message)
                if batch.windows or batch.verdicts or batch.reviews:
                    self.hear_services(of_services(batch, stream, len(data)))
        except Refused as refused:
            get_log().warning("message_refused", node=stream.greeting.node, reason=str(refused))
            self.streams.blame(stream, now, str(refused))
            if message is not None and message.batch.events:
                # What comes after its events must not be taken for all before it: they are sent again.
                stream.stop("INVALID_ARGUMENT", str(refused))
            return None
        except Exception as error:  # noqa: BLE001  the boundary: one bad message ends one stream
            get_log().error("stream_failed", node=stream.greeting.node, reason=repr(error))
            stream.stop("INTERNAL", "a message could not be looked at")
            return None
        self._hear(
            Heard(
                now, stream.number, entry.node, entry.report, asks or None, events_dropped, policy
            )
        )
        return (entry, mark) if mark.has_events or entry.report is not None else None

    def _taken(
        self, stream: Stream, message: pb.AttendRequest
    ) -> tuple[Entry, Mark, tuple[Ask, ...]]:
        """One message, checked whole before anything of it counts."""
        if message.WhichOneof("body") != "batch":
            raise Refused("expected a batch")
        batch = message.batch
        convert.check_batch(batch)
        asks: tuple[Ask, ...] = ()
        told: tuple[Told, ...] = ()
        last_event = 0
        if batch.asks:
            asks = tuple([convert.from_ask(ask) for ask in batch.asks])
        if batch.events:
            told, last_event, refused = convert.from_events(batch.events)
            self.streams.refuse(stream, refused, self._clock.now())
        *older, newest = batch.samples or (None,)
        numbers = [each.sequence for each in older]
        report = None if newest is None else stream.take_samples(numbers, newest)
        stream.events_seen = max(stream.events_seen, last_event)
        entry, mark = self._kept(stream, report, told, last_event)
        return entry, mark, asks

    def _kept(
        self,
        stream: Stream,
        report: Report | None,
        told: tuple[Told, ...] = (),
        last_event: int = 0,
    ) -> tuple[Entry, Mark]:
        """What of a message goes to the store, and how far the stream has come with it."""
        greeting = stream.greeting
        entry = Entry(
            greeting.node, greeting.log_id, self._clock.wall(), report, told, stream.number
        )
        mark = Mark(stream.number, greeting.node, last_event, stream.samples_seen, bool(told))
        return entry, mark

    async def _write(self, stream: Stream, context: Any, reader: "asyncio.Task[None]") -> None:
        """Tell what is committed and what is wanted, until either side ends."""
        reader.add_done_callback(lambda _: stream.wake.set())
        while True:
            await stream.wake.wait()
            stream.wake.clear()
            if stream.is_ending():
                if stream.refused:
                    await context.write(pb.AttendResponse(ack=stream.next_ack(1)))
                return
            if stream.has_news or stream.directives:
                stream.has_news = False
                directive = stream.next_directive(self._clock.now())
                if stream.directives:
                    stream.wake.set()
                ack = stream.next_ack(self._window())
                await context.write(pb.AttendResponse(ack=ack, directive=directive))
            if reader.done():
                error = None if reader.cancelled() else reader.exception()
                if error is not None and not isinstance(
                    error, grpc.RpcError | asyncio.CancelledError
                ):
                    get_log().error("stream_failed", node=stream.greeting.node, reason=repr(error))
                return

    def _window(self) -> int:
        """Smaller while commits are slow or many wait."""
        cfg = self.cfg.ingest
        is_slow = self._committer.last_s > 1.0 or self._committer.waiting > cfg.queue_max // 2
        return max(1, cfg.window // 8) if is_slow else cfg.window

    def committed(self, entries: list[tuple[Entry, Mark]]) -> None:
        """On the committer's thread: these are durable."""
        self.soon(self._committed, entries)

    def _committed(self, entries: list[tuple[Entry, Mark]]) -> None:
        now = self._clock.now()
        for entry, mark in entries:
            stream = self.streams.by_node.get(mark.node)
            for event in entry.events:
                if event.kind == "order":
                    self._order_done(mark.node, event.key, event.is_done, event.summary)
                elif event.kind == "page" and self.takes_pages():
                    page = pb.HandOver.FromString(event.payload).page
                    self.direct(mark.node, pb.Directive(pages=[pb.PageWord(page=page)]))
            if stream is None or stream.number != mark.stream:
                continue
            stream.events_upto = max(stream.events_upto, mark.events_upto)
            stream.samples_upto = max(stream.samples_upto, mark.samples_upto)
            if mark.has_events or now - stream.acked_at >= SAMPLE_ACK_S:
                stream.acked_at = now
                stream.has_news = True
                stream.wake.set()

    def windows_kept(self, node: str, number: int, upto: int) -> None:
        """Any thread: windows of this stream up to this one are in the store, or never will be."""
        self.soon(self.streams.windows_kept, node, number, upto)

    def failed(self, entries: list[tuple[Entry, Mark]], why: str) -> None:
        """On the committer's thread: these are not kept; their nodes have to send them again."""
        self.soon(self.streams.end_of, {m.node for _, m in entries}, f"not kept: {why}"[:200])

    def tell(self, answers: Answers) -> None:
        """On the fleet's thread: what became of what nodes asked."""
        self.soon(self._tell, answers)

    def _tell(self, answers: Answers) -> None:
        now = self._clock.now()
        for node, (permits, denials) in answers.items():
            self.direct(node, answer_of(permits, denials, now))

    def direct(self, node: str, directive: pb.Directive) -> bool:
        """Queue something for a node; False when it is not connected."""
        if (stream := self.streams.by_node.get(node)) is None:
            return False
        directive.MergeFrom(self._standing_directive())
        stream.tell(directive, self._clock.now())
        return True

    def _standing_directive(self) -> pb.Directive:
        return pb.Directive(
            epoch=self._leadership.lead().epoch,
            is_permit_required=self.cfg.permit.required,
            takes_pages=self.takes_pages(),
        )

    def overtaken(self, node: str, number: int) -> None:
        """Any thread: another aggregator has a newer stream of this node."""
        self.soon(self.streams.overtaken, node, number)

    def send(self, node: str, directive: pb.Directive) -> None:
        """Any thread: as ``direct``."""
        self.soon(self.direct, node, directive)

    def start_over(self) -> None:
        """Any thread: every node has to come again."""
        self.soon(self.end_all, "others took this aggregator for dead")

    def soon(self, call: Callable[..., object], *values: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *values)

    def shown(self, node: str) -> pb.Sample | None:
        """A node's newest sample for people, once the rest of it was looked at as well."""
        return self.streams.shown(node, self._clock.now())

    def end_all(self, why: str = "the aggregator is stopping") -> None:
        """Every stream ends: nodes come back, here or to the next."""
        self.streams.end_of(self.streams.by_node, why)

    async def reap(self) -> None:
        """For ever: end what says nothing."""
        while True:
            await asyncio.sleep(REAP_S)
            self.streams.reap(self._clock.now())
