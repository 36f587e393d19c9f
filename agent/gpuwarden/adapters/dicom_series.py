"""A folder of single-slice DICOM files as one volume: its slices in the order in which they lie in the patient."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from gpuwarden.adapters import dicom
from gpuwarden.model.image import FrameTags, ImageTags, Pixels, TagTrouble, Trouble

FILES_MAX = 8192
_COMMON = (
    "modality",
    "manufacturer",
    "patient_orientation",
    "laterality",
    "image_laterality",
    "view_position",
    "patient_position",
    "is_quadruped",
)
"""What slices of one volume agree on."""
_Slice = tuple[ImageTags, Pixels | TagTrouble]


def read(folder: Path) -> tuple[ImageTags, Pixels | TagTrouble]:
    """All files of ``folder`` but hidden ones and a DICOMDIR. Names say nothing of the order; positions do."""
    names = sorted(
        each
        for each in folder.iterdir()
        if each.is_file() and not each.name.startswith(".") and each.name != "DICOMDIR"
    )
    if not 0 < len(names) <= FILES_MAX:
        why = Trouble.TOO_LARGE if names else Trouble.MISSING
        return _nothing(TagTrouble(tag="file", why=why, detail=f"{len(names)} files"))
    slices: list[_Slice] = []
    held = 0
    for name in names:
        tags, pixels = dicom.read(name)
        if isinstance(pixels, Pixels):
            held += len(pixels.data)
            if held > dicom.PIXELS_MAX_BYTES:
                detail = f"more than {dicom.PIXELS_MAX_BYTES >> 20} MiB of pixels"
                return _nothing(TagTrouble(tag="file", why=Trouble.TOO_LARGE, detail=detail))
        broken = next((each for each in tags.troubles if each.tag == "file"), None)
        if broken is not None:
            detail = f"{name.name[:64]}: {broken.detail}"
            return _nothing(TagTrouble(tag="file", why=broken.why, detail=detail))
        slices.append((tags, pixels))
    if len(slices) == 1:
        return slices[0]
    return _joined(slices)


def _nothing(trouble: TagTrouble) -> tuple[ImageTags, TagTrouble]:
    return ImageTags(troubles=(trouble,)), trouble


def _joined(slices: list[_Slice]) -> tuple[ImageTags, Pixels | TagTrouble]:
    series = {tags.series for tags, _ in slices}
    if len(series) > 1:
        detail = f"files of {len(series)} series"
        return _nothing(TagTrouble(tag="file", why=Trouble.CONTRADICTORY, detail=detail))
    if any(len(tags.frames) != 1 for tags, _ in slices):
        detail = "files of more than one frame in a series"
        return _nothing(TagTrouble(tag="file", why=Trouble.UNSUPPORTED, detail=detail))
    ordered = sorted(slices, key=lambda each: _place(each[0].frames[0]))
    first = ordered[0][0]
    troubles = dict.fromkeys(each for tags, _ in ordered for each in tags.troubles)
    for name in _COMMON:
        values = {getattr(tags, name) for tags, _ in ordered}
        if len(values) > 1:
            troubles[
                TagTrouble(tag=_tag(name), why=Trouble.CONTRADICTORY, detail="slices differ")
            ] = None
    tags = dataclasses.replace(
        first,
        frames=tuple(tags.frames[0] for tags, _ in ordered),
        troubles=tuple(troubles)[: dicom.TROUBLES_MAX],
    )
    return tags, _stacked([pixels for _, pixels in ordered])


def _tag(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _place(frame: FrameTags) -> float:
    """Along the plane's normal; 0 of all where that is not told, which leaves them as they came."""
    plane, position = frame.orientation, frame.position
    if plane is None or position is None:
        return 0.0
    a, b, c, d, e, f = plane
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    place = sum(n * p for n, p in zip(normal, position, strict=True))
    return place if math.isfinite(place) else 0.0


def _stacked(parts: list[Pixels | TagTrouble]) -> Pixels | TagTrouble:
    whole = []
    for each in parts:
        if isinstance(each, TagTrouble):
            return each
        whole.append(each)
    if len({(each.shape, each.kind) for each in whole}) > 1:
        return TagTrouble(tag="pixels", why=Trouble.CONTRADICTORY, detail="slices of other sizes")
    _, rows, columns = whole[0].shape
    return Pixels(
        shape=(len(whole), rows, columns),
        kind=whole[0].kind,
        data=b"".join(each.data for each in whole),
    )
