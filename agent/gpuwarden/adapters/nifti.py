"""NIfTI files through nibabel: where the axes of an array are said to point, and the array, as plain data.

Hostile until read: a bound on bytes, compressed or not; whatever nibabel raises becomes a trouble. Nothing is judged here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpuwarden.errors import Unsupported
from gpuwarden.model.image import ArrayTags, Convention, Pixels, TagTrouble, Trouble

FILE_MAX_BYTES = 1 << 30
PIXELS_MAX_BYTES = 512 << 20


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read(path: Path) -> tuple[ArrayTags | TagTrouble, Pixels | TagTrouble]:
    """The first volume of a file. Raises ``Unsupported`` without nibabel."""
    try:
        import nibabel
    except ImportError as error:
        raise Unsupported("nibabel is not installed: pip install 'gpuwarden[dicom]'") from error
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            return _twice(Trouble.TOO_LARGE, f"a file of more than {FILE_MAX_BYTES >> 20} MiB")
        image: Any = nibabel.load(path)
        tags = _claimed(image)
    except Exception as error:  # noqa: BLE001  # whatever a file provokes in the parser
        return _twice(Trouble.UNREADABLE, _said(error))
    try:
        return tags, _array(image)
    except Exception as error:  # noqa: BLE001  # a file that ends early, a broken gzip stream
        return tags, TagTrouble(tag="pixels", why=Trouble.UNREADABLE, detail=_said(error))


def _twice(why: Trouble, detail: str) -> tuple[TagTrouble, TagTrouble]:
    trouble = TagTrouble(tag="file", why=why, detail=detail)
    return trouble, trouble


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _claimed(image: Any) -> ArrayTags | TagTrouble:
    """nibabel makes an affine up where neither sform nor qform tells one: that is no claim."""
    header = image.header
    if "sform_code" not in header:
        return TagTrouble(tag="affine", why=Trouble.UNSUPPORTED, detail=type(image).__name__)
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not has_sform and not has_qform:
        return TagTrouble(tag="affine", why=Trouble.MISSING, detail="sform and qform codes are 0")
    rows = _rows(header.get_sform() if has_sform else header.get_qform())
    if has_sform and has_qform and _differ(rows, _rows(header.get_qform())):
        detail = "sform and qform point different ways"
        return TagTrouble(tag="affine", why=Trouble.CONTRADICTORY, detail=detail)
    longer = [k for k, size in enumerate(image.shape[:3]) if size > 1]
    if len(longer) == 2:  # a plane: the axis of one sample has no direction that pixels could show
        rows = tuple(tuple(row[k] for k in longer) for row in rows[:3])
    return ArrayTags(affine=rows, convention=Convention.RAS)


def _rows(matrix: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix.tolist())


def _differ(first: tuple[tuple[float, ...], ...], second: tuple[tuple[float, ...], ...]) -> bool:
    """An axis points to the other side of where the other matrix has it."""
    return any(sum(first[row][k] * second[row][k] for row in range(3)) < 0 for k in range(3))


def _array(image: Any) -> Pixels | TagTrouble:
    shape = tuple(int(size) for size in image.shape)
    kind = image.header.get_data_dtype()
    count = 1
    for size in shape:
        count *= size
    if count <= 0 or count * kind.itemsize > PIXELS_MAX_BYTES:
        return TagTrouble(tag="pixels", why=Trouble.TOO_LARGE, detail=f"shape {shape[:4]}")
    array = image.dataobj.get_unscaled()
    while array.ndim > 3:
        array = array[..., 0]
    return Pixels(
        shape=tuple(int(size) for size in array.shape),
        kind=array.dtype.str,
        data=array.tobytes("C"),
    )
