"""What a pass over a reference keeps of it: batches of a column as numbers and names, a sample, the commonest names.

All of it bounded, and the same for the same file: the sample is drawn with a fixed seed, which a KLL sketch, whose chance
cannot be set from Python, does not offer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuwarden.evaluate.inputs import Floats
from gpuwarden.evaluate.quality.table import MISSING_WORDS, Value, is_missing, number_of

SAMPLE = 1 << 16
NAMES_MAX = 10_000
"""Different names of a column counted one by one; with more, the rarest are forgotten."""
NAME_MAX_CHARS = 128
MAGNITUDE_MAX = 1e150
"""A larger number has no variance in a float: it counts as missing, and is told."""
_MISSING = frozenset(
    form for word in MISSING_WORDS for form in (word, word.upper(), word.capitalize())
)
"""As they are mostly written; another way of writing one only takes longer."""


@dataclass(slots=True)
class Part:
    """One batch of one column: finite numbers, names with their counts, and how many are missing."""

    numbers: Floats
    names: Counter[str]
    missing: int
    too_large: int = 0

    @classmethod
    def of(cls, values: Any, *, is_named: bool) -> "Part":
        """``is_named``: numbers count as names, too."""
        if is_named:
            return _named(values)
        array = values if isinstance(values, np.ndarray) else _array(values)
        if array is not None:
            return cls._of_array(array.astype(np.float64, copy=False), Counter(), 0)
        told = [each for each in values if each is not None and each not in _MISSING]
        array = _array(told)
        if array is not None:
            return cls._of_array(array, Counter(), len(values) - len(told))
        found: list[float] = []
        names: Counter[str] = Counter()
        missing = len(values) - len(told)
        for value, times in Counter(told).items():
            number = None if is_missing(value) else number_of(value)
            if is_missing(value):
                missing += times
            elif number is not None:
                found += [number] * times
            else:
                names[name_of(value)] += times
        return cls._of_array(np.array(found, dtype=np.float64), names, missing)

    @classmethod
    def _of_array(cls, array: Floats, names: Counter[str], missing: int) -> "Part":
        is_finite = np.isfinite(array)
        is_fit = is_finite & (
            np.abs(array, where=is_finite, out=np.zeros_like(array)) < MAGNITUDE_MAX
        )
        kept = array if is_fit.all() else array[is_fit]
        large = int(is_finite.sum()) - kept.size
        return cls(
            numbers=kept, names=names, missing=missing + array.size - kept.size, too_large=large
        )


def _named(values: Any) -> Part:
    names: Counter[str] = Counter()
    missing = 0
    for value, times in Counter(
        values.tolist() if isinstance(values, np.ndarray) else values
    ).items():
        if is_missing(value):
            missing += times
        else:
            names[name_of(value)] += times
    return Part(numbers=np.empty(0), names=names, missing=missing)


def name_of(value: Value) -> str:
    """A category by its text; what cannot be printed is a question mark."""
    text = str(value).strip()[:NAME_MAX_CHARS]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _array(values: Sequence[Any]) -> Floats | None:
    """All of them as numbers (None: not-a-number), or None where one is none. A truth is a name."""
    first = next((each for each in values if each is not None), None)
    if isinstance(first, bool):
        return None
    if isinstance(first, str) and any(each is not None and "_" in each for each in values):
        return None  # 1_000 is no number of a table
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


class Sample:
    """``size`` values of a stream at the most, each with the same chance; all of them where there are no more."""

    def __init__(self, size: int = SAMPLE) -> None:
        self._size = size
        self._chance = np.random.default_rng(0)
        self._bar = 1.0
        self._marks: list[Floats] = []
        self._values: list[Floats] = []
        self._kept = 0

    def add(self, values: Floats) -> None:
        """Values whose mark is among the lowest stay."""
        marks = self._chance.random(values.size)
        if self._bar < 1.0:
            below = marks < self._bar
            marks, values = marks[below], values[below]
        self._marks.append(marks)
        self._values.append(values)
        self._kept += values.size
        if self._kept > self._size * 3 // 2:
            self._thin()

    def _thin(self) -> None:
        marks, values = np.concatenate(self._marks), np.concatenate(self._values)
        lowest = np.argpartition(marks, self._size - 1)[: self._size]
        self._marks, self._values = [marks[lowest]], [values[lowest]]
        self._bar, self._kept = float(self._marks[0].max()), self._size

    def values(self) -> Floats:
        """In no order that means anything."""
        if self._kept > self._size:
            self._thin()
        return np.concatenate([np.empty(0), *self._values])


class Names:
    """The commonest names of a stream (Misra and Gries 1982): one of more than 2/NAMES_MAX of it is never forgotten."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.total = 0

    def add(self, names: Counter[str]) -> None:
        """Counts of a batch."""
        self._counts.update(names)
        self.total += names.total()
        if len(self._counts) > NAMES_MAX:
            cut = sorted(self._counts.values())[-NAMES_MAX // 2]
            self._counts = Counter(
                {n: times - cut for n, times in self._counts.items() if times > cut}
            )

    def commonest(self, keep: int) -> tuple[str, ...]:
        """Ties go by name."""
        ranked = sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))
        return tuple(name for name, _ in ranked[:keep])
