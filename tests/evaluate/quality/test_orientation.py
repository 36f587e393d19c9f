"""Array and header must move together; the difference is named, and what cannot be known is said to be so."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gpuwarden.evaluate.quality.moves import Move, every, nothing
from gpuwarden.evaluate.quality.orientation import Outcome, compare, fits_model
from gpuwarden.model.image import ArrayTags, Convention, FrameTags, ImageTags, TagTrouble, Trouble
from tests.evaluate.quality.pictures import AXIAL, plane, stack

COLUMNS = Move(source=(0, 1), is_reversed=(False, True))
ROWS = Move(source=(0, 1), is_reversed=(True, False))
HALF = Move(source=(0, 1), is_reversed=(True, True))
CODES = [
    "".join(letters)
    for letters in itertools.product("RLAPSI", repeat=3)
    if len({"RLAPSI".index(each) // 2 for each in letters}) == 3
]
_LPS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


def _matrix(code: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    out = np.zeros((3, len(code)))
    for k, letter in enumerate(code):
        axis, sign = _LPS[letter]
        out[axis, k] = sign
    return out


def test_all_codes_and_moves_against_matrices() -> None:
    """48 codes before, 48 after, by the residual's own definition: what is claimed times the inverse of what is true."""
    assert len(CODES) == 48
    for before, move in itertools.product(CODES[::5], every(3)):
        true = _matrix(before)[:, list(move.source)] * [-1 if t else 1 for t in move.is_reversed]
        for after in CODES:
            residual = _matrix(after) @ np.linalg.inv(true)
            judged = compare(ArrayTags(code=before), ArrayTags(code=after), move)
            is_mirror = np.linalg.det(residual) < 0
            is_left_right = residual[0, 0] < -0.5
            assert judged.swaps_left_right == is_left_right
            assert judged.is_well == np.allclose(residual, np.eye(3))
            assert judged.is_refused == (is_mirror or is_left_right)
            assert (judged.outcome is Outcome.FLIPPED) == (is_mirror and is_left_right)
            if not is_mirror and not judged.is_well:
                assert judged.outcome is Outcome.ROTATED
                angle = math.degrees(math.acos((np.trace(residual) - 1) / 2))
                assert judged.angle_deg == pytest.approx(angle, abs=0.1)


@pytest.mark.parametrize(
    ("move", "orientation", "outcome"),
    [
        (nothing(2), AXIAL, Outcome.SAME),
        (COLUMNS, (-1, 0, 0, 0, 1, 0), Outcome.REORIENTED),
        (HALF, (-1, 0, 0, 0, -1, 0), Outcome.REORIENTED),
        (COLUMNS, AXIAL, Outcome.FLIPPED),
        (nothing(2), (-1, 0, 0, 0, 1, 0), Outcome.FLIPPED),
        (ROWS, AXIAL, Outcome.MIRRORED),
        (HALF, AXIAL, Outcome.ROTATED),
        (Move(source=(1, 0), is_reversed=(False, False)), AXIAL, Outcome.PERMUTED),
        (Move(source=(1, 0), is_reversed=(True, False)), AXIAL, Outcome.ROTATED),
    ],
)
def test_an_axial_slice(move: Move, orientation: tuple[float, ...], outcome: Outcome) -> None:
    judged = compare(plane(), plane(orientation), move)
    assert judged.outcome is outcome
    assert judged.swaps_left_right == (
        outcome is Outcome.FLIPPED or (move == HALF and not judged.is_well)
    )


def test_a_registration_by_a_few_degrees_is_no_rotation() -> None:
    for degrees, is_well in ((9.0, True), (11.0, False)):
        a = math.radians(degrees)
        turned = (math.cos(a), math.sin(a), 0.0, -math.sin(a), math.cos(a), 0.0)
        assert compare(plane(), plane(turned), nothing(2)).is_well == is_well


def test_lps_called_ras_swaps_left_and_right_without_a_mirror() -> None:
    volume = stack(0.0, 5.0, 10.0)  # axes (S, P, L)
    wrong = ArrayTags(affine=((0, 0, 1), (0, 1, 0), (5, 0, 0)), convention=Convention.RAS)
    right = ArrayTags(affine=((0, 0, 1), (0, 1, 0), (5, 0, 0)), convention=Convention.LPS)
    assert compare(volume, right, nothing(3)).outcome is Outcome.SAME
    judged = compare(volume, wrong, nothing(3))
    assert (judged.outcome, judged.swaps_left_right, judged.angle_deg) == (
        Outcome.ROTATED,
        True,
        180.0,
    )
    assert judged.is_refused


