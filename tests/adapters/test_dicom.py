"""DICOM files become plain data; hostile ones become troubles, within bounds."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from gpuwarden.adapters import dicom
from gpuwarden.model.image import Pixels, TagTrouble, Trouble
from tests.adapters.dicom_files import image, raw


def _saved(folder: Path, data: Dataset | bytes) -> Path:
    path = folder / "image.dcm"
    path.write_bytes(data if isinstance(data, bytes) else raw(data))
    return path


def test_a_plain_slice(tmp_path: Path) -> None:
    path = _saved(
        tmp_path,
        image(
            PatientOrientation=["L", "P"],
            Laterality="L",
            ImageLaterality="R",
            ViewPosition="AP",
            PatientPosition="FFP",
            AnatomicalOrientationType="QUADRUPED",
        ),
    )
    tags, pixels = dicom.read(path)
    assert (tags.modality, tags.manufacturer) == ("CT", "SIEMENS")
    assert list(tags.frames[0].orientation or ()) == [1, 0, 0, 0, 1, 0]
    assert list(tags.frames[0].position or ()) == [0, 0, 0]
    assert tags.patient_orientation == ("L", "P")
    assert (tags.laterality, tags.image_laterality) == ("L", "R")
    assert (tags.view_position, tags.patient_position) == ("AP", "FFP")
    assert tags.is_quadruped
    assert tags.troubles == ()
    assert isinstance(pixels, Pixels)
    assert (pixels.shape, pixels.kind) == ((1, 6, 8), "<u2")
    assert pixels.data == np.arange(48, dtype="<u2").tobytes()
    assert dicom.read_tags(path) == tags


def _group(orientation: list[str] | None, position: list[str] | None, side: str | None) -> Dataset:
    group = Dataset()
    if orientation:
        item = Dataset()
        item.ImageOrientationPatient = orientation
        group.PlaneOrientationSequence = Sequence([item])
    if position:
        item = Dataset()
        item.ImagePositionPatient = position
        group.PlanePositionSequence = Sequence([item])
    if side:
        item = Dataset()
        item.FrameLaterality = side
        group.FrameAnatomySequence = Sequence([item])
    return group


def test_functional_groups_shared_and_of_each_frame(tmp_path: Path) -> None:
    array = np.arange(3 * 4 * 5, dtype="<i2").reshape(3, 4, 5)
    data = image(array, ImageOrientationPatient=None, ImagePositionPatient=None)
    plane = ["0", "1", "0", "0", "0", "-1"]
    data.SharedFunctionalGroupsSequence = Sequence([_group(plane, None, "R")])
    data.PerFrameFunctionalGroupsSequence = Sequence(
        [_group(None, ["0", "0", str(k)], "L" if k == 2 else None) for k in range(3)]
    )
    tags, pixels = dicom.read(_saved(tmp_path, data))
    assert [frame.orientation for frame in tags.frames] == [(0, 1, 0, 0, 0, -1)] * 3
    assert [frame.position for frame in tags.frames] == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    assert [frame.laterality for frame in tags.frames] == ["R", "R", "L"]
    assert isinstance(pixels, Pixels)
    assert (pixels.shape, pixels.kind) == ((3, 4, 5), "<i2")


def test_frames_and_groups_that_do_not_agree(tmp_path: Path) -> None:
    data = image(np.zeros((3, 4, 5), dtype="<u2"))
    data.PerFrameFunctionalGroupsSequence = Sequence([_group(None, None, None)])
    tags, _ = dicom.read(_saved(tmp_path, data))
    assert tags.frames == ()
    assert [(each.tag, each.why) for each in tags.troubles] == [("frames", Trouble.CONTRADICTORY)]


def test_missing_tags_are_missing_and_not_troubles_of_the_reader(tmp_path: Path) -> None:
    tags, _ = dicom.read(_saved(tmp_path, image(ImageOrientationPatient=None, Manufacturer="")))
    assert tags.frames[0].orientation is None
    assert tags.manufacturer is None
    assert tags.troubles == ()


@pytest.mark.parametrize("value", [["1", "0", "0"], ["1"] * 12, ["1e400", "0", "0", "0", "1", "0"]])
def test_cosines_that_are_no_six_numbers(tmp_path: Path, value: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = _saved(tmp_path, image(ImageOrientationPatient=value))
    tags, _ = dicom.read(path)
    assert tags.frames[0].orientation is None
    assert [(each.tag, each.why) for each in tags.troubles] == [
        ("ImageOrientationPatient", Trouble.MALFORMED)
    ]


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("LO", "left is left"),
        ("SQ", Sequence([Dataset()])),
        ("OB", b"\xff" * 48),
        ("UN", b"1\\0\\0"),
        ("AT", 0x00100010),
    ],
)
def test_a_tag_of_another_kind(tmp_path: Path, vr: str, value: object) -> None:
    data = image()
    del data.ImageOrientationPatient
    data.add_new("ImageOrientationPatient", vr, value)
    tags, _ = dicom.read(_saved(tmp_path, data))
    assert tags.frames[0].orientation is None
    assert tags.troubles[0].tag == "ImageOrientationPatient"
    assert tags.troubles[0].why is Trouble.MALFORMED


def test_a_text_of_another_kind(tmp_path: Path) -> None:
    data = image()
    data.add_new("Laterality", "LT", "L" * 5000)
    data.add_new("PatientOrientation", "LO", ["L", "P"] * 500)
    tags, _ = dicom.read(_saved(tmp_path, data))
    assert tags.laterality is None
    assert tags.patient_orientation is not None
    assert len(tags.patient_orientation) == 16


def test_every_beginning_of_a_file(tmp_path: Path) -> None:
    whole = raw(image())
    for length in range(0, len(whole), 7):
        tags, pixels = dicom.read(_saved(tmp_path, whole[:length]))
        assert isinstance(pixels, TagTrouble), length
        assert tags.frames == () or tags.frames[0].orientation in (None, (1, 0, 0, 0, 1, 0))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_turned_anywhere(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(raw(image()))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = _saved(tmp_path_factory.mktemp("turned"), bytes(whole))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing of pydicom's gets out
        tags, pixels = dicom.read(path)
    assert isinstance(pixels, Pixels | TagTrouble)
    assert len(tags.troubles) <= dicom.TROUBLES_MAX + 2


def test_no_dicom_at_all(tmp_path: Path) -> None:
    for junk in (b"", b"%PDF-1.4", b"\0" * 4096):
        tags, _ = dicom.read(_saved(tmp_path, junk))
        assert [(each.tag, each.why) for each in tags.troubles] == [("file", Trouble.UNREADABLE)]


def test_a_deflated_file_is_not_inflated(tmp_path: Path) -> None:
    tags, _ = dicom.read(_saved(tmp_path, image(syntax=DeflatedExplicitVRLittleEndian)))
    assert [(each.tag, each.why) for each in tags.troubles] == [("file", Trouble.UNSUPPORTED)]


def test_sequences_in_sequences_without_end(tmp_path: Path) -> None:
    deep = raw(image())
    opened = struct.pack("<HH2sHI", 0x5200, 0x9229, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    at = deep.index(struct.pack("<HH", 0x7FE0, 0x0010))
    tags, pixels = dicom.read(_saved(tmp_path, deep[:at] + opened * 20_000))
    assert tags.troubles
    assert isinstance(pixels, TagTrouble)


def test_a_header_beyond_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "HEADER_MAX_BYTES", 4096)
    data = image()
    data.SharedFunctionalGroupsSequence = Sequence([_group(["1"] * 400, None, None)] * 40)
    tags, pixels = dicom.read(_saved(tmp_path, data))
    assert [(each.tag, each.why) for each in tags.troubles] == [("file", Trouble.TOO_LARGE)]
    assert isinstance(pixels, TagTrouble)


def test_a_length_that_the_file_does_not_have(tmp_path: Path) -> None:
    whole = bytearray(raw(image()))
    at = whole.index(struct.pack("<HH2s", 0x0020, 0x0037, b"DS"))
    whole[at + 6 : at + 8] = struct.pack("<H", 0xFFFE)
    tags, pixels = dicom.read(_saved(tmp_path, bytes(whole)))
    assert isinstance(pixels, TagTrouble)
    assert tags.troubles


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"Rows": 65535, "Columns": 65535, "NumberOfFrames": 8000}, Trouble.TOO_LARGE),
        ({"Rows": 600, "Columns": 600}, Trouble.UNREADABLE),
        ({"Rows": 0}, Trouble.UNSUPPORTED),
        ({"BitsAllocated": 1}, Trouble.UNSUPPORTED),
        ({"SamplesPerPixel": 4}, Trouble.UNSUPPORTED),
        ({"PixelData": None}, Trouble.UNREADABLE),
    ],
)
def test_pixels_that_are_not_there(tmp_path: Path, tags: dict[str, Any], why: Trouble) -> None:
    _, pixels = dicom.read(_saved(tmp_path, image(**tags)))
    assert isinstance(pixels, TagTrouble)
    assert pixels.why is why


def test_a_frame_count_of_nonsense(tmp_path: Path) -> None:
    for said, why in (("-3", Trouble.MALFORMED), ("99999999", Trouble.TOO_LARGE)):
        tags, _ = dicom.read(_saved(tmp_path, image(NumberOfFrames=said)))
        assert tags.frames == ()
        assert tags.troubles[0].why is why


def test_rle_is_decoded_and_what_has_no_codec_is_said(tmp_path: Path) -> None:
    array = np.arange(60 * 50, dtype="<u2").reshape(60, 50)
    data = image(array)
    data.compress(RLELossless)
    _, pixels = dicom.read(_saved(tmp_path, data))
    assert isinstance(pixels, Pixels)
    assert np.frombuffer(pixels.data, dtype=pixels.kind).reshape(60, 50).tolist() == array.tolist()
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    _, unread = dicom.read(_saved(tmp_path, data))
    assert isinstance(unread, TagTrouble)
    assert unread.why in (Trouble.UNSUPPORTED, Trouble.UNREADABLE)


def test_implicit_vr_and_colours(tmp_path: Path) -> None:
    data = image(np.arange(4 * 6 * 3, dtype="|u1").reshape(4, 18), syntax=ImplicitVRLittleEndian)
    data.Columns, data.SamplesPerPixel = 6, 3
    data.PhotometricInterpretation, data.PlanarConfiguration = "RGB", 0
    _, pixels = dicom.read(_saved(tmp_path, data))
    assert isinstance(pixels, Pixels)
    assert list(pixels.data) == list(range(0, 72, 3))
    data.PlanarConfiguration = 1
    _, pixels = dicom.read(_saved(tmp_path, data))
    assert isinstance(pixels, Pixels)
    assert list(pixels.data) == list(range(24))
