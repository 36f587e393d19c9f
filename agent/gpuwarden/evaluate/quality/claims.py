"""What an image's header claims of its orientation, and whether it contradicts itself."""

import itertools
from dataclasses import dataclass

from gpuwarden.evaluate.quality import axes as axis
from gpuwarden.evaluate.quality.axes import Axes, Vector
from gpuwarden.model.image import ArrayTags, FrameTags, ImageTags, TagTrouble, Trouble

SIDES = frozenset({"L", "R"})
_SIDE_WORDS = frozenset({"L", "R", "U", "B"})  # left, right, unpaired, both: PS3.3 C.7.6.1.1.2
_SAME_PLANE = 0.999  # cosine between frames of one stack
_AGREES = 0.5  # cosine between a direction and the letters for it: letters are coarse


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """``axes`` is None where ``troubles`` say why; troubles with axes do not touch these."""

    axes: Axes | None
    side: str | None = None
    """``L`` or ``R``, where all tags that tell it agree."""
    troubles: tuple[TagTrouble, ...] = ()
    view: str | None = None
    patient_position: str | None = None
    is_projection: bool = False
    """Letters alone: a picture through the body, which has no depth."""


def of_image(tags: ImageTags) -> Claim:
    """Of a header. A stack of more than one frame has three axes, (frames, rows, columns), else two."""
    troubles = list(tags.troubles)
    if tags.is_quadruped:
        troubles.append(
            _trouble("AnatomicalOrientationType", Trouble.UNSUPPORTED, "a quadruped's axes")
        )
    side = _side(tags, troubles)
    axes = None if any(_blinds(each) for each in troubles) else _axes(tags, troubles)
    return Claim(
        axes=axes,
        side=side,
        troubles=tuple(troubles),
        view=tags.view_position,
        patient_position=tags.patient_position,
        is_projection=axes is not None and not any(each.orientation for each in tags.frames),
    )


def of_array(tags: ArrayTags) -> Claim:
    """Of an array with a code or an affine."""
    found = axis.of_array(tags)
    if isinstance(found, TagTrouble):
        return Claim(axes=None, side=tags.laterality, troubles=(found,))
    return Claim(axes=found, side=tags.laterality)


def _blinds(trouble: TagTrouble) -> bool:
    return trouble.tag in ("file", "AnatomicalOrientationType", "ImageOrientationPatient", "frames")


def _side(tags: ImageTags, troubles: list[TagTrouble]) -> str | None:
    told = dict.fromkeys(
        (tag, value)
        for tag, value in (
            ("Laterality", tags.laterality),
            ("ImageLaterality", tags.image_laterality),
            *(("FrameLaterality", each.laterality) for each in tags.frames),
        )
        if value
    )
    for tag, value in told:
        if value not in _SIDE_WORDS:
            troubles.append(_trouble(tag, Trouble.MALFORMED, f"{value[:8]!r} is none of R L U B"))
    sides = {value for _, value in told if value in SIDES}
    if len(sides) > 1:
        troubles.append(_trouble("Laterality", Trouble.CONTRADICTORY, "both L and R are told"))
    return sides.pop() if len(sides) == 1 else None


def _axes(tags: ImageTags, troubles: list[TagTrouble]) -> Axes | None:
    planes = []
    for frame in tags.frames:
        if frame.orientation is None:
            continue
        plane = axis.of_orientation(frame.orientation)
        if isinstance(plane, TagTrouble):
            troubles.append(plane)
            return None
        planes.append(plane)
    letters = _letters(tags, troubles)
    if any(each.tag == "PatientOrientation" and each.why is Trouble.MALFORMED for each in troubles):
        return None
    if not planes:
        if letters is None:
            troubles.append(
                _trouble("ImageOrientationPatient", Trouble.MISSING, "nor Patient Orientation")
            )
            return None
        if len(tags.frames) > 1:
            troubles.append(
                _trouble("ImageOrientationPatient", Trouble.MISSING, "of a stack of frames")
            )
            return None
        return Axes(vectors=letters)
    return _stack(tags.frames, planes, letters, troubles)


def _letters(tags: ImageTags, troubles: list[TagTrouble]) -> tuple[Vector, Vector] | None:
    if not tags.patient_orientation:
        return None
    found = axis.of_letters(tags.patient_orientation)
    if isinstance(found, TagTrouble):
        troubles.append(found)
        return None
    return found


def _stack(
    frames: tuple[FrameTags, ...],
    planes: list[tuple[Vector, Vector]],
    letters: tuple[Vector, Vector] | None,
    troubles: list[TagTrouble],
) -> Axes | None:
    first = planes[0]
    if len(planes) < len(frames):
        troubles.append(_trouble("ImageOrientationPatient", Trouble.MISSING, "of some frames"))
        return None
    if any(axis.dot(plane[k], first[k]) < _SAME_PLANE for plane in planes[1:] for k in (0, 1)):
        troubles.append(_trouble("frames", Trouble.UNSUPPORTED, "frames of more than one plane"))
        return None
    if letters is not None and any(axis.dot(letters[k], first[k]) < _AGREES for k in (0, 1)):
        troubles.append(
            _trouble(
                "PatientOrientation",
                Trouble.CONTRADICTORY,
                f"says {Axes(vectors=letters).code} where the cosines say {Axes(vectors=first).code}",
            )
        )
        return None
    if len(frames) == 1:
        return Axes(vectors=first)
    depth = _depth(frames, axis.cross(first[1], first[0]), troubles)
    return None if depth is None else Axes(vectors=(depth, *first))


def _depth(
    frames: tuple[FrameTags, ...], normal: Vector, troubles: list[TagTrouble]
) -> Vector | None:
    """From the first frame to the last: along the normal or against it, and one way only. A tilted gantry's
    frames go at a slant, as an affine made of them does."""
    tag = "ImagePositionPatient"
    places: list[Vector] = []
    for frame in frames:
        if frame.position is None:
            troubles.append(_trouble(tag, Trouble.MISSING, "the order of the frames is not known"))
            return None
        place = frame.position
        if len(place) != 3 or not all(abs(value) < 1e9 for value in place):
            troubles.append(_trouble(tag, Trouble.MALFORMED, "not three numbers of mm"))
            return None
        places.append((place[0], place[1], place[2]))
    along = [axis.dot(place, normal) for place in places]
    steps = [after - before for before, after in itertools.pairwise(along)]
    if not (all(step > 1e-6 for step in steps) or all(step < -1e-6 for step in steps)):
        troubles.append(_trouble(tag, Trouble.CONTRADICTORY, "frames that do not go one way"))
        return None
    first, last = places[0], places[-1]
    depth = axis.unit((last[0] - first[0], last[1] - first[1], last[2] - first[2]))
    if depth is None or abs(axis.dot(depth, normal)) < _AGREES:
        troubles.append(_trouble(tag, Trouble.CONTRADICTORY, "frames that slide along themselves"))
        return None
    return depth


def _trouble(tag: str, why: Trouble, detail: str) -> TagTrouble:
    return TagTrouble(tag=tag, why=why, detail=detail)
