"""The test set: makes, modalities, planes, how the patient lay, and what was done; each with its truth."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpuwarden.sim.orientation import phantom
from gpuwarden.sim.orientation.files import MAKERS
from gpuwarden.sim.orientation.phantom import Array, Picture
from gpuwarden.sim.orientation.steps import STEPS, Step

_X, _Y, _Z = np.eye(3)
# (slices, rows, columns) of a patient who lies head first on the back.
PLANES: dict[str, tuple[Array, Array, Array]] = {
    "axial": (_Z, _Y, _X),
    "sagittal": (_X, -_Z, _Y),
    "coronal": (_Y, -_Z, _X),
}
# A table turned or a patient turned on it: what was to the left is now to the right, and so on (PS3.3 C.7.3.1.1.2).
POSITIONS: dict[str, Array] = {
    "HFS": np.diag([1.0, 1.0, 1.0]),
    "HFP": np.diag([-1.0, -1.0, 1.0]),
    "FFS": np.diag([-1.0, 1.0, -1.0]),
    "FFP": np.diag([1.0, -1.0, -1.0]),
}
VOLUME, PLANE, MAMMOGRAM = (24, 32, 40), (72, 90), (84, 64)
FIELD_MM = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``tags_after`` are written over ``tags``; ``truth`` None: the marks say."""

    name: str
    modality: str
    maker: str
    picture: Picture
    step: Step
    has_plane: bool = True
    """Image Orientation (Patient) is told; else letters, where there are any."""
    letters: bool = False
    is_one_sided: bool = False
    tags: dict[str, Any] = field(default_factory=dict)
    tags_after: dict[str, Any] = field(default_factory=dict)
    truth: str | None = None


def cases() -> Iterator[Case]:
    """All of them, in a fixed order."""
    makers = itertools.cycle(MAKERS)
    for case in itertools.chain(
        _volumes(), _planes(), _chests(), _hands(), _mammograms(), _blind()
    ):
        yield dataclasses.replace(case, maker=next(makers)) if case.maker == "*" else case


