"""Bodies with marks whose place in the patient is known: pictures of them, and where the marks truly are.

The truth of a case comes from the marks alone: they are moved with the picture, and looked up where the header
then says they are. Nothing of the check that is tried out here is used for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# mm in the patient (LPS), from the middle of the body; radius in mm; grey level above the body's 100.
BODY_MM = (70.0, 45.0, 90.0)
MARKS: tuple[tuple[tuple[float, float, float], float, float], ...] = (
    ((42.0, 4.0, 8.0), 15.0, 130.0),  # a liver's worth of asymmetry, on the left
    ((-6.0, -28.0, -10.0), 10.0, 90.0),  # in front
    ((9.0, 7.0, 62.0), 13.0, 60.0),  # towards the head
)
# A breast: mm to the front from the chest wall, mm up (or to the side) from its middle.
BREAST_MM = (60.0, 75.0)
LESIONS: tuple[tuple[tuple[float, float], float, float], ...] = (
    ((54.0, -4.0), 6.0, 80.0),
    ((22.0, 38.0), 9.0, 120.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """``labels``: 0, or the number of the mark a voxel belongs to, counted from 1; the last is the middle."""

    values: Array
    labels: NDArray[np.int8]
    axes: tuple[Array, ...]
    """Unit vectors in the patient, one an axis of the array: the truth."""
    spacing_mm: tuple[float, ...]
    marks: tuple[Array, ...]
    """Where each mark truly is from the middle, in the patient, as far as these axes see it."""


def _grid(shape: Sequence[int], spacing_mm: Sequence[float]) -> list[Array]:
    return [
        ((np.arange(size) - (size - 1) / 2.0) * step).astype(np.float64)
        for size, step in zip(shape, spacing_mm, strict=True)
    ]


def body(axes: Sequence[Array], shape: Sequence[int], spacing_mm: Sequence[float]) -> Picture:
    """A volume of three axes, or a plane of two that sees the marks as a projection does."""
    steps = np.meshgrid(*_grid(shape, spacing_mm), indexing="ij")
    place = [sum(step * axis[k] for step, axis in zip(steps, axes, strict=True)) for k in range(3)]
    reach = sum((place[k] / BODY_MM[k]) ** 2 for k in range(3))
    values = 100.0 / (1.0 + np.exp(12.0 * (np.asarray(reach) - 1.0)))
    labels = np.zeros(tuple(shape), dtype=np.int8)
    marks = []
    for number, (centre, radius, level) in enumerate(MARKS, 1):
        seen = sum(np.dot(np.asarray(centre), axis) * axis for axis in axes)
        apart = sum((place[k] - seen[k]) ** 2 for k in range(3))
        values = values + level * np.exp(-np.asarray(apart) / radius**2)
        labels[np.asarray(apart) < radius**2] = number
        marks.append(np.asarray(seen, dtype=np.float64))
    return _finished(values, labels, axes, spacing_mm, marks)


def breast(
    axes: Sequence[Array],
    front: Array,
    up: Array,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
) -> Picture:
    """A mammogram: ``front`` and ``up`` are what the two directions of the breast are in the patient."""
    steps = np.meshgrid(*_grid(shape, spacing_mm), indexing="ij")
    place = [sum(step * axis[k] for step, axis in zip(steps, axes, strict=True)) for k in range(3)]
    ahead = sum(place[k] * front[k] for k in range(3)) + BREAST_MM[0] / 2
    above = sum(place[k] * up[k] for k in range(3))
    reach = (ahead / BREAST_MM[0]) ** 2 + (above / BREAST_MM[1]) ** 2
    inside = np.asarray((reach < 1) & (ahead > 0))
    values = inside * (60.0 + 0.4 * np.asarray(above))
    labels = np.zeros(tuple(shape), dtype=np.int8)
    marks = []
    for number, (centre, radius, level) in enumerate(LESIONS, 1):
        apart = np.asarray((ahead - centre[0]) ** 2 + (above - centre[1]) ** 2)
        values = values + level * np.exp(-apart / radius**2)
        labels[apart < radius**2] = number
        marks.append((centre[0] - BREAST_MM[0] / 2) * front + centre[1] * up)
    return _finished(values, labels, axes, spacing_mm, marks)


def _finished(
    values: Array,
    labels: NDArray[np.int8],
    axes: Sequence[Array],
    spacing_mm: Sequence[float],
    marks: Sequence[Array],
) -> Picture:
    # A fixed grain, so that no two places look quite the same.
    grain = np.sin(np.arange(values.size) * 12.9898).reshape(values.shape) * 0.5
    return Picture(
        values=values + grain,
        labels=labels,
        axes=tuple(np.asarray(axis, dtype=np.float64) for axis in axes),
        spacing_mm=tuple(spacing_mm),
        marks=tuple(marks),
    )


def truth(
    picture: Picture,
    moved: NDArray[np.int8],
    claimed: Sequence[Array],
    spacing_mm: Sequence[float],
    *,
    is_coarse: bool = False,
) -> str:
    """What the marks say of a preprocessed picture: ``well``, ``left-right``, ``half-turn`` (left is right, and no
    mirror image), ``mirror``, ``exchange`` (a mirror over a diagonal) or ``rotation``.

    ``is_coarse``: the claim is letters, each within 45 degrees. ``moved``: the labels after the step; ``claimed``: where its axes are said to point.
    """
    true = np.stack(picture.marks)
    said = []
    for number in range(1, len(true) + 1):
        index = np.argwhere(moved == number).mean(axis=0)
        from_middle = (index - (np.asarray(moved.shape) - 1) / 2.0) * np.asarray(spacing_mm)
        said.append(sum(step * axis for step, axis in zip(from_middle, claimed, strict=True)))
    seen = np.stack(said)
    if len(picture.axes) == 2:  # a plane: add what stands upright on it, unturned
        upright = np.cross(true[0], true[1])
        true = np.vstack([true[:2], upright])
        seen = np.vstack([seen[:2], upright])
    turned = np.linalg.solve(true, seen).T  # seen = turned @ true
    left = sum(axis * axis[0] for axis in picture.axes)  # as much of the left as these axes see
    share = float(np.dot(left, left))
    kept = float(left @ turned @ left) / share if share > 0.25 else 1.0
    own = [float(axis @ turned @ axis) for axis in picture.axes]
    return _named(turned, kept, own, is_coarse=is_coarse)


def _named(turned: Array, left_kept: float, axes_kept: list[float], *, is_coarse: bool) -> str:
    if float(np.abs(turned - np.eye(3)).max()) < 0.3:
        return "well"
    if is_coarse and float(np.diag(turned).min()) > 0.7:
        return "well"
    if float(np.linalg.det(turned)) > 0:
        return "half-turn" if left_kept < -0.5 else "rotation"
    if left_kept < -0.5:
        return "left-right"
    return "mirror" if min(map(abs, axes_kept)) > 0.5 else "exchange"
