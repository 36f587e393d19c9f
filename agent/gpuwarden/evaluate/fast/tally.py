"""A window that is being filled: from a service's page, from its client, from the devices it holds."""

from collections.abc import Mapping

from gpuwarden.evaluate.fast import histogram as histograms
from gpuwarden.evaluate.fast.categories import FEATURES_MAX, Names
from gpuwarden.evaluate.fast.series import MISSING
from gpuwarden.evaluate.fast.sketch import Builder
from gpuwarden.evaluate.fast.window import LACKS_MAX, joined
from gpuwarden.model.evaluation import Cohort, Histogram, Lack, Level, Window

SERIES_MAX = 64
"""Of each kind: a client that invents features fills no more (``overflow``)."""


class Tally:
    """Fill it, then ``window``. One thread."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.levels: dict[str, Level] = {}
        self.histograms: dict[str, Histogram] = {}
        self.sketches: dict[str, Builder] = {}
        self.categories: dict[str, Names] = {}
        self.lacks: dict[Lack, None] = {}
        self.dropped = 0

    @property
    def is_empty(self) -> bool:
        return not any(
            (
                *(self.counts, self.levels, self.histograms, self.sketches),
                *(self.categories, self.lacks, self.dropped),
            )
        )

    def count(self, name: str, by: float = 1.0) -> None:
        if name in self.counts or len(self.counts) < SERIES_MAX:
            self.counts[name] = self.counts.get(name, 0.0) + by
        else:
            self.dropped += 1

    def level(self, name: str, value: float) -> None:
        """One reading of something that goes up and down."""
        reading = Level(total=value, count=1, low=value, high=value, last=value)
        before = self.levels.get(name)
        if before is not None or len(self.levels) < SERIES_MAX:
            self.levels[name] = reading if before is None else joined(before, reading)
        else:
            self.dropped += 1

    def value(self, name: str, value: float) -> None:
        """One value of a distribution; ``ValueError`` for what is not finite."""
        builder = self.sketches.get(name)
        if builder is None:
            if len(self.sketches) >= SERIES_MAX:
                self.dropped += 1
                return
            builder = self.sketches[name] = Builder()
        builder.add(value)

    def name(self, feature: str, name: str) -> None:
        """One value of a feature of names."""
        names = self._names(feature)
        if names is not None:
            names.add(name)

    def missing(self, feature: str) -> None:
        """An input that was not there. What is so called is bounded as names are, beside the features of names."""
        self.name(MISSING, feature)

    def _names(self, feature: str) -> Names | None:
        names = self.categories.get(feature)
        if names is None:
            features = len(self.categories) - (MISSING in self.categories)
            if features >= FEATURES_MAX and feature != MISSING:
                self.dropped += 1
                return None
            names = self.categories[feature] = Names()
        return names

    def lack(self, lack: Lack) -> None:
        if len(self.lacks) < LACKS_MAX:
            self.lacks[lack] = None

    def merge(self, window: Window) -> None:
        """All of a window besides."""
        for name, value in window.counts.items():
            self.count(name, value)
        for name, level in window.levels.items():
            before = self.levels.get(name)
            self.levels[name] = level if before is None else joined(before, level)
        for name, histogram in window.histograms.items():
            old = self.histograms.get(name)
            whole = histogram if old is None else histograms.merge([old, histogram])
            if whole is not None:
                self.histograms[name] = whole
        for feature, told in window.categories.items():
            names = self._names(feature)
            if names is not None:
                names.merge(told)
        for lack in window.lacks:
            self.lack(lack)
        self.dropped += window.dropped

    def absorb(self, other: "Tally") -> None:
        """All of another besides."""
        for count, value in other.counts.items():
            self.count(count, value)
        for name, level in other.levels.items():
            before = self.levels.get(name)
            self.levels[name] = level if before is None else joined(before, level)
        self.dropped += other.dropped
        for name, builder in other.sketches.items():
            mine = self.sketches.get(name)
            if mine is None and len(self.sketches) >= SERIES_MAX:
                self.dropped += 1
                continue
            if mine is None:
                mine = self.sketches[name] = Builder()
            mine.merge(builder.done())
        for feature, told in other.categories.items():
            names = self._names(feature)
            if names is not None:
                names.merge(told.done())

    def window(self, cohort: Cohort, begin_wall: float, length_s: float, revision: int) -> Window:
        """What it holds now; it may be filled on. A series that was told after all is not lacking."""
        told: set[str] = {*self.counts, *self.levels, *self.histograms, *self.sketches}
        sketches: Mapping[str, Builder] = self.sketches
        return Window(
            cohort=cohort,
            begin_wall=begin_wall,
            length_s=length_s,
            revision=revision,
            counts=dict(self.counts),
            levels=dict(self.levels),
            histograms=dict(self.histograms),
            sketches={name: builder.done() for name, builder in sketches.items()},
            categories={name: names.done() for name, names in self.categories.items()},
            lacks=tuple(lack for lack in self.lacks if lack.series not in told),
            dropped=self.dropped,
        )
