"""Aggregators on one database are one: each tells what it holds, and takes in what the others do.

What another tells reaches the fleet's fold as if its node had spoken here; what a leader elsewhere has decided for
a node that is held here is sent to it from here. Once a tick, on a thread of its own; never raises.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import psycopg

from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.orders import order_message
from gpuwarden.aggregator.postgres import said
from gpuwarden.aggregator.share_postgres import AWAY_S, Local, Remote, SharePostgres
from gpuwarden.clock import Clock
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Denial, Permit
from gpuwarden.policy.fleet.fold import Heard, Joined, Left
from gpuwarden.wire.v1 import fleet_pb2 as pb

EVERY_S = 0.5
WHOLE_EVERY_S = 30.0
DENIALS_MAX = 10_000
ASKED_MAX_S = 15.0
"""A wish that is older was asked again since, or is not wanted any more."""

Hear = Callable[[Joined | Left | Heard], None]
Answers = Mapping[str, tuple[list[Permit], list[Denial]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A stream that is held here, and how often its node has asked for leave."""

    local: Local
    asked_at: float = 0.0
    times: int = 0


class Share:
    """``hear`` stands before the fleet's; ``answer`` takes what the fleet has decided. Any thread."""

    def __init__(
        self,
        link: SharePostgres,
        clock: Clock,
        *,
        name: str,
        hear: Hear,
        lead: Callable[[], Lead],
    ) -> None:
        self._link = link
        self._clock = clock
        self._name = name
        self._hear = hear
        self._lead = lead
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._dirty: dict[str, Local] = {}
        self._denials: dict[tuple[str, str], Denial] = {}
        self._remote: dict[str, Remote] = {}
        """Streams of others that the fleet was told of as connected."""
        self._asked: dict[str, float | None] = {}
        self._sent: set[tuple[object, ...]] = set()
        self._since = 0.0
        self._whole_at: float | None = None
        self._told_at: float | None = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpuwarden-share", daemon=True)
        self.ingest: Ingest | None = None
        """Who has the streams; set before the start."""
        self.fault = "not looked yet"
        """Why nothing is heard of others; empty: it is."""
        self.failures = 0
        self.dropped = 0
        self.permits_held = 0
        """By the record, while another leads."""
        self.others: Mapping[str, str] = {}
        """Other aggregators that are alive, and where each is."""

    def start(self) -> None:
        """Look once, then again and again: at its end what others hold is known, if the database answers."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._let_go()

    @property
    def is_whole(self) -> bool:
        """Whether all that others hold is known."""
        return not self.fault

    def hear(self, arrival: Joined | Left | Heard) -> None:
        """From a stream that is held here."""
        with self._lock:
            self._note(arrival)
        self._hear(arrival)

    def _note(self, arrival: Joined | Left | Heard) -> None:
        if isinstance(arrival, Joined):
            held = _Held(
                local=Local(
                    node=arrival.greeting.node,
                    stream=arrival.stream,
                    is_connected=True,
                    events_dropped=0,
                    wall_offset_s=arrival.wall_offset_s,
                )
            )
            before = self._held.get(held.local.node)
            if before is None or before.local.stream < arrival.stream:
                self._held[held.local.node] = held
                self._dirty[held.local.node] = held.local
            return
        known = self._held.get(arrival.node)
        if known is None or known.local.stream != arrival.stream:
            return
        if isinstance(arrival, Left):
            del self._held[arrival.node]
            self._dirty[arrival.node] = replace(known.local, is_connected=False, asks=())
            return
        local = replace(known.local, events_dropped=arrival.events_dropped)
        asks = arrival.asks or None
        if asks is None and local == known.local:
            return
        at, times = (arrival.at, known.times + 1) if asks else (known.asked_at, known.times)
        self._held[arrival.node] = replace(known, local=local, asked_at=at, times=times)
        waiting = self._dirty.get(arrival.node)
        if asks is None and waiting is not None and waiting.stream == local.stream:
            asks = waiting.asks
        self._dirty[arrival.node] = replace(local, asks=asks)
        if arrival.asks:
            self._wake.set()

    def answer(self, answers: Answers) -> None:
        """What the leader, who is here, refuses nodes that are held elsewhere. What it gives is on record."""
        with self._lock:
            for node, (_, denials) in answers.items():
                if node in self._held:
                    continue
                for denial in denials:
                    if len(self._denials) >= DENIALS_MAX:
                        self.dropped += 1
                        continue
                    self._denials[node, denial.ask] = denial
            if self._denials:
                self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(EVERY_S)
            self._wake.clear()
            if not self._stop.is_set():
                self._look()

    def _look(self) -> None:
        try:
            self._tell()
            self._take_in()
            self._send()
        except psycopg.Error as error:
            self._failed(f"PostgreSQL: {said(error)}")
        except Exception as error:  # noqa: BLE001  the boundary: the next look starts afresh
            self._failed(f"internal error: {error!r}")
        else:
            if self.fault:
                get_log().info("share_well", others=len(self.others))
            self.fault = ""

    def _failed(self, why: str) -> None:
        self.failures += 1
        if not self.fault or self.failures == 1:
            get_log().error("share_failed", reason=why)
        self.fault = why
        self._whole_at = None  # whatever was missed is read again
        self._let_go()

    def _let_go(self) -> None:
        try:
            self._link.close()
        except psycopg.Error as error:
            get_log().info("share_session", reason=said(error))

    def _tell(self) -> None:
        now = self._clock.now()
        with self._lock:
            streams, denials = list(self._dirty.values()), list(self._denials.values())
            asked = {n: held.asked_at for n, held in self._held.items()}
            self._dirty, self._denials = {}, {}
        streams = [
            replace(each, asked_s=max(0.0, now - asked.get(each.node, now)))
            for each in sorted(streams, key=lambda each: each.node)
        ]
        try:
            self._link.tell(streams, denials, self._lead().epoch)
        except BaseException:
            with self._lock:
                for each in streams:
                    self._dirty.setdefault(each.node, each)
            raise
        is_late = self._told_at is not None and now - self._told_at > AWAY_S
        self._told_at = self._clock.now()
        if is_late and self.ingest is not None:
            # The others have long told their fleets that these nodes are gone; a new stream says they are not.
            self.ingest.start_over()

    def _take_in(self) -> None:
        """What others hold goes to the fleet."""
        now = self._clock.now()
        is_whole = self._whole_at is None or now - self._whole_at >= WHOLE_EVERY_S
        mark, alive = self._link.now(), self._link.alive()
        for remote in self._link.remotes(0.0 if is_whole else self._since):
            self._fold(remote, now, remote.holder in alive)
        for node, known in list(self._remote.items()):
            if known.holder not in alive:
                self._gone(node, known, now)
        if is_whole:
            self._whole_at = now
            self._link.forget()
        self._since = mark
        alive.pop(self._name, None)
        self.others = alive

    def _fold(self, remote: Remote, now: float, is_alive: bool) -> None:
        node = remote.greeting.node
        with self._lock:
            mine = self._held.get(node)
        if mine is not None and mine.local.stream > remote.stream:
            return  # it has come here since
        if mine is not None and self.ingest is not None:
            self.ingest.overtaken(node, remote.stream)
        known = self._remote.get(node)
        if not (remote.is_connected and is_alive):
            if known is not None:
                self._gone(node, known, now)
            return
        at = now - remote.heard_s
        if known is None or known.stream != remote.stream:
            joined = Joined(
                at=at,
                stream=remote.stream,
                greeting=remote.greeting,
                wall_offset_s=remote.wall_offset_s,
            )
            self._hear(joined)
        self._remote[node] = remote
        is_new = remote.asked is not None and remote.asked != self._asked.get(node)
        is_wish = is_new and bool(remote.asks) and remote.asked_s < ASKED_MAX_S
        self._asked[node] = remote.asked
        self._hear(
            Heard(
                at=max(at, now - remote.asked_s) if is_wish else at,
                stream=remote.stream,
                node=node,
                report=remote.report,
                asks=remote.asks if is_wish else (),
                events_dropped=remote.events_dropped,
            )
        )

    def _gone(self, node: str, known: Remote, now: float) -> None:
        del self._remote[node]
        self._asked.pop(node, None)
        self._hear(Left(at=now, stream=known.stream, node=node))

    def _send(self) -> None:
        """What is for nodes that are held here: orders given elsewhere, and what the leader elsewhere says."""
        ingest, now = self.ingest, self._clock.now()
        if ingest is None:
            return
        with self._lock:
            held = dict(self._held)
        marks: set[tuple[object, ...]] = set()
        for order in self._link.orders():
            if order.node in held:
                mark = ("order", order.id, held[order.node].local.stream)
                if mark not in self._sent:
                    ingest.send(order.node, pb.Directive(orders=[order_message(order)]))
                marks.add(mark)
        answers: dict[str, tuple[list[Permit], list[Denial]]] = {}
        if not self._lead().is_ours:
            self._answers(held, answers, marks, now)
        if answers:
            ingest.tell(answers)
        self._sent = marks

    def _answers(
        self,
        held: Mapping[str, _Held],
        answers: dict[str, tuple[list[Permit], list[Denial]]],
        marks: set[tuple[object, ...]],
        now: float,
    ) -> None:
        permits = self._link.permits()
        self.permits_held = len(permits)
        for kept in permits:
            node = kept.permit.node
            if node not in held:
                continue
            permit = replace(kept.permit, expires_at=now + kept.left_s)
            # Told again when the node asks again: it may have missed it.
            mark: tuple[object, ...] = (
                *("permit", permit.id),
                *(held[node].local.stream, held[node].times),
            )
            if mark not in self._sent:
                answers.setdefault(node, ([], []))[0].append(permit)
            marks.add(mark)
        for denial, touched in self._link.refusals(self._since):
            if denial.node not in held:
                continue
            mark = ("refusal", denial.node, denial.ask, touched)
            if mark not in self._sent:
                answers.setdefault(denial.node, ([], []))[1].append(denial)
            marks.add(mark)
