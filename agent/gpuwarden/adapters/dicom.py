"""DICOM files through pydicom: tags that say where left is, and pixels, as plain data.

A file is hostile until it is read: bytes, frames and pixels have bounds, a deflated one is not inflated (it can
be a thousand times what it weighs), whatever pydicom raises becomes a trouble that names the tag. Nothing is judged here.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from gpuwarden.errors import Unsupported
from gpuwarden.model.image import FrameTags, ImageTags, Pixels, TagTrouble, Trouble

if TYPE_CHECKING:
    from pydicom import Dataset

HEADER_MAX_BYTES = 64 << 20
"""All that stands before the pixels. The largest headers (per-frame groups of thousands of frames) have 10 to 20 MiB."""
FILE_MAX_BYTES = 1 << 30
PIXELS_MAX_BYTES = 512 << 20
FRAMES_MAX = 8192
TROUBLES_MAX = 32
TEXT_MAX_CHARS = 64  # LO, the longest of the texts read here
_VALUES_MAX = 16
_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.8.1")
_TAGS = (
    "SOPClassUID",
    "Modality",
    "Manufacturer",
    "SeriesInstanceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PatientOrientation",
    "Laterality",
    "ImageLaterality",
    "ViewPosition",
    "PatientPosition",
    "AnatomicalOrientationType",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


class _TooLarge(Exception):
    """More was read of a file than a header may have."""


class _Bounded:
    """A file of which only so many bytes are read, however often it is sought in."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._left = limit
        self.name = ""

    def read(self, size: int = -1) -> bytes:
        wanted = self._left + 1 if size < 0 else size
        if wanted > self._left:
            # A length that the file does not have costs nothing; more than the bound that it does have is refused.
            read = self._file.read(self._left + 1)
            if len(read) > self._left:
                raise _TooLarge
        else:
            read = self._file.read(wanted)
        self._left -= len(read)
        return read

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def read(path: Path) -> tuple[ImageTags, Pixels | TagTrouble]:
    """A file's header and its pixels, each with what is wrong with it. Raises ``Unsupported`` without pydicom."""
    tags, header = _header(path)
    if header is None:
        return tags, TagTrouble(tag="pixels", why=Trouble.UNREADABLE, detail="no header")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return tags, _pixels(path, header)
        except Exception as error:  # noqa: BLE001  # a decoder's own errors have no common root
            return tags, TagTrouble(tag="pixels", why=Trouble.UNREADABLE, detail=_said(error))


def read_tags(path: Path) -> ImageTags:
    """The header alone."""
    return _header(path)[0]


def _header(path: Path) -> tuple[ImageTags, Dataset | None]:
    _required()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # pydicom warns of values; what is wrong with ours is told below
        try:
            header = _opened(path)
        except _TooLarge:
            detail = f"more than {HEADER_MAX_BYTES >> 20} MiB before the pixels"
            return _broken(Trouble.TOO_LARGE, detail), None
        except Exception as error:  # noqa: BLE001  # struct.error, KeyError, RecursionError: whatever a file provokes
            return _broken(Trouble.UNREADABLE, _said(error)), None
        if isinstance(header, TagTrouble):
            return ImageTags(troubles=(header,)), None
        return _tags(header), header


def _required() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise Unsupported("pydicom is not installed: pip install 'gpuwarden[dicom]'") from error
    # It also logs each warning about a value, to standard error where nobody has set logging up.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def _opened(path: Path) -> Dataset | TagTrouble:
    import pydicom
    from pydicom import filereader

    if path.stat().st_size > FILE_MAX_BYTES:
        detail = f"a file of more than {FILE_MAX_BYTES >> 20} MiB"
        return TagTrouble(tag="file", why=Trouble.TOO_LARGE, detail=detail)
    with path.open("rb") as file:
        bounded = cast("Any", _Bounded(file, HEADER_MAX_BYTES))
        filereader.read_preamble(bounded, force=False)
        meta = filereader.read_dataset(
            bounded,
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, vr, length: tag.group != 2,
        )
        if str(meta.get("TransferSyntaxUID", "")) in _DEFLATED:
            return TagTrouble(tag="file", why=Trouble.UNSUPPORTED, detail="a deflated file")
        file.seek(0)
        return pydicom.dcmread(
            cast("Any", _Bounded(file, HEADER_MAX_BYTES)),
            stop_before_pixels=True,
            specific_tags=list(_TAGS),
        )


