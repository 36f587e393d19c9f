"""NIfTI files become plain data, with an affine only where the file tells one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from gpuwarden.adapters import nifti
from gpuwarden.model.image import ArrayTags, Convention, Pixels, TagTrouble, Trouble

IMAGE: Any = nibabel.Nifti1Image
AFFINE = np.diag([-2.0, 3.0, 4.0, 1.0])


def _saved(folder: Path, name: str, shape: tuple[int, ...] = (3, 4, 5), **codes: int) -> Path:
    array = np.arange(int(np.prod(shape)), dtype="<i2").reshape(shape)
    made = IMAGE(array, AFFINE)
    made.set_sform(AFFINE, codes.get("sform", 1))
    made.set_qform(AFFINE if codes.get("qform_sign", 1) > 0 else -AFFINE, codes.get("qform", 0))
    path = folder / name
    nibabel.save(made, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_affine_and_the_array(tmp_path: Path, name: str) -> None:
    path = _saved(tmp_path, name)
    assert nifti.is_nifti(path)
    tags, pixels = nifti.read(path)
    assert isinstance(tags, ArrayTags)
    assert tags.convention is Convention.RAS
    assert tags.affine is not None
    assert np.allclose(tags.affine, AFFINE)
    assert isinstance(pixels, Pixels)
    array = np.frombuffer(pixels.data, dtype=pixels.kind).reshape(pixels.shape)
    assert array.tolist() == np.arange(60).reshape(3, 4, 5).tolist()


def test_the_first_of_many_volumes(tmp_path: Path) -> None:
    _, pixels = nifti.read(_saved(tmp_path, "a.nii", shape=(2, 3, 4, 5)))
    assert isinstance(pixels, Pixels)
    assert pixels.shape == (2, 3, 4)


def test_a_plane_has_two_axes(tmp_path: Path) -> None:
    tags, _ = nifti.read(_saved(tmp_path, "a.nii", shape=(3, 4, 1)))
    assert isinstance(tags, ArrayTags)
    assert tags.affine is not None
    assert [len(row) for row in tags.affine] == [2, 2, 2]


def test_no_claim_and_two_claims(tmp_path: Path) -> None:
    none, _ = nifti.read(_saved(tmp_path, "a.nii", sform=0))
    assert isinstance(none, TagTrouble)
    assert none.why is Trouble.MISSING
    two, _ = nifti.read(_saved(tmp_path, "b.nii", qform=1, qform_sign=-1))
    assert isinstance(two, TagTrouble)
    assert two.why is Trouble.CONTRADICTORY


def test_files_that_end_early_or_are_none(tmp_path: Path) -> None:
    whole = _saved(tmp_path, "a.nii.gz", shape=(20, 20, 20)).read_bytes()
    broken = tmp_path / "broken.nii.gz"
    for length in range(0, len(whole), 97):
        broken.write_bytes(whole[:length])
        assert isinstance(nifti.read(broken)[1], TagTrouble)
    for junk in (b"", b"no image", b"\0" * 400):
        broken = tmp_path / "junk.nii"
        broken.write_bytes(junk)
        tags, _ = nifti.read(broken)
        assert isinstance(tags, TagTrouble)
        assert tags.why is Trouble.UNREADABLE


def test_a_header_that_claims_more_than_may_be_read(tmp_path: Path) -> None:
    path = _saved(tmp_path, "a.nii")
    whole = bytearray(path.read_bytes())
    whole[42:48] = np.asarray([32000] * 3, dtype="<i2").tobytes()
    path.write_bytes(bytes(whole))
    _, pixels = nifti.read(path)
    assert isinstance(pixels, TagTrouble)
    assert pixels.why is Trouble.TOO_LARGE
