"""An image as its header tells of it: what the orientation check is made from, and how each tag can be wrong.

Directions are in the patient's coordinates of DICOM (PS3.3 C.7.6.2.1.1): x to the patient's Left, y to the
Posterior, z to the Head (Superior): LPS.
"""

from dataclasses import dataclass
from enum import StrEnum


class Trouble(StrEnum):
    """Why a header, or the pixels under it, cannot be used. None of these is good news."""

    MISSING = "missing"
    MALFORMED = "malformed"
    CONTRADICTORY = "contradictory"
    UNSUPPORTED = "unsupported"
    """It may be right, but nothing here can read it: a codec, an animal's axes."""
    UNREADABLE = "unreadable"
    TOO_LARGE = "too-large"
    AMBIGUOUS = "ambiguous"
    """The pixels look the same in more than one position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagTrouble:
    """One thing that is wrong with one tag (or with ``pixels``)."""

    tag: str
    why: Trouble
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTags:
    """One frame's own plane, as it was written: nothing of it has been judged yet."""

    orientation: tuple[float, ...] | None = None
    """Image Orientation (Patient): direction of growing columns, then of growing rows."""
    position: tuple[float, ...] | None = None
    """Image Position (Patient), in mm."""
    laterality: str | None = None
    """Frame Laterality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTags:
    """What a header says of where left is. None: not told; ``troubles`` has what was told and not understood."""

    modality: str | None = None
    manufacturer: str | None = None
    series: str | None = None
    """Series Instance UID: files of one series are one volume."""
    frames: tuple[FrameTags, ...] = ()
    """In the order of the pixels; a plain image has one."""
    patient_orientation: tuple[str, ...] | None = None
    """Patient Orientation: letters of growing columns, then of growing rows, such as ``("L", "F")``."""
    laterality: str | None = None
    image_laterality: str | None = None
    view_position: str | None = None
    patient_position: str | None = None
    """HFS, HFP, FFS, FFP and so on: how the patient lay."""
    is_quadruped: bool = False
    """Anatomical Orientation Type: an animal's axes have other names."""
    troubles: tuple[TagTrouble, ...] = ()


class Convention(StrEnum):
    """Where an affine's x and y grow to. z grows to the head in both."""

    LPS = "LPS"
    """DICOM, ITK."""
    RAS = "RAS"
    """NIfTI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayTags:
    """What is claimed of an array that preprocessing made. Give one of the two."""

    code: str | None = None
    """A letter (R L A P S I) an axis of the array, first axis first: where the patient lies towards growing index."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """Index to mm, 3x3 to 4x4, one column an axis of the array; 3x2 of a plane."""
    convention: Convention = Convention.RAS
    laterality: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """An array as plain data: C order, first axis first (frames, rows, columns)."""

    shape: tuple[int, ...]
    kind: str
    """As numpy writes it: ``<u2``, ``|u1``, ``<i2``, ``<f4``."""
    data: bytes
