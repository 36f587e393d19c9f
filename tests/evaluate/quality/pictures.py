"""Arrays without any symmetry, and headers, for the tests of orientation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuwarden.evaluate.quality.moves import Move
from gpuwarden.model.image import FrameTags, ImageTags, Pixels

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def lopsided(*shape: int) -> NDArray[np.float64]:
    """Bright towards the far corner, with a blob off every middle."""
    steps = np.meshgrid(*[np.linspace(0.0, 1.0, size) for size in shape], indexing="ij")
    slope = sum(step * (2.0 + k) for k, step in enumerate(steps))
    apart = sum((step - (0.2 + 0.17 * k)) ** 2 for k, step in enumerate(steps))
    return np.asarray(slope + 6.0 * np.exp(-np.asarray(apart) * 30.0), dtype=np.float64)


def pixels(array: NDArray[np.generic], kind: str = "<f4") -> Pixels:
    return Pixels(
        shape=array.shape, kind=kind, data=np.ascontiguousarray(array).astype(kind).tobytes()
    )


def moved(array: NDArray[np.float64], move: Move) -> NDArray[np.float64]:
    """By numpy's own words, one axis after the other."""
    out = np.transpose(array, move.source)
    for axis, turned in enumerate(move.is_reversed):
        out = np.flip(out, axis) if turned else out
    return out


def plane(orientation: tuple[float, ...] | None = AXIAL, **more: object) -> ImageTags:
    return ImageTags(
        modality="CT",
        frames=(FrameTags(orientation=orientation, position=(0.0, 0.0, 0.0)),),
        **more,  # type: ignore[arg-type]
    )


def stack(*heights: float, orientation: tuple[float, ...] = AXIAL) -> ImageTags:
    """Axial frames at these heights, in this order."""
    frames = tuple(
        FrameTags(orientation=orientation, position=(0.0, 0.0, height)) for height in heights
    )
    return ImageTags(modality="MR", frames=frames)
