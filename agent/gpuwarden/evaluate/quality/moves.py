"""What preprocessing did to an array: which of its axes went where, and which were turned round.

Found from the pixels alone. Both arrays are brought to one small cube by exact averages over equal parts of every
axis, so that resampling and cropping at the borders do not matter, and compared by rank and by value, so that
windowing, normalisation and an inverted grey scale do not either. Every exchange and reversal of axes is tried (8 of a
plane, 48 of a volume); the best must be good, and what tells it from each other one must be seen. Where ranks
and values both decide they must agree; ranks of noise in an empty background, or values bent by a curve, decide nothing.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuwarden.model.image import Pixels, TagTrouble, Trouble

Array = NDArray[np.float64]
PARTS = {2: 40, 3: 12}
"""Averages along an axis: 1600 or 1728 of them, so that all candidates cost a few ms."""
GOOD = 0.8
"""Least correlation of the best: below it, the two are not the same picture."""
CLEARLY = 0.5
"""How much of the difference between two candidates must be seen in the array after. All of it (1) where the first
is true, its opposite (-1) where the second is, and none (0) where the array after does not tell them apart."""
NOISE = 1e-6
"""Candidates that differ by less are one picture."""
_LONGEST = 160  # samples along an axis before averaging: bounds work and memory
_AXIS_MAX = 1 << 20
_KINDS = frozenset("biuf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Axis k of the array after is axis ``source[k]`` of the one before, turned round where ``is_reversed[k]``."""

    source: tuple[int, ...]
    is_reversed: tuple[bool, ...]

    @property
    def is_nothing(self) -> bool:
        return self.source == tuple(range(len(self.source))) and not any(self.is_reversed)

    @property
    def is_mirror(self) -> bool:
        """An odd number of exchanges and reversals."""
        swaps = sum(a > b for a, b in itertools.combinations(self.source, 2))
        return (swaps + sum(self.is_reversed)) % 2 == 1


def nothing(axes: int) -> Move:
    """The array was left as it is."""
    return Move(source=tuple(range(axes)), is_reversed=(False,) * axes)


def every(axes: int) -> list[Move]:
    """All 8 of a plane, all 48 of a volume; doing nothing comes first."""
    return [
        Move(source=source, is_reversed=tuple(turned))
        for source in itertools.permutations(range(axes))
        for turned in itertools.product((False, True), repeat=axes)
    ]


def find(before: Pixels, after: Pixels) -> Move | TagTrouble:
    """The one that explains ``after``; a trouble where none does, or more than one."""
    made = []
    for pixels in (before, after):
        cube = _cube(pixels)
        if isinstance(cube, TagTrouble):
            return cube
        made.append(cube)
    first, second = made
    if first.ndim != second.ndim:
        return _trouble(Trouble.UNSUPPORTED, f"{first.ndim} axes before, {second.ndim} after")
    moves = every(first.ndim)
    words = [
        _decided(old, new, moves)
        for old, new in ((_ranks(first), _ranks(second)), (_clipped(first), _clipped(second)))
    ]
    found = [word for word in words if isinstance(word, Move)]
    if not found:
        return words[0] if isinstance(words[0], TagTrouble) else _trouble(Trouble.AMBIGUOUS, "")
    if len(set(found)) > 1:
        return _trouble(Trouble.AMBIGUOUS, "ranks and values say different things")
    return found[0]


def _decided(first: Array | None, second: Array | None, moves: list[Move]) -> Move | TagTrouble:
    """By one way to compare: both arrays centred and of length 1."""
    if first is None or second is None:
        return _trouble(Trouble.AMBIGUOUS, "nothing but one grey level")
    candidates = [_moved(first, move) for move in moves]
    scores = np.asarray([float(np.vdot(each, second)) for each in candidates])
    best = int(np.argmax(np.abs(scores)))
    scores *= np.sign(scores[best])  # an inverted grey scale
    if scores[best] < GOOD:
        return _trouble(
            Trouble.UNREADABLE, f"not the same picture (correlation {scores[best]:.2f})"
        )
    for k, other in enumerate(candidates):
        apart = 1.0 - float(np.vdot(candidates[best], other))
        seen = float(scores[best] - scores[k])
        if k != best and (apart < NOISE or seen < CLEARLY * apart):
            detail = f"looks the same in two positions ({scores[best]:.4f}, {scores[k]:.4f})"
            return _trouble(Trouble.AMBIGUOUS, detail)
    return moves[best]


