"""What is known of every service: its windows of the newest minutes, and of the last hours, within bounded memory.

One thread. Windows of the newest ``FINE_S`` stand in slots, in which a node's late, repeated or reordered ones count
once; older ones in the archive. What does not fit is dropped, the oldest first, and counted.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from gpuwarden.aggregator.archive import MINUTE_S, Archive
from gpuwarden.aggregator.slots import Slot, share_of
from gpuwarden.evaluate.fast.window import merge
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.policy.fleet.parts import Share
from gpuwarden.wire.window_check import Told

FINE_S = 900.0
"""A node that was away for longer than this has lost what it had of that time: its minutes are closed."""
SETTLE_S = 120.0
COHORTS_PER_NODE = 128
COHORTS_PER_SERVICE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """``[evaluation]``: how much is kept."""

    cohorts_max: int = 2000
    fine_bytes: int = 256 * 2**20
    archive_bytes: int = 128 * 2**20
    keep_s: float = 26 * 3600.0


class Picture:
    """See the module."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._slots: dict[Cohort, dict[float, Slot]] = {}
        self.archive = Archive(keep_s=bounds.keep_s, max_bytes=bounds.archive_bytes)
        self._made_by: dict[Cohort, str] = {}
        self._closed_before = 0.0
        """Minutes that begin earlier are in the archive."""
        self.counts: Counter[str] = Counter()
        """What became of windows: taken, duplicate, late, crowded, evicted, series_unknown, observations_dropped."""

    def put(self, node: str, told: Told, now_wall: float) -> str:
        """A node's window; why it is not taken (duplicate, late or crowded), or empty."""
        window = told.window
        slot = self._slot(window.cohort, window.begin_wall, node)
        if isinstance(slot, str):
            why = slot
        else:
            share = share_of(node, window, told.tenant, told.devices)
            why = slot.put(share, window, told.data)
        self.counts[why or "taken"] += 1
        if not why:
            self.counts["series_unknown"] += told.unknown
            self.counts["observations_dropped"] += window.dropped
        return why

    def put_other(
        self, holder: str, revision: int, window: Window, shares: Mapping[str, Share]
    ) -> None:
        """What another aggregator has; of two that have one node's window the one with the lesser name keeps it."""
        slot = self._slot(window.cohort, window.begin_wall, f"@{holder}")
        if isinstance(slot, str):
            return
        if slot.put_other(holder, revision, window, shares):
            slot.measure()

    def yield_to(self, holder: str, cohort: Cohort, begin_wall: float) -> None:
        """Both have some node's window: what we have of it goes."""
        slot = self._slots.get(cohort, {}).get(begin_wall)
        if slot is None or holder not in slot.others:
            return
        for node in set(slot.shares) & set(slot.others[holder][2]):
            slot.give_up(node)
            self.counts["given_up"] += 1

    def _slot(self, cohort: Cohort, begin: float, who: str) -> Slot | str:
        if begin < self._closed_before:
            return "late"
        slots = self._slots.get(cohort)
        if slots is None:
            if not self._has_room(cohort, who):
                return "crowded"
            slots = self._slots[cohort] = {}
            self._made_by[cohort] = who
        slot = slots.get(begin)
        if slot is None:
            slot = slots[begin] = Slot(cohort=cohort, begin_wall=begin)
        return slot

    def _has_room(self, cohort: Cohort, who: str) -> bool:
        """A node, or a service, that invents names crowds out nobody but itself."""
        if len(self._slots) >= self._bounds.cohorts_max:
            return False
        if who.startswith("@"):
            return True
        mine = sum(by == who for by in self._made_by.values())
        its = sum(known.service == cohort.service for known in self._slots)
        return mine < COHORTS_PER_NODE and its < COHORTS_PER_SERVICE

    @property
    def fine_bytes(self) -> int:
        """About how much memory the slots take."""
        return sum(slot.size for slots in self._slots.values() for slot in slots.values())

    def cohorts(self) -> Collection[Cohort]:
        return self._slots.keys() | set(self.archive.cohorts())

    def newest(self, cohort: Cohort) -> float | None:
        """When the newest of its windows that stand in slots ended."""
        slots = self._slots.get(cohort)
        if not slots:
            return None
        whole = slots[max(slots)].whole()
        return None if whole is None else whole.begin_wall + whole.length_s

    def over(
        self, cohorts: Iterable[Cohort], since: float, names: Collection[str] | None = None
    ) -> list[Window]:
        """Windows of these cohorts that begin since then, those of one span as one, with these series alone."""
        found: dict[tuple[float, float], list[Window]] = {}
        wanted = None if names is None else frozenset(names)
        for cohort in cohorts:
            windows = self.archive.over(cohort, since, self._closed_before, names)
            for begin, slot in self._slots.get(cohort, {}).items():
                whole = slot.whole() if begin >= since else None
                if whole is not None:
                    windows.append(whole if wanted is None else narrowed(whole, wanted))
            for window in windows:
                found.setdefault((window.begin_wall, window.length_s), []).append(window)
        every = (each[0] if len(each) == 1 else merge(each) for each in found.values())
        return sorted((w for w in every if w is not None), key=lambda w: w.begin_wall)

    def parts(self, cohorts: Iterable[Cohort], since: float) -> dict[str, list[Window]]:
        """By node held here, its windows as they came, as far as they are not settled."""
        found: dict[str, list[Window]] = {}
        for cohort in cohorts:
            for begin, slot in self._slots.get(cohort, {}).items():
                if begin < since:
                    continue
                for node in slot.parts:
                    part = slot.part(node)
                    if part is not None:
                        found.setdefault(node, []).append(part)
        return found

    def shares(
        self, cohorts: Iterable[Cohort], since: float
    ) -> dict[str, list[tuple[float, Share]]]:
        """By node, wherever it is held: its shares, each with its window's begin, oldest first."""
        found: dict[str, list[tuple[float, Share]]] = {}
        for cohort in cohorts:
            for begin, slot in self._slots.get(cohort, {}).items():
                if begin >= since:
                    for node, share in slot.every_share().items():
                        found.setdefault(node, []).append((begin, share))
        return {node: sorted(shares, key=lambda each: each[0]) for node, shares in found.items()}

    def changed(self) -> list[Slot]:
        """Slots of which the store has not the newest of ours."""
        return [
            slot
            for slots in self._slots.values()
            for slot in slots.values()
            if slot.revision > slot.told
        ]

    def age(self, now_wall: float) -> list[Window]:
        """Settle and close what is old enough: whole minutes, and quarters of an hour, that are new in the archive."""
        closed: list[Window] = []
        edge = (now_wall - FINE_S) // MINUTE_S * MINUTE_S
        for cohort, slots in list(self._slots.items()):
            for slot in slots.values():
                if not slot.is_settled and slot.begin_wall < now_wall - SETTLE_S:
                    slot.settle()
            closed += self._closed(cohort, slots, edge)
            if not slots:
                del self._slots[cohort], self._made_by[cohort]
        self._closed_before = max(self._closed_before, edge)
        closed += [window for _, window in self.archive.age(now_wall)]
        self._fit()
        return closed

    def _closed(self, cohort: Cohort, slots: dict[float, Slot], edge: float) -> list[Window]:
        minutes: dict[float, list[Window]] = {}
        for begin in [begin for begin in slots if begin < edge]:
            slot = slots.pop(begin)
            whole = slot.whole()
            if whole is not None:
                minutes.setdefault(begin // MINUTE_S * MINUTE_S, []).append(whole)
        made = []
        for minute, windows in sorted(minutes.items()):
            window = _of_minute(cohort, minute, windows)
            self.archive.put(window)
            made.append(window)
        return made

    def _fit(self) -> None:
        size = self.fine_bytes
        if size <= self._bounds.fine_bytes:
            return
        every = sorted((begin, cohort) for cohort, slots in self._slots.items() for begin in slots)
        for begin, cohort in every:
            if size <= self._bounds.fine_bytes:
                return
            size -= self._slots[cohort].pop(begin).size
            self.counts["evicted"] += 1


def narrowed(window: Window, names: frozenset[str]) -> Window:
    """The window with these series alone; what it lacks, and why, stays."""
    return replace(
        window,
        counts={name: value for name, value in window.counts.items() if name in names},
        levels={name: each for name, each in window.levels.items() if name in names},
        histograms={name: each for name, each in window.histograms.items() if name in names},
        sketches={name: each for name, each in window.sketches.items() if name in names},
        categories={name: each for name, each in window.categories.items() if name in names},
    )


def _of_minute(cohort: Cohort, minute: float, windows: list[Window]) -> Window:
    whole = merge(windows, cohort)
    assert whole is not None
    length_s = max(MINUTE_S, whole.begin_wall + whole.length_s - minute)
    return replace(whole, begin_wall=minute, length_s=length_s)
