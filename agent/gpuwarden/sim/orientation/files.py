"""Pictures written as DICOM files by pydicom, with the tags that scanners of these makes write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from gpuwarden.sim.orientation.phantom import Array

MAKERS = (
    "GE MEDICAL SYSTEMS",
    "SIEMENS",
    "Philips Medical Systems",
    "TOSHIBA",
    "CANON_MEC",
    "FUJIFILM Corporation",
    "HOLOGIC, Inc.",
)
_CLASSES = {
    ("CT", True): "1.2.840.10008.5.1.4.1.1.2.1",
    ("MR", True): "1.2.840.10008.5.1.4.1.1.4.1",
    ("PT", True): "1.2.840.10008.5.1.4.1.1.130",
    ("CT", False): "1.2.840.10008.5.1.4.1.1.2",
    ("MR", False): "1.2.840.10008.5.1.4.1.1.4",
    ("PT", False): "1.2.840.10008.5.1.4.1.1.128",
    ("MG", False): "1.2.840.10008.5.1.4.1.1.1.2",
    ("CR", False): "1.2.840.10008.5.1.4.1.1.1",
    ("DX", False): "1.2.840.10008.5.1.4.1.1.1.1",
    ("US", False): "1.2.840.10008.5.1.4.1.1.6.1",
}


def made(
    values: Array,
    *,
    modality: str,
    maker: str,
    axes: Sequence[Array] | None,
    spacing_mm: Sequence[float],
    tags: Mapping[str, Any],
) -> Dataset:
    """``axes`` None: no plane is told. Three axes become frames with functional groups of their own."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(_CLASSES[modality, values.ndim == 3])
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[maker, modality])
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    data.Modality = modality
    if maker:
        data.Manufacturer = maker
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    if axes is not None:
        _place(data, values.shape, axes, spacing_mm)
    for tag, value in tags.items():
        setattr(data, tag, value)
    grey = np.clip(values * 8.0, 0, 4095).astype("<u2")
    data.PixelData = grey.tobytes()
    return data


def save(data: Dataset, path: Path) -> Path:
    data.save_as(path, enforce_file_format=True)
    return path


def _numbers(vector: Array) -> list[str]:
    return [f"{value:.6f}" for value in vector]


def _place(
    data: Dataset, shape: Sequence[int], axes: Sequence[Array], spacing_mm: Sequence[float]
) -> None:
    plane = [*_numbers(axes[-1]), *_numbers(axes[-2])]
    start = sum(
        -(size - 1) / 2.0 * step * axis
        for size, step, axis in zip(shape, spacing_mm, axes, strict=True)
    )
    if len(axes) == 2:
        data.ImageOrientationPatient = plane
        data.ImagePositionPatient = _numbers(np.asarray(start))
        data.PixelSpacing = [f"{spacing_mm[-2]:.6f}", f"{spacing_mm[-1]:.6f}"]
        return
    data.NumberOfFrames = shape[0]
    shared, orientation = Dataset(), Dataset()
    orientation.ImageOrientationPatient = plane
    shared.PlaneOrientationSequence = Items([orientation])
    data.SharedFunctionalGroupsSequence = Items([shared])
    groups = []
    for frame in range(shape[0]):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = _numbers(
            np.asarray(start + frame * spacing_mm[0] * axes[0])
        )
        group.PlanePositionSequence = Items([position])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Items(groups)
