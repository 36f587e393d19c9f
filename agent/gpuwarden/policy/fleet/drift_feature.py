"""One feature of one version and segment: what has come of it since its window began, and how that window scores."""

from dataclasses import replace

from gpuwarden.evaluate.drift import from_sketch, live
from gpuwarden.evaluate.drift.live import LiveScore
from gpuwarden.evaluate.drift.profile import (
    CategoryProfile,
    CategoryWindow,
    NumericProfile,
    NumericWindow,
    merged_categories,
    merged_numbers,
)
from gpuwarden.evaluate.drift.profile_file import Profile
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.sketch import Builder
from gpuwarden.model.drift import DriftState, FeatureShape
from gpuwarden.model.evaluation import Categories, Sketch
from gpuwarden.policy.fleet.drift_memory import FeatureMemory, LineSettings


class Feature:
    """What has come of one feature since its window began."""

    __slots__ = ("builder", "categories", "memory", "numbers", "rows", "shape", "upto_wall")

    def __init__(self, memory: FeatureMemory) -> None:
        self.memory = memory
        self.upto_wall = memory.since_wall
        self.shape: FeatureShape | None = None
        """Of the newest judged window, where it has moved far; not kept over a restart."""
        self._clear()

    def _clear(self) -> None:
        self.builder: Builder | None = None
        self.numbers: NumericWindow | None = None
        self.categories: CategoryWindow | None = None
        self.rows = 0

    def add(self, sketch: Sketch | None, named: Categories | None) -> None:
        """What nodes tell: a feature is of one kind, but a client may send what it likes."""
        if sketch is not None:
            if self.builder is None:
                self.builder = Builder(sketch.accuracy)
            if self.builder.accuracy == sketch.accuracy:
                self.builder.merge(sketch)
                self.rows += sketches.count(sketch)
        if named is not None:
            self.count(CategoryWindow(counts=named.counts, other=named.other))

    def count(self, window: NumericWindow | CategoryWindow) -> None:
        """Counts on the edges of another profile take the place of what there was."""
        if isinstance(window, CategoryWindow):
            before = [] if self.categories is None else [self.categories]
            self.categories = merged_categories([*before, window])
        elif self.numbers is None or len(self.numbers.counts) != len(window.counts):
            self.numbers, self.rows = window, 0
        else:
            self.numbers = merged_numbers([self.numbers, window])
        self.rows += window.rows

    def start(self, at_wall: float) -> None:
        self.memory = replace(self.memory, since_wall=at_wall)
        self._clear()

    @property
    def is_off(self) -> bool:
        """It was said to have drifted."""
        return self.memory.said is not None and self.memory.said.state is DriftState.DRIFT


def score(profile: Profile, each: Feature, settings: LineSettings) -> LiveScore | None:
    """None: it is of another kind than the profile's."""
    least = min(settings.rows, 100)
    try:
        if isinstance(profile, CategoryProfile):
            window = each.categories
            return None if window is None else live.categories(profile, window, min_rows=least)
        if each.builder is not None:
            sketch = each.builder.done()
            return live.numbers(
                profile,
                from_sketch.window(profile, sketch),
                low=sketch.low,
                high=sketch.high,
                min_rows=least,
            )
        return None if each.numbers is None else live.numbers(profile, each.numbers, min_rows=least)
    except ValueError:  # counts on the edges of another profile: a new one has come between
        return None


def is_other_kind(each: Feature, ref: Profile) -> bool:
    is_number = each.builder is not None or each.numbers is not None
    is_category = each.categories is not None
    if isinstance(ref, NumericProfile):
        return is_category and not is_number
    return is_number and not is_category
