"""On-call at work: takes pages, keeps the book on disk, and hands messages to sinks on threads of their own.

A page is taken once it is on disk: an endpoint may then be down for hours, or the agent end. A message that
was being sent when the agent was killed is sent again with the same id; nothing else is sent twice.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gpuwarden.clock import Clock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.log import get_log
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import (
    Book,
    Brief,
    Delivery,
    Notice,
    OncallState,
    Page,
    Reason,
    Receipt,
    Result,
)
from gpuwarden.policy.notify import clock_set, due, fold, results, standing
from gpuwarden.policy.notify.brief import of_incident, of_page
from gpuwarden.ports_oncall import BookLog, Heartbeat, PageRelay, Sink

KNOWN_MAX = 512
FOLLOWED_MAX = 4096
OUTBOX_MAX = 2048
CLOCK_SET_S = 2.0
LOOP_HUNG_S = 30.0
CLOSE_WAIT_S = 5.0
OVER_S = 1.0
RELAY_LOOK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """The sinks of a configuration."""

    cfg: OncallConfig
    sinks: Mapping[str, Sink]
    heartbeat: Heartbeat | None = None


class Lanes(Protocol):
    """Where calls to sinks run; one at a time is under way for each name."""

    def run(self, name: str, call: Callable[[], None]) -> None: ...


class ThreadLanes:
    """A thread a call: messages are rare, and a sink that hangs is nobody else's matter."""

    def run(self, name: str, call: Callable[[], None]) -> None:
        threading.Thread(target=call, name=f"oncall {name}"[:15], daemon=True).start()