def _moved(array: Array, move: Move) -> Array:
    turned = np.transpose(array, move.source)
    steps = tuple(slice(None, None, -1 if each else 1) for each in move.is_reversed)
    return turned[steps]


def _cube(pixels: Pixels) -> Array | TagTrouble:
    """Averages over equal parts of every axis longer than 1."""
    array = _array(pixels)
    if isinstance(array, TagTrouble):
        return array
    array = array[tuple(slice(None, None, -(-size // _LONGEST)) for size in array.shape)]
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return _trouble(Trouble.MALFORMED, "no finite value")
    values = np.where(finite, values, np.median(values[finite]))
    span = float(np.max(np.abs(values)))
    values = values / span if span > 0 else values  # sums of the largest doubles would be infinite
    for axis in range(values.ndim):
        values = _averaged(values, axis, PARTS[values.ndim])
    return values


def _array(pixels: Pixels) -> NDArray[np.generic] | TagTrouble:
    try:
        kind = np.dtype(pixels.kind)
    except (TypeError, ValueError, SyntaxError):
        return _trouble(Trouble.UNSUPPORTED, f"kind {pixels.kind[:16]!r}")
    if kind.kind not in _KINDS or kind.subdtype is not None:
        return _trouble(Trouble.UNSUPPORTED, f"kind {pixels.kind[:16]!r}")
    count = 1
    for size in pixels.shape:
        if not 0 < size <= _AXIS_MAX:
            return _trouble(Trouble.MALFORMED, f"an axis of {size}")
        count *= size
    if count * kind.itemsize != len(pixels.data):
        return _trouble(Trouble.MALFORMED, "shape and number of bytes do not agree")
    shape = tuple(size for size in pixels.shape if size > 1)
    if len(shape) not in PARTS:
        return _trouble(Trouble.UNSUPPORTED, f"{len(shape)} axes longer than 1")
    return np.frombuffer(pixels.data, dtype=kind).reshape(shape)


def _averaged(values: Array, axis: int, parts: int) -> Array:
    """Means over ``parts`` equal parts of an axis: exact, and the same forwards and backwards."""
    size = values.shape[axis]
    moved = np.moveaxis(values, axis, 0)
    sums = np.concatenate([np.zeros_like(moved[:1]), np.cumsum(moved, axis=0)])
    edges = np.arange(parts + 1) * (size / parts)
    whole = np.minimum(edges.astype(int), size - 1)
    share = (edges - whole).reshape(-1, *([1] * (moved.ndim - 1)))
    at_edges = sums[whole] * (1 - share) + sums[whole + 1] * share
    return np.moveaxis(np.diff(at_edges, axis=0) * (parts / size), 0, axis)


def _ranks(values: Array) -> Array | None:
    """Ranks with ties averaged, centred, of length 1. None: all values are one.

    Rounded first: two sums of the same numbers in another order must tie.
    """
    _, inverse, counts = np.unique(np.round(values, 9), return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return None
    middle = np.cumsum(counts) - (counts - 1) / 2.0
    ranks = middle[inverse.reshape(-1)].astype(np.float64).reshape(values.shape)
    ranks -= ranks.mean()
    return np.asarray(ranks / np.linalg.norm(ranks), dtype=np.float64)


def _clipped(values: Array) -> Array | None:
    """The values themselves between their 1st and 99th percentile: what a window leaves of them."""
    low, high = np.percentile(values, (1.0, 99.0))
    if high - low < NOISE:
        return None
    centred = np.clip(values, low, high)
    centred = centred - centred.mean()
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


def _trouble(why: Trouble, detail: str) -> TagTrouble:
    return TagTrouble(tag="pixels", why=why, detail=detail)
