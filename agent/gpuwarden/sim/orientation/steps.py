"""What preprocessing does to a picture and to its header: together, or one without the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuwarden.sim.orientation.phantom import Array, Picture

Turn = tuple[tuple[int, ...], tuple[bool, ...]]
"""New axis k is old axis ``[0][k]``, turned round where ``[1][k]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``array`` and ``header`` name what is done to each, of ``TURNS``; a step is right where they are the same."""

    name: str
    array: str = "nothing"
    header: str = "nothing"
    form: str = "dicom"
    """How the result is told: ``dicom``, ``affine`` or ``code`` beside an array, or ``bare``."""
    wrong_convention: bool = False
    """LPS numbers are called RAS."""
    resized: bool = False
    """Another number of samples, other grey levels."""
    is_volume_only: bool = False


TURNS: dict[str, Any] = {
    "nothing": lambda n: (tuple(range(n)), (False,) * n),
    "columns": lambda n: (tuple(range(n)), (*(False,) * (n - 1), True)),
    "rows": lambda n: (tuple(range(n)), (*(False,) * (n - 2), True, False)),
    "slices": lambda n: (tuple(range(n)), (True, *(False,) * (n - 1))),
    "half-turn": lambda n: (tuple(range(n)), (*(False,) * (n - 2), True, True)),
    "transpose": lambda n: ((*range(n - 2), n - 1, n - 2), (False,) * n),
    "quarter-turn": lambda n: ((*range(n - 2), n - 1, n - 2), (*(False,) * (n - 2), True, False)),
    "xyz": lambda n: (tuple(reversed(range(n))), (False,) * n),
}
"""By name, for arrays of n axes whose last two are rows and columns."""

STEPS: tuple[Step, ...] = (
    Step(name="untouched"),
    Step(name="resized and windowed", resized=True),
    Step(name="columns turned round with the header", array="columns", header="columns"),
    Step(name="transposed with the header", array="transpose", header="transpose"),
    Step(name="quarter turn with the header, resized", array="quarter-turn", header="quarter-turn", resized=True),
    Step(name="columns turned round, header kept", array="columns"),
    Step(name="columns turned round, header kept, resized", array="columns", resized=True),
    Step(name="rows turned round, header kept", array="rows"),
    Step(name="half turn, header kept", array="half-turn"),
    Step(name="transposed, header kept", array="transpose"),
    Step(name="quarter turn, header kept", array="quarter-turn"),
    Step(name="header's columns turned round, array kept", header="columns"),
    Step(name="header's rows turned round, array kept", header="rows"),
    Step(name="columns of the array, rows of the header", array="columns", header="rows"),
    Step(name="bare array", form="bare"),
    Step(name="bare array, columns turned round", array="columns", form="bare"),
    Step(name="slices turned round with the header", array="slices", header="slices", is_volume_only=True),
    Step(name="slices turned round, header kept", array="slices", is_volume_only=True),
    Step(name="to x, y, z with an affine", array="xyz", header="xyz", form="affine", is_volume_only=True),
    Step(name="to x, y, z, LPS called RAS", array="xyz", header="xyz", form="affine", wrong_convention=True,
         is_volume_only=True),
    Step(name="to x, y, z, affine of before", array="xyz", form="affine", is_volume_only=True),
    Step(name="columns turned round, with a code", array="columns", header="columns", form="code", is_volume_only=True),
    Step(name="a code of the array as it was", array="columns", form="code", is_volume_only=True),
)  # fmt: skip


def turned(array: NDArray[Any], name: str) -> NDArray[Any]:
    source, reverse = TURNS[name](array.ndim)
    moved = np.transpose(array, source)
    return moved[tuple(slice(None, None, -1 if each else 1) for each in reverse)]


def turned_axes(axes: Sequence[Array], name: str) -> tuple[Array, ...]:
    source, reverse = TURNS[name](len(axes))
    return tuple(-axes[k] if each else axes[k] for k, each in zip(source, reverse, strict=True))


def reordered(values: Sequence[float], name: str) -> tuple[float, ...]:
    return tuple(values[k] for k in TURNS[name](len(values))[0])


def resized(array: NDArray[Any]) -> NDArray[Any]:
    """Four fifths of the samples along each axis, by the nearest."""
    picked = [
        np.minimum(((np.arange(new) + 0.5) * (size / new)).astype(int), size - 1)
        for size, new in ((size, max(2, size * 4 // 5)) for size in array.shape)
    ]
    return array[np.ix_(*picked)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A picture after a step. ``claimed`` is what is told of its axes, true or not."""

    values: Array
    labels: NDArray[np.int8]
    claimed: tuple[Array, ...]
    spacing_mm: tuple[float, ...]


def apply(picture: Picture, step: Step) -> Result:
    values, labels = turned(picture.values, step.array), turned(picture.labels, step.array)
    spacing = reordered(picture.spacing_mm, step.array)
    if step.resized:
        before = values.shape
        values, labels = resized(values), resized(labels)
        spacing = tuple(
            each * old / new for each, old, new in zip(spacing, before, values.shape, strict=True)
        )
        values = np.clip(values, 20.0, 240.0) * 3.0 + 7.0
    claimed = turned_axes(picture.axes, step.header)
    if step.wrong_convention:
        claimed = tuple(np.asarray([-axis[0], -axis[1], axis[2]]) for axis in claimed)
    return Result(values=values, labels=labels, claimed=claimed, spacing_mm=spacing)