class Notifier:
    """Implements ``ports.Pager``. ``step`` is one pass; ``start`` makes a thread that makes them."""

    def __init__(
        self, outfit: Outfit, log: BookLog, clock: Clock, host: str, lanes: Lanes | None = None
    ) -> None:
        self._outfit = outfit
        self._log = log
        self._clock = clock
        self._host = host
        self._lanes = lanes or ThreadLanes()
        self._wake = threading.Condition()
        """Guards everything below but what says otherwise."""
        self._now, self._wall = clock.now(), clock.wall()
        self._book = clock_set.awoken(log.read(), self._wall)
        self._stored = Book()
        """As it is on disk."""
        self._known: dict[IncidentId, tuple[Incident, str]] = {}
        self._busy: set[str] = set()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._beat_at = self._now
        self._is_stopping = False
        self._is_stirred = False
        self._thread: threading.Thread | None = None
        self._outbox: deque[Delivery] = deque(maxlen=OUTBOX_MAX)
        """Atomic by itself: the loop takes from it without waiting."""
        self._followed: deque[tuple[tuple[Incident, ...], Mapping[IncidentId, str], bool]] = deque()
        """As the outbox; the loop adds to it."""
        self._ticked_at = self._now
        self._fault = ""
        self._relay: PageRelay | None = None
        self._outbox.extend(line for e in self._book.entries.values() for line in e.log)
        self._show()

    # --- the loop's side: none of it waits ---

    def follow(
        self,
        incidents: Sequence[Incident],
        subjects: Mapping[IncidentId, str],
        *,
        is_all: bool = False,
    ) -> None:
        """Incidents as they now read. ``is_all``: no other is open."""
        if len(self._followed) >= FOLLOWED_MAX:
            self._counts["dropped", "incidents"] += 1
            return
        named = {incident.id: subjects.get(incident.id, "") for incident in incidents}
        self._followed.append((tuple(incidents), named, is_all))
        if is_all or any(incident.closed_at is not None for incident in incidents):
            self._is_stirred = True
            # Whoever holds it looks at what was stirred before it waits again.
            if self._wake.acquire(blocking=False):
                self._wake.notify_all()
                self._wake.release()

    def delivered(self) -> Sequence[Delivery]:
        """What became of messages since the last call."""
        self._ticked_at = self._clock.now()
        found = []
        while self._outbox:
            found.append(self._outbox.popleft())
        return found

    @property
    def state(self) -> OncallState:
        """For readers, as of the last pass."""
        return self._shown[0]

    @property
    def complaints(self) -> tuple[str, ...]:
        """What does not work, in words, as of the last pass."""
        return self._shown[1]

    def counters(self) -> Mapping[tuple[str, str], int]:
        """Messages by sink, reason and result; what the log on disk has lost."""
        return {
            **self._counts,
            ("dropped", "pages"): self._book.dropped,
            ("dropped", "sent-log"): self._log.failures,
        }

    # --- taking pages, on a worker ---

    def send(self, page: Page) -> None:
        """Returns once the page is on disk. ``Unsupported`` where no sink is set; ``Unavailable`` when it
        is held in memory alone, or not at all."""
        with self._wake:
            if not self._outfit.sinks:
                raise Unsupported("no [oncall] sink is set: the log alone has this page")
            self._catch_up()
            incident, subject = self._known.get(page.incident, (None, ""))
            if incident is None:
                brief = of_page(page)
            else:
                brief = of_incident(incident, subject=subject, page=page)
            before = self._book
            self._book = fold.taken(
                self._outfit.cfg, before, page, brief, has_incident=incident is not None
            )
            self._stir()
            if self._book.dropped > before.dropped:
                raise Unavailable(f"{fold.ENTRIES_MAX} incidents are being paged already")
            if not self._keep():
                raise Unavailable(f"held in memory alone: {self._fault}")

    # --- what people say, from any thread ---

    @property
    def book(self) -> Book:
        """As it now is."""
        return self._book

    @property
    def outfit(self) -> Outfit:
        """The sinks in use."""
        return self._outfit

    def change(self, said: Callable[[OncallConfig, Book, float], Book]) -> None:
        """Fold something in; on disk when this returns, ``Unavailable`` when it is not."""
        with self._wake:
            self._catch_up()
            self._replace(said(self._outfit.cfg, self._book, self._wall))
            self._stir()
            if not self._keep():
                raise Unavailable(f"it counts until the agent ends: {self._fault}")

    # --- a pass ---

    def step(self) -> float:
        """One pass: whatever is due is on disk, then handed to its sink. Seconds until the next is due by
        itself."""
        with self._wake:
            self._catch_up()
            cfg, wall = self._outfit.cfg, self._wall
            before = self._book
            if self._relay is not None:
                before = self._relay.advance(cfg, before, wall)
            book = due.advance(cfg, before, wall)
            book, notices = due.orders(cfg, book, wall, busy=self._busy, host=self._host)
            self._replace(book)
            self._keep()
            if self._log.is_over:
                return OVER_S
            ready = [(n, self._outfit.sinks[n.sink]) for n in notices]
            self._busy.update(notice.sink for notice in notices)
            beat = self._due_beat()
            self._show()
            wait_s = max(0.05, standing.next_look(cfg, self._book, wall) - wall)
            if self._relay is not None and self._relay.is_waiting(self._book):
                wait_s = min(wait_s, RELAY_LOOK_S)
        for notice, sink in ready:
            self._lanes.run(notice.sink, partial(self._deliver, notice, sink))
        if beat is not None:
            self._lanes.run("heartbeat", partial(self._beat, beat))
        return wait_s

    def _catch_up(self) -> None:
        """The clock, and what the loop has told since."""
        now, wall = self._clock.now(), self._clock.wall()
        jump = (wall - self._wall) - (now - self._now)
        if abs(jump) > CLOCK_SET_S:
            self._book = clock_set.rebased(self._book, jump)
        self._now, self._wall = now, wall
        while self._followed:
            incidents, subjects, is_all = self._followed.popleft()
            briefs: dict[IncidentId, Brief] = {}
            for incident in incidents:
                subject = subjects[incident.id] or self._known.get(incident.id, (None, ""))[1]
                briefs[incident.id] = of_incident(incident, subject=subject)
                self._known.pop(incident.id, None)
                self._known[incident.id] = (incident, subject)
            while len(self._known) > KNOWN_MAX:
                self._known.pop(next(iter(self._known)))
            self._replace(fold.followed(self._book, briefs))
            if is_all:
                self._replace(fold.lost(self._book, frozenset(briefs), wall))

    def _replace(self, book: Book) -> None:
        """The new book; what its incidents tell more than before goes to the loop."""
        for incident, entry in book.entries.items():
            old = self._book.entries.get(incident)
            if old is entry:
                continue
            told = old.log if old is not None else ()
            self._outbox.extend(line for line in entry.log if line not in told)
        self._book = book

    def _keep(self) -> bool:
        """On disk; else it is tried again with the next change, and says so until it has worked."""
        try:
            self._log.save(self._stored, self._book)
        except Unavailable as error:
            if not self._fault:
                get_log().error("sent_log_failed", detail=str(error))
            self._fault = str(error)
            return False
        self._stored, self._fault = self._book, ""
        return True

    def _show(self) -> None:
        said = standing.complaints(self._outfit.cfg, self._book, self._wall)
        fault = (f"{self._fault}: pages are kept in memory alone",) if self._fault else ()
        self._shown = (standing.state(self._outfit.cfg, self._book, self._wall), (*fault, *said))

    # --- sinks, on threads of their own ---

    def _deliver(self, notice: Notice, sink: Sink) -> None:
        result, detail, retry_after_s = attempt(sink, notice)
        with self._wake:
            self._catch_up()
            self._busy.discard(notice.sink)
            self._counts["notices", f"{notice.sink}/{notice.reason}/{result}"] += 1
            self._replace(
                results.concluded(
                    self._outfit.cfg,
                    self._book,
                    notice,
                    result,
                    detail=detail,
                    wall=self._wall,
                    retry_after_s=retry_after_s,
                )
            )
            self._keep()
            self._show()
            self._stir()
        if notice.reason is Reason.REFRESH and result is Result.DELIVERED:
            return
        say = get_log().info if result is Result.DELIVERED else get_log().warning
        say(
            "notice_sent",
            incident=notice.brief.incident,
            sink=notice.sink,
            reason=notice.reason.value,
            result=result.value,
            detail=detail,
        )

    def _due_beat(self) -> Heartbeat | None:
        """The dead man's switch is told while pages arrive and the loop lives."""
        cfg, beat = self._outfit.cfg, self._outfit.heartbeat
        if beat is None or self._now < self._beat_at or "heartbeat" in self._busy:
            return None
        self._beat_at = self._now + cfg.heartbeat_s
        is_hung = self._now - self._ticked_at > LOOP_HUNG_S
        if is_hung or self._fault or not standing.is_alive(cfg, self._book, self._wall):
            return None
        self._busy.add("heartbeat")
        return beat

    def _beat(self, beat: Heartbeat) -> None:
        result = "done"
        try:
            beat.beat()
        except GpuwardenError as error:
            result = "failed"
            get_log().warning("heartbeat_failed", detail=str(error))
        except Exception as error:  # noqa: BLE001  the port boundary of HOUSE_STYLE rule 11
            result = "failed"
            get_log().error("heartbeat_failed", detail=type(error).__name__)
        with self._wake:
            self._busy.discard("heartbeat")
            self._counts["notices", f"heartbeat/beat/{result}"] += 1

    # --- its life ---

    def adopt(self, outfit: Outfit) -> None:
        """New settings and sinks; what is remembered of sinks of the same name stays."""
        with self._wake:
            self._outfit = outfit
            self._stir()

    def hand_over(self, relay: PageRelay) -> None:
        """Before the start: whoever may tell people in this host's place, and its name there."""
        self._relay, self._host = relay, relay.node

    def start(self) -> None:
        """Pass after pass until ``close``."""
        self._thread = threading.Thread(target=self._live, name="oncall", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self._is_stopping:
            try:
                wait_s = self.step()
            except Exception as error:  # noqa: BLE001  on-call goes on whatever happens
                get_log().error("oncall_failed", error=f"{type(error).__name__}: {error}")
                with self._wake:
                    self._counts["errors", "oncall"] += 1
                wait_s = 1.0
            beat_s = max(0.05, self._beat_at - self._clock.now())
            if self._outfit.heartbeat is not None:
                wait_s = min(wait_s, beat_s)
            with self._wake:
                self._wake.wait_for(lambda: self._is_stirred or self._is_stopping, wait_s)
                self._is_stirred = False

    def close(self) -> None:
        """Ends after what is being sent, or soon; what waits is on disk."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: not self._busy - {"heartbeat"}, CLOSE_WAIT_S)
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)
        with self._wake:
            self._catch_up()
            self._keep()
            self._log.close()

    def _stir(self) -> None:
        self._is_stirred = True
        self._wake.notify_all()


def attempt(sink: Sink, notice: Notice) -> tuple[Result, str, float | None]:
    """Hand a message over: what became of it, in a word more, and after how long to try again."""
    try:
        receipt: Receipt = sink.deliver(notice)
    except (Refused, Unsupported) as error:
        return Result.REFUSED, str(error), None
    except Unavailable as error:
        return Result.FAILED, str(error), error.retry_after_s
    except Exception as error:  # noqa: BLE001  the port boundary of HOUSE_STYLE rule 11
        return Result.FAILED, f"unexpected {type(error).__name__}", None
    text = "; ".join(part for part in (receipt.text, receipt.missed) if part)
    return Result.DELIVERED, text, None
