"""The node's side of handing pages over to the fleet's aggregator, which folds those of many nodes into one."""

import threading
from collections.abc import Callable, Sequence

from gpuwarden.clock import Clock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.log import get_log
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book, Entry, HandOver, Silence
from gpuwarden.policy.notify import hold, relay


class PageDesk:
    """Implements ``ports_oncall.PageRelay`` for the notifier, and hears what the uplink hears. Any thread."""

    def __init__(self, cfg: FleetConfig, clock: Clock, node: str) -> None:
        self._cfg = cfg
        self._clock = clock
        self.node = node
        self.offer: Callable[[HandOver], None] = lambda word: None
        """Writes a word for the aggregator down; set before the start."""
        self._lock = threading.Lock()
        self._is_up = self._takes = False
        self._away_since: float = clock.now()
        self._taken: set[str] = set()
        self._told: set[str] = set()
        self._said: dict[IncidentId, HandOver] = {}
        self.handed_over = 0
        self.alone = 0
        """Incidents of which this node told people itself, for the aggregator did not."""

    def linked(self, is_up: bool) -> None:
        with self._lock:
            self._set(is_up, self._takes and is_up)

    def _set(self, is_up: bool, takes: bool) -> None:
        if self._is_up and self._takes and not (is_up and takes):
            self._away_since = self._clock.now()
        self._is_up, self._takes = is_up, takes

    def heed(self, takes: bool, taken: Sequence[str], told: Sequence[str]) -> None:
        """What an aggregator has said: whether it tells people at all, and what of pages."""
        with self._lock:
            self._set(True, takes)
            self._taken.update(taken)
            self._told.update(told)

    def advance(self, cfg: OncallConfig, book: Book, wall: float) -> Book:
        """Under the notifier's lock, before each of its passes."""
        with self._lock:
            away_s = None if self._is_up and self._takes else self._clock.now() - self._away_since
            taken, told = self._taken, self._told
            self._taken, self._told = set(), set()
        if taken or told:
            book = relay.heard(book, taken, told)
        before = book
        book = relay.advanced(
            cfg,
            book,
            wall,
            away_s=away_s,
            wait_s=self._cfg.page_wait_s,
            told_s=self._cfg.page_told_s,
        )
        for incident, entry in book.entries.items():
            self._count(before.entries[incident], entry)
            self._say(incident, entry, hold.silence_of(book, entry, wall))
        for gone in self._said.keys() - book.entries.keys():
            del self._said[gone]
        return book

    def is_waiting(self, book: Book) -> bool:
        return relay.is_waiting(book)

    def _count(self, before: Entry, entry: Entry) -> None:
        if entry.relay is None or entry.relay == before.relay:
            return
        if entry.relay.own:
            self.alone += 1
            get_log().warning("paged_alone", incident=entry.incident, why=entry.relay.own)
        else:
            self.handed_over += 1

    def _say(self, incident: IncidentId, entry: Entry, silence: Silence | None) -> None:
        if entry.relay is None:
            return
        word = HandOver(
            page=entry.relay.page,
            incident=incident,
            severity=entry.severity,
            summary=entry.brief.summary,
            subject=entry.brief.subject,
            device=entry.brief.device,
            fault=entry.brief.fault,
            pci=entry.brief.pci,
            wall=entry.paged_wall,
            own=entry.relay.own,
            acked_by="" if entry.ack is None else entry.ack.who,
            silenced_by="" if silence is None else hold.words_of(silence),
            silenced_until_wall=0.0 if silence is None else silence.until_wall,
        )
        if self._said.get(incident) != word:
            self._said[incident] = word
            self.offer(word)
