"""The connection to the aggregator: one thread writes down what is news, one keeps the stream open.

Events wait on disk and never for samples; samples wait in memory, and the oldest go first. What is not
acknowledged is sent again. Reconnects wait a random time up to a bound that doubles (full jitter).
"""

import random
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import grpc

from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME
from gpuwarden.adapters.uplink_news import News, fitted
from gpuwarden.adapters.uplink_session import Session
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.oncall import HandOver
from gpuwarden.model.status import View
from gpuwarden.ports_evaluation import ReviewSource, WindowSource
from gpuwarden.ports_fleet import FleetDesk, PageEar, PolicyDesk, Spool
from gpuwarden.wire import convert_fleet_node as convert
from gpuwarden.wire.convert_policy import to_policy_report
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetServiceStub

LOOK_S = 0.1
RING = 64
MESSAGE_BYTES = 160 * 1024
EVENTS_A_MESSAGE = 64
WINDOWS_A_MESSAGE = 64
ASK_AGAIN_S = 5.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 1.0, 60.0
SETTLED_S = 30.0
"""A stream that held for so long was a good one: the next failure starts from the shortest wait."""
FIRST_ACK_S = 10.0
CHANNEL_OPTIONS = (
    ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    (
        "grpc.http2.bdp_probe",
        0,
    ),  # what comes from an aggregator is small: nothing to widen the line for
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.max_receive_message_length", 256 * 1024),
)