def _turned_by(x_deg: float, z_deg: float) -> Array:
    x, z = math.radians(x_deg), math.radians(z_deg)
    about_x = np.array([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    about_z = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
    return np.asarray(about_x @ about_z, dtype=np.float64)


def _acquisitions() -> Iterator[tuple[str, tuple[Array, Array, Array]]]:
    oblique, double = _turned_by(20, 0), _turned_by(-25, 22)
    for (position, lying), (name, axes) in itertools.product(POSITIONS.items(), PLANES.items()):
        told = (lying @ axes[0], lying @ axes[1], lying @ axes[2])
        yield f"{position} {name}", told
        if name == "axial":
            yield f"{position} oblique", _through(oblique, told)
            yield f"{position} double oblique", _through(double, told)


def _through(turn: Array, axes: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    return (turn @ axes[0], turn @ axes[1], turn @ axes[2])


def _spacing(shape: Sequence[int]) -> tuple[float, ...]:
    return tuple(FIELD_MM / size for size in shape)


def _volumes() -> Iterator[Case]:
    for name, axes in _acquisitions():
        for number, modality in enumerate(("CT", "MR", "PT")):
            # Some write from foot to head, some from head to foot.
            told = (axes[0] if number % 2 else -axes[0], axes[1], axes[2])
            picture = phantom.body(told, VOLUME, _spacing(VOLUME))
            for step in STEPS:
                yield Case(
                    name=f"{modality} volume {name}, {step.name}",
                    modality=modality,
                    maker="*",
                    picture=picture,
                    step=step,
                    tags={"PatientPosition": name[:3]},
                )


def _planes() -> Iterator[Case]:
    for name, axes in _acquisitions():
        for modality in ("CT", "MR"):
            picture = phantom.body(axes[1:], PLANE, _spacing(PLANE))
            for step in STEPS:
                if not step.is_volume_only:
                    yield Case(
                        name=f"{modality} slice {name}, {step.name}",
                        modality=modality,
                        maker="*",
                        picture=picture,
                        step=step,
                        tags={"PatientPosition": name[:3]},
                    )


def _in_plane() -> Iterator[Step]:
    return (step for step in STEPS if not step.is_volume_only)


def _chests() -> Iterator[Case]:
    """Radiographs have no Image Orientation (Patient): letters say where rows and columns go."""
    views = {"PA": (-_Z, _X), "AP": (-_Z, _X), "LL": (-_Z, -_Y), "RL": (-_Z, _Y)}
    for (view, axes), modality in itertools.product(views.items(), ("CR", "DX")):
        picture = phantom.body(axes, PLANE, _spacing(PLANE))
        for step in _in_plane():
            yield Case(
                name=f"{modality} chest {view}, {step.name}",
                modality=modality,
                maker="*",
                picture=picture,
                step=step,
                has_plane=False,
                letters=True,
                tags={"ViewPosition": view},
            )


def _hands() -> Iterator[Case]:
    """A part there are two of: a mirror image passes for the other one."""
    for side, step in itertools.product("LR", _in_plane()):
        across = _X if side == "L" else -_X
        yield Case(
            name=f"DX hand {side}, {step.name}",
            modality="DX",
            maker="*",
            picture=phantom.body((-_Z, across), PLANE, _spacing(PLANE)),
            step=step,
            has_plane=False,
            letters=True,
            is_one_sided=True,
            tags={"ImageLaterality": side},
        )


def _mammograms() -> Iterator[Case]:
    for side, view, is_turned in itertools.product("LR", ("CC", "MLO"), (False, True)):
        out = _X if side == "L" else -_X
        up = out if view == "CC" else np.asarray([0.5 * out[0], 0.0, math.sqrt(0.75)])
        across = _Y if is_turned else -_Y  # some store every breast the same way round
        picture = phantom.breast((-up, across), -_Y, up, MAMMOGRAM, (2.1, 1.7))
        for step in (*_in_plane(), _OTHER_SIDE, _OTHER_SIDE_AND_ARRAY):
            is_renamed = step in (_OTHER_SIDE, _OTHER_SIDE_AND_ARRAY)
            yield Case(
                name=f"MG {side} {view}{' turned' if is_turned else ''}, {step.name}",
                modality="MG",
                maker="*",
                picture=picture,
                step=step,
                has_plane=False,
                letters=True,
                is_one_sided=True,
                tags={"ImageLaterality": side, "ViewPosition": view},
                tags_after={"ImageLaterality": "R" if side == "L" else "L"} if is_renamed else {},
                truth="left-right" if is_renamed else None,
            )


_OTHER_SIDE = Step(name="the other side's letter")
_OTHER_SIDE_AND_ARRAY = Step(
    name="columns turned round and the other side's letter", array="columns", header="columns"
)

# What is wrong with a header, as tags over right ones. Empty text takes a tag away.
BROKEN: dict[str, dict[str, Any]] = {
    "no plane": {"ImageOrientationPatient": None},
    "five cosines": {"ImageOrientationPatient": ["1", "0", "0", "0", "1"]},
    "cosines of nothing": {"ImageOrientationPatient": ["0", "0", "0", "0", "0", "0"]},
    "cosines not at right angles": {"ImageOrientationPatient": ["1", "0", "0", "0.6", "0.8", "0"]},
    "cosines too long": {"ImageOrientationPatient": ["2", "0", "0", "0", "1", "0"]},
    "letters that contradict": {"PatientOrientation": ["R", "A"]},
    "letters of nothing": {"PatientOrientation": ["Q", "P"]},
    "one letter": {"PatientOrientation": ["L"]},
    "letters along one line": {"PatientOrientation": ["L", "R"]},
    "two sides": {"Laterality": "L", "ImageLaterality": "R"},
    "a side of nowhere": {"ImageLaterality": "X"},
    "a quadruped": {"AnatomicalOrientationType": "QUADRUPED"},
}
NOT_SAID: dict[str, dict[str, Any]] = {
    "patient turned": {"PatientPosition": "FFP"},
    "another view": {"ViewPosition": "PA"},
}
_UNTOUCHED = STEPS[0]


def _blind() -> Iterator[Case]:
    """Headers that cannot be used are never well, whatever was done; ultrasound has none to begin with."""
    axes = PLANES["axial"]
    picture = phantom.body(axes[1:], PLANE, _spacing(PLANE))
    plain = Case(
        name="",
        modality="CT",
        maker="*",
        picture=picture,
        step=_UNTOUCHED,
        tags={"PatientPosition": "HFS", "ViewPosition": "AP"},
        truth="cannot-tell",
    )
    for maker in MAKERS:
        for what, tags in BROKEN.items():
            first = {**plain.tags, **tags}
            named = dataclasses.replace(plain, maker=maker)
            yield dataclasses.replace(named, name=f"CT {what} before and after", tags=first)
            yield dataclasses.replace(
                named, name=f"MR {what} after", modality="MR", tags_after=tags
            )
        for what, tags in NOT_SAID.items():
            named = dataclasses.replace(plain, maker=maker, tags_after=tags)
            yield dataclasses.replace(named, name=f"CT {what}")
        for modality, array in itertools.product(("US", "CR"), ("nothing", "columns", "half-turn")):
            yield dataclasses.replace(
                plain,
                name=f"{modality} without any orientation, {array}",
                modality=modality,
                maker=maker,
                has_plane=False,
                tags={},
                step=Step(name=array, array=array),
                truth="mirror" if array == "columns" else "cannot-tell",
            )
