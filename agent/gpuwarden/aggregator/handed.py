"""Pages that nodes have handed over: the leader tells people, once, and their nodes hear that it has.

What belongs to a mass of its group is told with that. What a node tells itself, because it did not hear from here in
time, is not told here; where it was already, both have told, under one key: that is counted.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.reign import Reign
from gpuwarden.aggregator.store import KeptPage, Store
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import SightConfig
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.decision import Incident
from gpuwarden.model.fleet import FleetView
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Ack, Book, Entry, HandOver, Page
from gpuwarden.node.notifier import Notifier
from gpuwarden.policy.notify import fold, people, posts
from gpuwarden.wire.convert_fleet import from_hand_over
from gpuwarden.wire.convert_work import from_incident
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2

EVERY_S = 0.5
PAGES_MAX = 4096
SETTLE_S = 5.0
TOLD, FOLDED, OWN, TWICE, OVER = "told", "folded", "own", "twice", "over"
SAID = frozenset({TOLD, FOLDED})


class Handed:
    """A thread of its own; never raises."""

    def __init__(
        self,
        cfg: SightConfig,
        store: Store,
        committer: Committer,
        clock: Clock,
        reign: Reign,
        lead: Callable[[], Lead],
        view: Callable[[], FleetView],
        ingest: Ingest,
    ) -> None:
        self.cfg = cfg
        self._store = store
        self._committer = committer
        self._clock = clock
        self._reign = reign
        self._lead = lead
        self._view = view
        self._ingest = ingest
        self._words: set[tuple[str, str, int]] = set()
        self._followed: dict[str, bytes | None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpuwarden-pages", daemon=True)
        self.taken = self.folded = self.alone = self.twice = self.failures = 0

    def takes(self) -> bool:
        """Whether nodes may rely on it: there are sinks, and somebody leads."""
        lead = self._lead()
        return self._reign.has_sinks and not lead.why and bool(lead.is_ours or lead.address)

    def counters(self) -> dict[str, int]:
        return {
            "node_pages_told": self.taken,
            "node_pages_folded": self.folded,
            "node_pages_alone": self.alone,
            "node_pages_twice": self.twice,
            "node_pages_failures": self.failures,
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(SETTLE_S)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self.look()
            except GpuwardenError as error:
                self.failures += 1
                get_log().warning("node_pages_wait", reason=str(error))
            except Exception as error:  # noqa: BLE001  the boundary: the next look starts afresh
                self.failures += 1
                get_log().error("node_pages_failed", reason=repr(error))

    def look(self) -> None:
        if not self._reign.has_sinks:
            return
        pages = self._store.pages(PAGES_MAX)
        self._tell_nodes(pages)
        notifier, lead = self._reign.notifier, self._lead()
        if notifier is None or not lead.is_ours:
            return
        view = self._view()
        groups = {each.greeting.node: each.greeting.group for each in view.nodes}
        masses = {c.key.removeprefix("mass ") for c in view.claims if c.key.startswith("mass ")}
        states: dict[tuple[str, str], str] = {}
        for kept in pages:
            state = self._next(notifier, kept, groups.get(kept.node) in masses)
            if state != kept.state:
                states[kept.node, kept.id] = state
        if states:
            epoch = lead.epoch
            future = self._committer.do(lambda store: store.settle_pages(epoch, states))
            try:
                future.result(SETTLE_S)
            except TimeoutError as error:
                future.cancel()
                raise Unavailable("the store is slow") from error

    def _tell_nodes(self, pages: Sequence[KeptPage]) -> None:
        """Those whose streams are here."""
        words = set()
        for kept in pages:
            stream = self._ingest.streams.by_node.get(kept.node)
            if stream is None or kept.state not in SAID:
                continue
            page = from_hand_over(pb.HandOver.FromString(kept.payload)).page
            word = (kept.node, page, stream.number)
            if word not in self._words:
                said = pb.PageWord(page=page, is_told=True)
                self._ingest.send(kept.node, pb.Directive(pages=[said]))
            words.add(word)
        self._words = words

    def _next(self, notifier: Notifier, kept: KeptPage, is_mass: bool) -> str:
        """Where a page stands after this look."""
        word = from_hand_over(pb.HandOver.FromString(kept.payload))
        key = IncidentId(f"{kept.node}/{kept.id}")
        entry = notifier.book.entries.get(key)
        incident = _incident(kept, key)
        if word.own:
            return self._own(notifier, kept, key, entry)
        self._quiet(notifier, key, word)
        is_new = entry is None or word.page not in entry.pages
        is_over = incident is not None and incident.closed_wall is not None
        if is_new and is_mass:
            self.folded += kept.state != FOLDED
            return FOLDED
        if is_new and is_over and kept.state == FOLDED:
            return OVER
        if is_new:
            waited_s = self._clock.wall() - kept.heard_wall
            if entry is None and 0 <= waited_s < self.cfg.gather_s:
                return ""
            self._send(notifier, word, key, kept.node, incident)
            return ""
        assert entry is not None
        return self._stands(notifier, kept, word, entry, incident)

    def _own(self, notifier: Notifier, kept: KeptPage, key: IncidentId, entry: Entry | None) -> str:
        if kept.state in (OWN, TWICE):
            return kept.state
        self.alone += 1
        if entry is not None and posts.is_reached(entry):
            self.twice += 1
            get_log().warning("paged_twice", node=kept.node, incident=kept.id)
            return TWICE
        notifier.change(lambda _cfg, book, _wall: fold.withdrawn(book, key))
        return OWN

    def _quiet(self, notifier: Notifier, key: IncidentId, word: HandOver) -> None:
        """What is silenced on its node wakes nobody here either."""

        def quieted(book: Book, wall: float) -> Book:
            return people.quieted(book, key, word.silenced_by, wall, word.silenced_until_wall)

        if quieted(notifier.book, self._clock.wall()) is not notifier.book:
            notifier.change(lambda _cfg, book, wall: quieted(book, wall))

    def _send(
        self,
        notifier: Notifier,
        word: HandOver,
        key: IncidentId,
        node: str,
        incident: Incident | None,
    ) -> None:
        if incident is not None:
            notifier.follow([incident], {key: word.subject})
        notifier.send(
            Page(
                id=word.page,
                incident=key,
                severity=word.severity,
                summary=word.summary,
                wall=self._clock.wall(),
                device=word.device,
                fault=word.fault,
                pci=word.pci,
                node=node,
            )
        )
        self.taken += 1

    def _stands(
        self,
        notifier: Notifier,
        kept: KeptPage,
        word: HandOver,
        entry: Entry,
        incident: Incident | None,
    ) -> str:
        if incident is not None and self._followed.get(entry.incident) != kept.incident:
            self._followed[entry.incident] = kept.incident
            notifier.follow([incident], {entry.incident: word.subject})
        if word.acked_by and entry.ack is None:
            ack = Ack(who=word.acked_by, wall=self._clock.wall(), comment=f"at {kept.node}")
            notifier.change(lambda cfg, book, _wall: people.acked(cfg, book, entry.incident, ack))
        if entry.brief.closed_wall is not None and posts.is_settled(entry):
            self._followed.pop(entry.incident, None)
            return OVER
        is_done = posts.is_reached(entry) or entry.held is not None or entry.ack is not None
        return TOLD if is_done else kept.state


def _incident(kept: KeptPage, key: IncidentId) -> Incident | None:
    if kept.incident is None:
        return None
    return replace(from_incident(node_pb2.Incident.FromString(kept.incident)), id=key)
