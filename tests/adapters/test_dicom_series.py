"""A folder of slices is one volume, in the order of positions and whatever the files are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuwarden.adapters import dicom, dicom_series
from gpuwarden.model.image import Pixels, TagTrouble, Trouble
from tests.adapters.dicom_files import image, raw

NAMES = ("c", "a", "d", "b")


def _slices(folder: Path, count: int = 4, **changed: Any) -> Path:
    """Slice k lies k * 5 mm up and holds k; ``changed`` is of slice 2 alone."""
    folder.mkdir(exist_ok=True)
    for k in range(count):
        tags: dict[str, Any] = {
            "SeriesInstanceUID": "1.2.9",
            "ImagePositionPatient": ["0", "0", str(5 * k)],
        }
        tags |= changed if k == 2 else {}
        array = np.full((3, 4), k, dtype="<u2")
        (folder / NAMES[k]).write_bytes(raw(image(array, **tags)))
    return folder


def test_slices_in_the_order_of_their_positions(tmp_path: Path) -> None:
    folder = _slices(tmp_path / "ct")
    (folder / ".hidden").write_bytes(b"junk")
    (folder / "DICOMDIR").write_bytes(b"junk")
    tags, pixels = dicom_series.read(folder)
    assert [frame.position for frame in tags.frames] == [
        (0, 0, 0),
        (0, 0, 5),
        (0, 0, 10),
        (0, 0, 15),
    ]
    assert tags.troubles == ()
    assert isinstance(pixels, Pixels)
    array = np.frombuffer(pixels.data, dtype=pixels.kind).reshape(pixels.shape)
    assert array[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_one_file_is_itself(tmp_path: Path) -> None:
    folder = _slices(tmp_path / "ct", count=1)
    assert dicom_series.read(folder) == dicom.read(folder / "c")


@pytest.mark.parametrize(
    ("changed", "tag", "why"),
    [
        ({"SeriesInstanceUID": "1.2.10"}, "file", Trouble.CONTRADICTORY),
        ({"PatientPosition": "FFP"}, "PatientPosition", Trouble.CONTRADICTORY),
        ({"Laterality": "L"}, "Laterality", Trouble.CONTRADICTORY),
        ({"Rows": 2, "Columns": 6}, "pixels", Trouble.CONTRADICTORY),
        (
            {"ImageOrientationPatient": ["1", "0", "0"]},
            "ImageOrientationPatient",
            Trouble.MALFORMED,
        ),
        ({"NumberOfFrames": "2", "Rows": 1}, "file", Trouble.UNSUPPORTED),
    ],
)
def test_slices_that_do_not_belong_together(
    tmp_path: Path, changed: dict[str, Any], tag: str, why: Trouble
) -> None:
    tags, pixels = dicom_series.read(_slices(tmp_path / "ct", **changed))
    found = [*tags.troubles, *([pixels] if isinstance(pixels, TagTrouble) else [])]
    assert (tag, why) in [(each.tag, each.why) for each in found]


def test_a_broken_file_among_them_names_itself(tmp_path: Path) -> None:
    folder = _slices(tmp_path / "ct")
    (folder / "notes.txt").write_bytes(b"remember")
    tags, pixels = dicom_series.read(folder)
    assert tags.troubles[0].why is Trouble.UNREADABLE
    assert tags.troubles[0].detail.startswith("notes.txt: ")
    assert isinstance(pixels, TagTrouble)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert dicom_series.read(tmp_path / "empty")[0].troubles[0].why is Trouble.MISSING
    folder = _slices(tmp_path / "ct")
    monkeypatch.setattr(dicom, "PIXELS_MAX_BYTES", 60)
    assert dicom_series.read(folder)[0].troubles[0].why is Trouble.TOO_LARGE
    monkeypatch.setattr(dicom_series, "FILES_MAX", 3)
    assert dicom_series.read(folder)[0].troubles[0].detail == "4 files"