class Uplink:
    """Start it once the board has pictures; ``close`` ends both threads."""

    def __init__(
        self,
        cfg: FleetConfig,
        source: ViewSource,
        desk: FleetDesk,
        spool: Spool,
        certificate: OwnCertificate,
        clock: Clock,
        policy: PolicyDesk | None = None,
        pages: PageEar | None = None,
    ) -> None:
        self._cfg = cfg
        self._policy = policy
        self._pages = pages
        self._source = source
        self._desk = desk
        self._spool = spool
        self._certificate = certificate
        self._clock = clock
        self._chance = random.Random()
        # Nodes spread over the aggregators by their names, each always beginning at the same.
        self._place = zlib.crc32(certificate.name.encode())
        self._stop = threading.Event()
        self._has_seen = threading.Event()
        """A picture: before it there is nothing to tell, not even which boot this is."""
        self._wake = threading.Condition()
        self._samples: deque[pb.Sample] = deque(maxlen=RING)
        self._has_events = True
        self._session: Session | None = None
        self._news = News()
        self._sampled_at = float("-inf")
        self._wanted: frozenset[str] = frozenset()
        self._threads = [
            threading.Thread(target=self._scribe, name="gpuwarden-news", daemon=True),
            threading.Thread(target=self._attend, name="gpuwarden-uplink", daemon=True),
        ]
        self.windows: WindowSource | None = None
        """What services say of themselves, once somebody gathers it."""
        self.reviews: ReviewSource | None = None
        self.samples_dropped = 0
        self.connects = 0
        self.failures = 0
        self.rejected = 0
        self.fault = "not connected yet"
        """Why the aggregator is not reached; empty: it is."""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        session = self._session
        if session is not None:
            session.end()
        with self._wake:
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(5.0)

    def counters(self) -> dict[tuple[str, str], int]:
        return {
            ("fleet", "connects"): self.connects,
            ("fleet", "failures"): self.failures,
            ("fleet", "events_rejected"): self.rejected,
            ("dropped", "fleet_events"): self._spool.dropped,
            ("dropped", "fleet_samples"): self.samples_dropped,
        }

    def _scribe(self) -> None:
        """Write down what is news, and take a sample in its time."""
        serial = 0
        while not self._stop.is_set():
            view = self._source.wait_newer(serial, 1.0)
            self._spool.flush()
            self._write_down_answers()
            if self._policy is not None:
                self._policy.look()
            if view is None:
                continue
            serial = view.serial
            self._take_in(view)
            self._certificate.look_after(self._clock.wall())
            self._stop.wait(LOOK_S)

    def _take_in(self, view: View) -> None:
        """A new picture: what it asks for, what of it is news, and a sample where one is due."""
        self._desk.look(view)
        self._has_seen.set()
        events = list(self._news.of(view))
        for event in events:
            self._spool.append(event.SerializeToString())
        asks = self._desk.asks()
        if self._clock.now() - self._sampled_at >= self._cfg.sample_every_s:
            self._sampled_at = self._clock.now()
            self._keep(convert.to_sample(view, 0, len(asks)))
        before, self._wanted = self._wanted, frozenset(ask.id for ask in asks)
        if events or not self._wanted <= before:
            self.stir()

    def stir(self) -> None:
        """Any thread: there is something to send, or perhaps room for it."""
        with self._wake:
            self._has_events = True
            self._wake.notify_all()

    def _write_down_answers(self) -> None:
        for order, is_done, said, incident in self._desk.answered():
            event = convert.to_order_event(
                order, is_done, said, incident, self._clock.now(), self._clock.wall()
            )
            self._spool.append(fitted(event).SerializeToString())
            self.stir()

    def hand_over(self, word: HandOver) -> None:
        """Any thread: a word about a page, at once."""
        event = convert.to_hand_over(word, self._clock.now(), self._clock.wall())
        self._spool.append(fitted(event).SerializeToString())
        self.stir()

    def _keep(self, sample: pb.Sample) -> None:
        with self._wake:
            if len(self._samples) == RING:
                self.samples_dropped += 1
            self._samples.append(sample)

    def _attend(self) -> None:
        """Keep a stream open."""
        wait_s, failed = BACKOFF_MIN_S, 0
        while not (self._has_seen.wait(1.0) or self._stop.is_set()):
            pass
        while not self._stop.is_set():
            begun = self._clock.now()
            try:
                self._converse()
                self.fault = "the aggregator ended the stream"
            except grpc.RpcError as error:
                self.fault = f"{error.code().name}: {error.details()}"
            except GpuwardenError as error:
                self.fault = str(error)
            except Exception as error:  # noqa: BLE001  the boundary: the next try starts afresh
                self.fault = f"internal error: {error!r}"
            self._desk.linked(False)
            if self._pages is not None:
                self._pages.linked(False)
            if self._stop.is_set():
                return
            self.failures += 1
            lasted_s = self._clock.now() - begun
            log = get_log().info if lasted_s >= SETTLED_S else get_log().warning
            log("uplink_down", reason=self.fault[:400], lasted_s=round(lasted_s))
            self._place += 1
            failed = 1 if lasted_s >= SETTLED_S else failed + 1
            if lasted_s >= SETTLED_S:
                wait_s = BACKOFF_MIN_S
            elif failed % len(self._cfg.aggregator or ("",)) == 0:
                wait_s = min(BACKOFF_MAX_S, wait_s * 2)  # none of them answers
            self._stop.wait(self._chance.uniform(0.0, wait_s))

    def _let_go(self, refusals: Iterable[pb.EventRefusal]) -> None:
        """Events that the aggregator will never take, by its own word: these, and no others, are not sent again."""
        for refusal in refusals:
            if self._spool.drop(refusal.sequence):
                self.rejected += 1
                why = refusal.why[:400]
                get_log().error("event_refused", sequence=refusal.sequence, reason=why)

    def _converse(self) -> None:
        """One stream, from its hello to its end; raises what ended it."""
        if not self._cfg.aggregator:
            raise Unavailable("fleet.aggregator is not set")
        address = self._cfg.aggregator[self._place % len(self._cfg.aggregator)]
        own = self._certificate.read()
        credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        options = (
            *CHANNEL_OPTIONS,
            ("grpc.keepalive_time_ms", round(self._cfg.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self._cfg.keepalive_timeout_s * 1000)),
            # gRPC sends pings of its own at times, each with a minute by default; while one is
            # under way there are no others, and a dead stream would be found no sooner than by that.
            ("grpc.http2.ping_timeout_ms", round(self._cfg.keepalive_timeout_s * 1000)),
        )
        with grpc.secure_channel(address, credentials, options) as channel:
            session = self._session = Session(address)
            if self.reviews is not None:
                self.reviews.begin()
            call: Any = FleetServiceStub(channel).Attend(self._outgoing(session))
            session.call = call
            try:
                for response in call:
                    self._take(session, response)
                    if self._certificate.is_newer_than(own):
                        return  # speak under the new one
            finally:
                session.end()
                with self._wake:
                    self._wake.notify_all()

    def _take(self, session: Session, response: pb.AttendResponse) -> None:
        if response.HasField("ack"):
            ack = response.ack
            if ack.log_id == self._spool.log_id:
                if not session.is_acked:
                    self.connects += 1
                    self.fault = ""
                    self._desk.linked(True)
                    get_log().info("uplink_up", at=session.address, events_upto=ack.events_upto)
                self._let_go(ack.refused)  # before what is acknowledged takes them along
                self._spool.acknowledge(ack.events_upto)
                if self.windows is not None and ack.windows_upto:
                    self.windows.acknowledge(ack.windows_upto)
                if self.reviews is not None and ack.reviews_upto:
                    self.reviews.acknowledge(ack.reviews_upto)
                with self._wake:
                    session.acked(ack.events_upto, ack.window)
                self.stir()
        if response.HasField("directive"):
            self._heed(response.directive)

    def _heed(self, directive: pb.Directive) -> None:
        """What the fleet wants; from an aggregator that was replaced, nothing."""
        now, node = self._clock.now(), self._certificate.name
        try:
            epoch = convert.accepted_epoch(directive.epoch, self._spool.epoch())
            permits = [convert.from_permit(p, node, epoch, now) for p in directive.permits]
            denials = [convert.from_refusal(r, node) for r in directive.refusals]
            orders = [convert.from_order(order, now) for order in directive.orders]
        except Refused as refused:
            get_log().error("directive_refused", reason=str(refused))
            return
        self._spool.see_epoch(epoch)
        if self.reviews is not None and directive.sampling:
            self.reviews.heed(directive.sampling, now)
        self._desk.receive(permits, denials, is_required=directive.is_permit_required)
        if self._pages is not None:
            self._pages.heed(directive.takes_pages, *convert.from_page_words(directive.pages))
        if directive.policy and self._policy is not None:
            self._policy.offer(directive.policy)
        for order in orders:
            if self._spool.is_new_order(order.id):
                self._desk.order(order)

    def _outgoing(self, session: Session) -> Iterator[pb.AttendRequest]:
        """What gRPC sends, taken by a thread of its own."""
        greeting = self._desk.greeting(self._spool.log_id, self._spool.epoch())
        told = None if self._policy is None else self._policy.report()
        greeting = replace(greeting, policy=told, policy_version=told.version if told else 0)
        session.told = told
        yield pb.AttendRequest(hello=convert.to_hello(greeting))
        with self._wake:
            self._wake.wait_for(lambda: session.is_acked or session.is_over, FIRST_ACK_S)
        session.batched_at = self._clock.now()
        while not session.is_over and session.is_acked:
            batch = self._next_batch(session)
            if batch is not None:
                yield pb.AttendRequest(batch=batch)
                continue
            with self._wake:
                self._wake.wait_for(lambda: session.is_over or self._has_events, 1.0)

    def _next_batch(self, session: Session) -> pb.Batch | None:
        """What is to be sent now: events as far as the window allows, samples and wishes in their time."""
        now = self._clock.now()
        batch = pb.Batch(events_dropped=self._spool.dropped, samples_dropped=self.samples_dropped)
        size = self._put_events(session, batch)
        size += self._put_windows(session, batch, MESSAGE_BYTES - size)
        if self.reviews is not None:
            size += self.reviews.fill(batch, MESSAGE_BYTES - size, now)
        if self._is_batch_due(now, session.batched_at):
            session.batched_at = now
            session.samples_sent = self._put_samples(
                batch, session.samples_sent, MESSAGE_BYTES - size
            )
        asks = self._desk.asks()
        names = frozenset(ask.id for ask in asks)
        is_due = names != session.asked or now - session.asked_at >= ASK_AGAIN_S
        if asks and is_due and not batch.samples:  # samples may be looked at later, wishes are not
            session.asked, session.asked_at = names, now
            batch.asks.extend(convert.to_asks(asks))
        if self._policy is not None and (policy := self._policy.report()) != session.told:
            session.told = policy
            batch.policy.CopyFrom(to_policy_report(policy))
        is_worth_it = batch.events or batch.samples or batch.asks or batch.HasField("policy")
        return batch if is_worth_it or batch.windows or batch.verdicts or batch.reviews else None

    def _put_windows(self, session: Session, batch: pb.Batch, max_bytes: int) -> int:
        """Verdicts first, for they are few and somebody may wait; windows as far as they fit. How many bytes."""
        if self.windows is None:
            return 0
        size = 0
        session.verdicts_told, verdicts = self.windows.verdicts(session.verdicts_told)
        for payload in verdicts:
            batch.verdicts.add().ParseFromString(payload)
            size += len(payload)
        found = self.windows.take(session.windows_sent, WINDOWS_A_MESSAGE, max_bytes - size)
        for number, payload in found:
            batch.windows.add().ParseFromString(payload)
            session.windows_sent = number
            size += len(payload)
        return size

    def _put_events(self, session: Session, batch: pb.Batch) -> int:
        with self._wake:
            room = session.room()
            self._has_events = False
        size = 0
        for sequence, payload in (
            self._spool.take(session.sent, min(EVENTS_A_MESSAGE, room), MESSAGE_BYTES)
            if room > 0
            else ()
        ):
            event = batch.events.add()
            event.ParseFromString(payload)
            event.sequence = sequence
            session.sent = sequence
            size += len(payload)
        return size

    def _is_batch_due(self, now: float, batched_at: float) -> bool:
        with self._wake:
            many = len(self._samples)
        return many >= self._cfg.batch_samples or (
            many > 0 and now - batched_at >= self._cfg.batch_s
        )

    def _put_samples(self, batch: pb.Batch, sequence: int, max_bytes: int) -> int:
        """As many as fit, oldest first; the number of the last."""
        with self._wake:
            while self._samples and len(batch.samples) < self._cfg.batch_samples:
                if batch.samples and batch.ByteSize() + self._samples[0].ByteSize() > max_bytes:
                    break
                sequence += 1
                sample = self._samples.popleft()
                sample.sequence = sequence
                batch.samples.append(sample)
        return sequence