def _broken(why: Trouble, detail: str) -> ImageTags:
    return ImageTags(troubles=(TagTrouble(tag="file", why=why, detail=detail),))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


class _Reader:
    """Values of one header, each with its troubles."""

    def __init__(self) -> None:
        self.troubles: list[TagTrouble] = []

    def text(self, data: Dataset, tag: str) -> str | None:
        """A code word or a name: upper and lower case as they are, blanks cut off."""
        value = self._value(data, tag)
        if value is None:
            return None
        said = str(value).strip(" \0")
        if len(said) > TEXT_MAX_CHARS or not said.isprintable():
            self._wrong(tag, f"{len(said)} characters, or not printable")
            return None
        return said or None

    def words(self, data: Dataset, tag: str) -> tuple[str, ...] | None:
        value = self._value(data, tag)
        if value is None:
            return None
        parts = value.split("\\") if isinstance(value, str) else value
        if not isinstance(parts, Iterable):
            self._wrong(tag, "no list of words")
            return None
        said = tuple(
            str(each).strip(" \0")[:8] for each, _ in zip(parts, range(_VALUES_MAX), strict=False)
        )
        return said if any(said) else None

    def numbers(self, data: Dataset, tag: str, count: int) -> tuple[float, ...] | None:
        """None with a trouble where it is there and is not ``count`` finite numbers."""
        value = self._value(data, tag)
        if value is None:
            return None
        parts = value.split("\\") if isinstance(value, str) else value
        try:
            said = tuple(float(each) for each, _ in zip(parts, range(_VALUES_MAX), strict=False))
        except (TypeError, ValueError, OverflowError):
            self._wrong(tag, "not numbers")
            return None
        if len(said) != count or not all(math.isfinite(each) for each in said):
            self._wrong(tag, f"{len(said)} values and not {count} finite numbers")
            return None
        return said

    def count(self, data: Dataset, tag: str) -> int | None:
        value = self._value(data, tag)
        try:
            return None if value is None else int(str(value))
        except ValueError:
            self._wrong(tag, "no number")
            return None

    def items(self, data: Dataset, tag: str) -> list[Dataset]:
        value = self._value(data, tag)
        if value is None:
            return []
        if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
            self._wrong(tag, "no sequence")
            return []
        if len(value) > FRAMES_MAX:
            self.troubles.append(
                TagTrouble(tag="frames", why=Trouble.TOO_LARGE, detail=f"{len(value)} items")
            )
            return []
        return list(value)

    def _value(self, data: Dataset, tag: str) -> Any:
        """None: absent or empty."""
        try:
            value = data.get(tag)
            # A sequence in place of a value, or a value in place of a sequence, has other methods than expected.
            return (
                None if value is None or (hasattr(value, "__len__") and not len(value)) else value
            )
        except Exception as error:  # noqa: BLE001  # values are converted here, by a VR that may not be theirs
            self._wrong(tag, _said(error))
            return None

    def _wrong(self, tag: str, detail: str) -> None:
        found = TagTrouble(tag=tag, why=Trouble.MALFORMED, detail=detail)
        if len(self.troubles) < TROUBLES_MAX and found not in self.troubles:
            self.troubles.append(found)


def _tags(header: Dataset) -> ImageTags:
    reader = _Reader()
    found = ImageTags(
        modality=reader.text(header, "Modality"),
        manufacturer=reader.text(header, "Manufacturer"),
        series=reader.text(header, "SeriesInstanceUID"),
        frames=_frames(header, reader),
        patient_orientation=reader.words(header, "PatientOrientation"),
        laterality=reader.text(header, "Laterality"),
        image_laterality=reader.text(header, "ImageLaterality"),
        view_position=reader.text(header, "ViewPosition"),
        patient_position=reader.text(header, "PatientPosition"),
        is_quadruped=reader.text(header, "AnatomicalOrientationType") == "QUADRUPED",
    )
    return _with(found, reader.troubles)


def _with(tags: ImageTags, troubles: list[TagTrouble]) -> ImageTags:
    return dataclasses.replace(tags, troubles=tuple(troubles)) if troubles else tags


