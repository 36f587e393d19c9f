"""DICOM files made by pydicom, right and broken, for the tests of what reads them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

CT = UID("1.2.840.10008.5.1.4.1.1.2")


def image(
    array: NDArray[Any] | None = None, syntax: UID = ExplicitVRLittleEndian, **tags: Any
) -> Dataset:
    """A CT slice; ``tags`` over what one has."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT, UID("1.2.3")
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CT, "1.2.3", "CT"
    data.Manufacturer = "SIEMENS"
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.ImagePositionPatient = ["0", "0", "0"]
    grey = np.arange(48, dtype="<u2").reshape(6, 8) if array is None else array
    data.Rows, data.Columns = grey.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored = grey.dtype.itemsize * 8, grey.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = (
        grey.dtype.itemsize * 8 - 1,
        int(grey.dtype.kind == "i"),
    )
    if grey.ndim == 3:
        data.NumberOfFrames = grey.shape[0]
    data.PixelData = grey.tobytes()
    for name, value in tags.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    return data


def raw(data: Dataset) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
