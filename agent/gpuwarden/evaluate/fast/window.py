"""Windows of one service merged: over nodes, over time, over versions and segments; each counted once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gpuwarden.evaluate.fast import categories
from gpuwarden.evaluate.fast import histogram as histograms
from gpuwarden.evaluate.fast.sketch import Builder
from gpuwarden.model.evaluation import Categories, Cohort, Histogram, Level, Sketch, Window

LACKS_MAX = 32
COARSE_S = 60.0
"""Length of a window that has been merged over nodes for good."""


def merge(
    windows: Sequence[Window], cohort: Cohort | None = None, names: frozenset[str] | None = None
) -> Window | None:
    """One window that spans all of them, of ``cohort`` (unset: the first one's), of the series in ``names`` (unset:
    all); ``None`` of none."""
    if not windows:
        return None
    if names is not None:
        windows = [only(window, names) for window in windows]
    ordered = sorted(windows, key=lambda window: window.begin_wall)
    begin = ordered[0].begin_wall
    return Window(
        cohort=ordered[0].cohort if cohort is None else cohort,
        begin_wall=begin,
        length_s=max(w.begin_wall + w.length_s for w in ordered) - begin,
        counts=_counts(ordered),
        levels=_levels(ordered),
        histograms=_histograms(ordered),
        sketches=_sketches(ordered),
        categories=_categories(ordered),
        lacks=tuple(dict.fromkeys(lack for w in ordered for lack in w.lacks))[:LACKS_MAX],
        dropped=sum(w.dropped for w in ordered),
    )


def only(window: Window, names: frozenset[str]) -> Window:
    """The window with these series alone; what it lacks stays."""
    return replace(
        window,
        counts={n: v for n, v in window.counts.items() if n in names},
        levels={n: v for n, v in window.levels.items() if n in names},
        histograms={n: v for n, v in window.histograms.items() if n in names},
        sketches={n: v for n, v in window.sketches.items() if n in names},
        categories={n: v for n, v in window.categories.items() if n in names},
    )


def _counts(windows: Iterable[Window]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for window in windows:
        for name, value in window.counts.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def _levels(windows: Iterable[Window]) -> dict[str, Level]:
    merged: dict[str, Level] = {}
    for window in windows:
        for name, level in window.levels.items():
            before = merged.get(name)
            merged[name] = level if before is None else joined(before, level)
    return merged


def joined(before: Level, after: Level) -> Level:
    """Readings of both; ``after`` was read last."""
    return Level(
        total=before.total + after.total,
        count=before.count + after.count,
        low=min(before.low, after.low),
        high=max(before.high, after.high),
        last=after.last,
    )


def _histograms(windows: Iterable[Window]) -> dict[str, Histogram]:
    found: dict[str, list[Histogram]] = {}
    for window in windows:
        for name, each in window.histograms.items():
            found.setdefault(name, []).append(each)
    merged = {name: histograms.merge(each) for name, each in found.items()}
    return {name: each for name, each in merged.items() if each is not None}


def _sketches(windows: Iterable[Window]) -> dict[str, Sketch]:
    builders: dict[str, Builder] = {}
    for window in windows:
        for name, each in window.sketches.items():
            builder = builders.get(name)
            if builder is None:
                builder = builders[name] = Builder(each.accuracy)
            builder.merge(each)
    return {name: builder.done() for name, builder in builders.items()}


def _categories(windows: Iterable[Window]) -> dict[str, Categories]:
    found: dict[str, list[Categories]] = {}
    for window in windows:
        for name, each in window.categories.items():
            found.setdefault(name, []).append(each)
    return {name: categories.merge(each) for name, each in found.items()}


class _Slot:
    """All that came of one cohort for one begin."""

    __slots__ = ("by_node", "merged", "revisions")

    def __init__(self) -> None:
        self.by_node: dict[str, Window] = {}
        self.revisions: dict[str, int] = {}
        self.merged: Window | None = None

    def whole(self) -> Window | None:
        if self.by_node:
            parts = list(self.by_node.values())
            base = [] if self.merged is None else [self.merged]
            return merge([*base, *parts])
        return self.merged

    def settle(self) -> None:
        """Of each node only that it came stays."""
        self.merged = self.whole()
        self.by_node.clear()


class Book:
    """Windows of the recent past, by cohort. What arrives twice, late or in another order counts once.

    One window a node is kept for ``settle_s``, so that a revision can take its place; then one for all nodes, and
    of whole minutes after that. Bounded by time and by the number of windows, the oldest going first (``dropped``).
    """

    def __init__(
        self, *, keep_s: float = 7200.0, settle_s: float = 120.0, windows_max: int = 100_000
    ) -> None:
        self._keep_s, self._settle_s, self._windows_max = keep_s, settle_s, windows_max
        self._slots: dict[Cohort, dict[float, _Slot]] = {}
        self._settled: dict[Cohort, float] = {}
        self._cache: dict[tuple[Cohort, float], Window] = {}
        self._coarse: dict[Cohort, dict[float, Window]] = {}
        self._size = 0
        self.dropped = 0
        """Windows not kept for want of room."""
        self.late = 0
        """Windows older than is kept, from further in the future than clocks may differ, or a revision of one
        that has been merged."""

    def put(self, node: str, window: Window, now_wall: float, ahead_s: float = 60.0) -> bool:
        """Take a window; whether it says anything new."""
        begin, cohort = window.begin_wall, window.cohort
        if not now_wall - self._keep_s <= begin <= now_wall + ahead_s:
            self.late += 1
            return False
        if begin < self._settled.get(cohort, float("-inf")) - COARSE_S:
            self.late += 1  # its minute is one number by now, and nobody knows who is in it
            return False
        slot = self._slots.setdefault(cohort, {}).setdefault(begin, _Slot())
        if slot.revisions.get(node, -1) >= window.revision:
            return False
        if node in slot.revisions and node not in slot.by_node:
            self.late += 1
            return False
        if node not in slot.by_node:
            self._size += 1
        slot.by_node[node] = window
        slot.revisions[node] = window.revision
        self._cache.pop((cohort, begin), None)
        if self._size > self._windows_max:
            self._make_room()
        return True

    def cohorts(self) -> Sequence[Cohort]:
        """All of which there are windows."""
        return sorted(self._slots.keys() | self._coarse.keys())

    def over(self, cohort: Cohort, since: float, until: float) -> Sequence[Window]:
        """Its windows that begin in [since, until), all nodes together, oldest first."""
        coarse = self._coarse.get(cohort, {})
        found = [each for begin, each in coarse.items() if since <= begin < until]
        for begin, slot in self._slots.get(cohort, {}).items():
            if since <= begin < until:
                whole = self._cache.get((cohort, begin))
                if whole is None and (whole := slot.whole()) is not None:
                    self._cache[cohort, begin] = whole
                if whole is not None:
                    found.append(whole)
        return sorted(found, key=lambda window: window.begin_wall)

    def nodes(self, cohort: Cohort, since: float) -> Mapping[str, Sequence[Window]]:
        """The windows of each node that begin from ``since`` on, as far as they are not merged yet."""
        found: dict[str, list[Window]] = {}
        for begin, slot in sorted(self._slots.get(cohort, {}).items()):
            if begin >= since:
                for node, window in slot.by_node.items():
                    found.setdefault(node, []).append(window)
        return found

    def settle(self, now_wall: float) -> None:
        """Merge what is old enough, forget what is too old. Call it now and then."""
        edge = (now_wall - self._settle_s) // COARSE_S * COARSE_S
        for cohort in list(self._slots.keys() | self._coarse.keys()):
            coarse = self._coarse.setdefault(cohort, {})
            if edge > self._settled.get(cohort, float("-inf")):
                self._settled[cohort] = edge
                self._to_minutes(cohort, coarse, edge)
            for begin in [b for b in coarse if b < now_wall - self._keep_s]:
                del coarse[begin]
            if not coarse and not self._slots.get(cohort):
                self._slots.pop(cohort, None)
                self._coarse.pop(cohort, None)
                self._settled.pop(cohort, None)

    def _to_minutes(self, cohort: Cohort, coarse: dict[float, Window], edge: float) -> None:
        """Slots before ``edge`` lose their nodes; those of a minute before that become one."""
        slots = self._slots.get(cohort, {})
        minutes: dict[float, list[Window]] = {}
        for begin in [b for b in slots if b < edge - COARSE_S]:
            slot = slots.pop(begin)
            self._size -= len(slot.by_node)
            self._cache.pop((cohort, begin), None)
            whole = slot.whole()
            if whole is not None:
                minutes.setdefault(begin // COARSE_S * COARSE_S, []).append(whole)
        for minute, windows in minutes.items():
            before = coarse.get(minute)
            merged = merge(windows if before is None else [before, *windows])
            if merged is not None:
                coarse[minute] = merged
        for begin, slot in slots.items():
            if begin < edge:
                self._size -= len(slot.by_node)
                slot.settle()

    def _make_room(self) -> None:
        """Forget the oldest slot of all."""
        begin, cohort = min((min(slots), cohort) for cohort, slots in self._slots.items() if slots)
        slot = self._slots[cohort].pop(begin)
        self._cache.pop((cohort, begin), None)
        self._size -= len(slot.by_node)
        self.dropped += len(slot.by_node)