def _frames(header: Dataset, reader: _Reader) -> tuple[FrameTags, ...]:
    """Enhanced images tell a frame's plane in functional groups, shared or each their own; others at the top."""
    shared = reader.items(header, "SharedFunctionalGroupsSequence")
    per_frame = reader.items(header, "PerFrameFunctionalGroupsSequence")
    common = _group(shared[0], reader) if shared else FrameTags()
    if not shared and not per_frame:
        common = FrameTags(
            orientation=reader.numbers(header, "ImageOrientationPatient", 6),
            position=reader.numbers(header, "ImagePositionPatient", 3),
        )
    number = reader.count(header, "NumberOfFrames")
    frames = 1 if number is None else number
    if not 1 <= frames <= FRAMES_MAX:
        why = Trouble.TOO_LARGE if frames > FRAMES_MAX else Trouble.MALFORMED
        reader.troubles.append(TagTrouble(tag="frames", why=why, detail=f"{frames} frames"))
        return ()
    if not per_frame:
        return (common,) * frames
    if len(per_frame) != frames:
        detail = f"{frames} frames and {len(per_frame)} of their groups"
        reader.troubles.append(TagTrouble(tag="frames", why=Trouble.CONTRADICTORY, detail=detail))
        return ()
    return tuple(_over(common, _group(each, reader)) for each in per_frame)


def _over(common: FrameTags, own: FrameTags) -> FrameTags:
    return FrameTags(
        orientation=own.orientation or common.orientation,
        position=own.position or common.position,
        laterality=own.laterality or common.laterality,
    )


def _group(item: Dataset, reader: _Reader) -> FrameTags:
    orientation = reader.items(item, "PlaneOrientationSequence")
    position = reader.items(item, "PlanePositionSequence")
    anatomy = reader.items(item, "FrameAnatomySequence")
    return FrameTags(
        orientation=reader.numbers(orientation[0], "ImageOrientationPatient", 6)
        if orientation
        else None,
        position=reader.numbers(position[0], "ImagePositionPatient", 3) if position else None,
        laterality=reader.text(anatomy[0], "FrameLaterality") if anatomy else None,
    )


def _pixels(path: Path, header: Dataset) -> Pixels | TagTrouble:
    import pydicom
    from pydicom.pixels.decoders.base import get_decoder

    sizes = [header.get(tag) for tag in ("Rows", "Columns", "BitsAllocated")]
    rows, columns, bits = (int(str(each or 0)) for each in sizes)
    frames = int(str(header.get("NumberOfFrames") or 1))
    samples = int(str(header.get("SamplesPerPixel") or 1))
    if not (
        rows > 0 and columns > 0 and frames > 0 and samples in (1, 3) and bits in (8, 16, 32, 64)
    ):
        return _unread(Trouble.UNSUPPORTED, f"{rows}x{columns}, {samples} samples of {bits} bits")
    expected = rows * columns * frames * samples * bits // 8
    if expected > PIXELS_MAX_BYTES:
        return _unread(Trouble.TOO_LARGE, f"{expected >> 20} MiB of pixels")
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed and os.path.getsize(path) < expected:
        return _unread(Trouble.UNREADABLE, "the file ends before its pixels do")
    decoder = get_decoder(syntax)
    if not decoder.is_available:
        return _unread(Trouble.UNSUPPORTED, f"no codec for {syntax.name} is installed")
    data = pydicom.dcmread(path)
    buffer, meta = decoder.as_buffer(data, raw=True)
    plain = bytes(buffer)
    if len(plain) != expected:
        return _unread(Trouble.MALFORMED, f"{len(plain)} bytes of pixels and not {expected}")
    letter = "u" if not meta.get("pixel_representation") else "i"
    if meta.get("pixel_keyword") in ("FloatPixelData", "DoubleFloatPixelData"):
        letter = "f"
    if samples == 3:
        if bits != 8:
            return _unread(Trouble.UNSUPPORTED, f"colours of {bits} bits")
        plain = _one_sample(plain, rows * columns, planar=bool(meta.get("planar_configuration")))
    order = ">" if not syntax.is_little_endian else "<"
    return Pixels(shape=(frames, rows, columns), kind=f"{order}{letter}{bits // 8}", data=plain)


def _one_sample(plain: bytes, frame: int, *, planar: bool) -> bytes:
    """The first of three colours: where left is does not depend on the colour."""
    if not planar:
        return plain[0::3]
    return b"".join(plain[at : at + frame] for at in range(0, len(plain), 3 * frame))


def _unread(why: Trouble, detail: str) -> TagTrouble:
    return TagTrouble(tag="pixels", why=why, detail=detail)