def test_frames_in_the_other_order_mirror_a_volume() -> None:
    assert compare(stack(0, 5, 10), stack(10, 5, 0), nothing(3)).outcome is Outcome.MIRRORED
    turned = Move(source=(0, 1, 2), is_reversed=(True, False, False))
    assert compare(stack(0, 5, 10), stack(10, 5, 0), turned).outcome is Outcome.REORIENTED


def test_a_bare_array_is_taken_to_lie_as_before() -> None:
    assert compare(plane(), None, nothing(2)).outcome is Outcome.SAME
    assert compare(plane(), None, COLUMNS).outcome is Outcome.FLIPPED


UNKNOWN = TagTrouble(tag="pixels", why=Trouble.AMBIGUOUS)


@pytest.mark.parametrize("move", [None, UNKNOWN])
def test_without_the_array_nothing_is_fine(move: TagTrouble | None) -> None:
    assert compare(plane(), plane(), move).outcome is Outcome.CANNOT_TELL
    judged = compare(plane(), plane((-1, 0, 0, 0, 1, 0)), move)
    assert judged.outcome is Outcome.CANNOT_TELL
    assert judged.detail == "the header went from PL to PR"


BAD_HEADERS = {
    "missing": plane(None),
    "five": plane((1, 0, 0, 0, 1)),
    "zero": plane((0, 0, 0, 0, 0, 0)),
    "nan": plane((math.nan, 0, 0, 0, 1, 0)),
    "huge": plane((1e308, 1e308, 1e308, 0, 1, 0)),
    "long": plane((2, 0, 0, 0, 1, 0)),
    "not at right angles": plane((1, 0, 0, 0.6, 0.8, 0)),
    "letters say otherwise": plane(patient_orientation=("R", "P")),
    "no letters": plane(patient_orientation=("Q", "P")),
    "three letters of one axis": plane(patient_orientation=("LR", "P")),
    "two sides": plane(laterality="L", image_laterality="R"),
    "no side": plane(image_laterality="X"),
    "quadruped": plane(is_quadruped=True),
    "no frames": ImageTags(modality="CT"),
    "frames without places": ImageTags(frames=(FrameTags(orientation=AXIAL),) * 3),
    "frames at one place": stack(5.0, 5.0, 5.0),
    "frames to and fro": stack(0.0, 5.0, 3.0),
    "frames of two planes": ImageTags(
        frames=(
            FrameTags(orientation=AXIAL, position=(0, 0, 0)),
            FrameTags(orientation=(0, 1, 0, 0, 0, -1), position=(0, 0, 5)),
        )
    ),
    "a place that is none": ImageTags(
        frames=(
            FrameTags(orientation=AXIAL, position=(0, 0, 0)),
            FrameTags(orientation=AXIAL, position=(0, 0, math.inf)),
        )
    ),
    "some frames without a plane": ImageTags(
        frames=(FrameTags(orientation=AXIAL, position=(0, 0, 0)), FrameTags(position=(0, 0, 1)))
    ),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_never_fine(name: str) -> None:
    bad = BAD_HEADERS[name]
    axes = 3 if len(bad.frames) > 1 else 2
    good = stack(0.0, 5.0, 10.0) if axes == 3 else plane()
    for before, after in ((bad, good), (good, bad), (bad, bad)):
        judged = compare(before, after, nothing(axes))
        assert judged.outcome is Outcome.CANNOT_TELL
        assert judged.troubles


def test_a_mirror_that_no_header_can_make_good() -> None:
    none = ImageTags(modality="US", frames=(FrameTags(),))
    assert compare(none, none, nothing(2)).outcome is Outcome.CANNOT_TELL
    assert compare(none, none, HALF).outcome is Outcome.CANNOT_TELL
    assert compare(none, none, COLUMNS).outcome is Outcome.MIRRORED
    hand = ImageTags(modality="DX", frames=(FrameTags(),), image_laterality="L")
    assert compare(hand, hand, COLUMNS).outcome is Outcome.FLIPPED


def _breast(side: str, row: str) -> ImageTags:
    out = {"L": "R", "R": "L"}[side]  # downwards is towards the middle
    return ImageTags(
        modality="MG",
        frames=(FrameTags(),),
        patient_orientation=(row, out),
        image_laterality=side,
        view_position="CC",
    )


def test_a_mammogram_that_is_mirrored_passes_for_the_other_breast() -> None:
    assert compare(_breast("L", "A"), _breast("L", "A"), nothing(2)).outcome is Outcome.SAME
    assert compare(_breast("L", "A"), _breast("L", "P"), COLUMNS).outcome is Outcome.REORIENTED
    judged = compare(_breast("L", "A"), _breast("L", "A"), COLUMNS)
    assert (judged.outcome, judged.swaps_left_right) == (Outcome.FLIPPED, True)
    # Front to back is no left-right flip of a body's slice; of a breast it is one.
    assert (
        compare(_breast("L", "A"), _breast("R", "P"), COLUMNS).detail == "laterality was L and is R"
    )
    assert compare(_breast("L", "A"), _breast("R", "A"), None).outcome is Outcome.FLIPPED


def test_another_position_of_the_patient_is_a_contradiction() -> None:
    first, second = plane(patient_position="HFS"), plane(patient_position="FFP")
    judged = compare(first, second, nothing(2))
    assert judged.outcome is Outcome.CANNOT_TELL
    assert judged.troubles[0].tag == "PatientPosition"
    assert compare(first, second, COLUMNS).outcome is Outcome.FLIPPED, (
        "what is seen is told all the same"
    )


def test_a_code_stands_for_what_is_within_45_degrees() -> None:
    for degrees, outcome in ((0, Outcome.SAME), (30, Outcome.SAME), (60, Outcome.ROTATED)):
        a = math.radians(degrees)
        tilted = (1.0, 0.0, 0.0, 0.0, math.cos(a), math.sin(a))
        assert compare(plane(tilted), ArrayTags(code="PL"), nothing(2)).outcome is outcome


def test_the_way_round_a_model_was_trained_on() -> None:
    assert fits_model("RAS", ArrayTags(code="RAS")).outcome is Outcome.SAME
    assert fits_model("RAS", ArrayTags(code="LAS")).outcome is Outcome.FLIPPED
    assert fits_model("RAS", ArrayTags(code="LPS")).swaps_left_right
    assert fits_model("RAS", ArrayTags(code="ASR")).outcome is Outcome.ROTATED
    assert fits_model("nonsense", ArrayTags(code="RAS")).outcome is Outcome.CANNOT_TELL
    assert fits_model("RAS", plane()).outcome is Outcome.CANNOT_TELL, "two axes are not three"


@pytest.mark.parametrize(
    "tags",
    [
        ArrayTags(),
        ArrayTags(code="RAS", affine=((1, 0, 0), (0, 1, 0), (0, 0, 1))),
        ArrayTags(code="RLS"),
        ArrayTags(code="R"),
        ArrayTags(code=""),
        ArrayTags(affine=((1, 0, 0), (0, 1, 0), (0, 0, 0))),
        ArrayTags(affine=((1, 1, 0), (0, 0.1, 0), (0, 0, 1))),
        ArrayTags(affine=((1, 0, 0), (0, 1), (0, 0, 1))),
        ArrayTags(affine=((math.nan, 0, 0), (0, 1, 0), (0, 0, 1))),
        ArrayTags(affine=()),
    ],
)
def test_a_claim_that_is_none(tags: ArrayTags) -> None:
    assert compare(stack(0, 5), tags, nothing(3)).outcome is Outcome.CANNOT_TELL


def test_a_tilted_gantry_keeps_its_slant_in_an_affine() -> None:
    """Frames that go up and to the front by 25 degrees: an affine of them has that slant as well."""
    slant = math.tan(math.radians(25))
    frames = tuple(
        FrameTags(orientation=AXIAL, position=(0.0, -slant * 5.0 * k, 5.0 * k)) for k in range(4)
    )
    affine = ((0.0, 0.0, 1.0), (-slant * 5.0, 1.0, 0.0), (5.0, 0.0, 0.0))
    told = ArrayTags(affine=affine, convention=Convention.LPS)
    assert compare(ImageTags(frames=frames), told, nothing(3)).outcome is Outcome.SAME
