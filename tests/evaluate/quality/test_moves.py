"""What was done to an array is found from its pixels, or not at all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.quality.moves import Move, every, find, nothing
from gpuwarden.model.image import Pixels, TagTrouble, Trouble
from tests.evaluate.quality.pictures import lopsided, moved, pixels


@pytest.mark.parametrize("shape", [(40, 52), (14, 20, 26)])
def test_each_exchange_and_reversal_is_found(shape: tuple[int, ...]) -> None:
    before = lopsided(*shape)
    for move in every(len(shape)):
        assert find(pixels(before), pixels(moved(before, move))) == move


@pytest.mark.parametrize("move", every(2))
def test_resampling_windowing_and_an_inverted_scale_do_not_matter(move: Move) -> None:
    before = lopsided(60, 80)
    after = moved(before, move)[::2, ::3]
    after = 100.0 - 7.0 * np.clip(after, 2.0, 8.0)
    assert find(pixels(before), pixels(after)) == move


def test_a_curve_of_grey_levels_does_not_matter() -> None:
    before = lopsided(50, 50)
    after = np.exp(3.0 * np.flip(before, 1))
    assert find(pixels(before), pixels(after)) == Move(source=(0, 1), is_reversed=(False, True))


def test_whether_it_is_a_mirror_is_its_determinant() -> None:
    for move in every(3):
        matrix = np.zeros((3, 3))
        for k, (source, turned) in enumerate(zip(move.source, move.is_reversed, strict=True)):
            matrix[k, source] = -1.0 if turned else 1.0
        assert move.is_mirror == (np.linalg.det(matrix) < 0)
    assert sum(move.is_mirror for move in every(3)) == 24
    assert nothing(3).is_nothing
    assert not nothing(3).is_mirror


def _why(before: Pixels, after: Pixels) -> Trouble:
    found = find(before, after)
    assert isinstance(found, TagTrouble)
    return found.why


def test_a_symmetric_picture_is_not_guessed() -> None:
    x = np.linspace(-1, 1, 40)
    even = np.add.outer(2 * x, x**2)  # left and right alike
    assert _why(pixels(even), pixels(even)) is Trouble.AMBIGUOUS
    assert _why(pixels(even), pixels(np.flip(even, 1))) is Trouble.AMBIGUOUS


def test_symmetric_but_for_noise_that_is_not_the_same_is_not_guessed() -> None:
    x = np.linspace(-1, 1, 48)
    even = np.add.outer(2 * x, x**2)
    noise = np.random.default_rng(7)
    for _ in range(20):
        first, second = (even + noise.normal(0, 0.05, even.shape) for _ in range(2))
        assert _why(pixels(first), pixels(second)) is Trouble.AMBIGUOUS


def test_ranks_and_values_that_say_different_things_decide_nothing() -> None:
    """The dim nine tenths stay, the bright tenth is turned round: no preprocessing does that."""
    dim = lopsided(40, 40)
    bright = np.zeros((40, 40))
    bright[6:12, 2:8] = 400.0
    found = find(pixels(dim + bright), pixels(dim + np.flip(bright, 1)))
    assert isinstance(found, TagTrouble)
    assert (found.why, found.detail) == (Trouble.AMBIGUOUS, "ranks and values say different things")


def test_another_picture_is_not_the_same_picture() -> None:
    noise = np.random.default_rng(3)
    first, second = (noise.normal(size=(64, 64)) for _ in range(2))
    assert _why(pixels(first), pixels(second)) is Trouble.UNREADABLE


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Pixels(shape=(4, 4), kind="<u2", data=b"\0" * 31), Trouble.MALFORMED),
        (Pixels(shape=(0, 4), kind="<u2", data=b""), Trouble.MALFORMED),
        (Pixels(shape=(-2, -2), kind="|u1", data=b"1234"), Trouble.MALFORMED),
        (Pixels(shape=(2**40, 2**40), kind="|u1", data=b""), Trouble.MALFORMED),
        (Pixels(shape=(4, 4), kind="O", data=b"\0" * 128), Trouble.UNSUPPORTED),
        (Pixels(shape=(4, 4), kind="no kind", data=b"\0" * 16), Trouble.UNSUPPORTED),
        (Pixels(shape=(4, 4), kind="(9,)u1", data=b"\0" * 144), Trouble.UNSUPPORTED),
        (Pixels(shape=(16,), kind="|u1", data=b"\0" * 16), Trouble.UNSUPPORTED),
        (Pixels(shape=(4, 4), kind="|u1", data=b"\7" * 16), Trouble.AMBIGUOUS),
    ],
)
def test_what_is_no_picture_has_a_name(bad: Pixels, why: Trouble) -> None:
    assert _why(bad, bad) is why


def test_not_a_number_is_no_picture_and_some_of_them_do_not_matter() -> None:
    nothing_there = np.full((8, 8), np.nan)
    assert _why(pixels(nothing_there), pixels(nothing_there)) is Trouble.MALFORMED
    before = lopsided(40, 40)
    after = np.flip(before, 0).copy()
    after[3, 3:9] = np.inf
    assert find(pixels(before), pixels(after)) == Move(source=(0, 1), is_reversed=(True, False))


def test_a_plane_and_a_volume_are_not_compared() -> None:
    assert _why(pixels(lopsided(30, 30)), pixels(lopsided(9, 30, 30))) is Trouble.UNSUPPORTED


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=0, max_size=4),
    st.sampled_from(["|u1", "<i2", ">u2", "<f4", "<f8"]),
    st.binary(max_size=600),
)
def test_any_bytes_give_a_move_or_a_trouble(shape: list[int], kind: str, data: bytes) -> None:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    hostile = Pixels(
        shape=tuple(shape), kind=kind, data=(data * (size // max(1, len(data)) + 1))[:size]
    )
    assert isinstance(find(hostile, hostile), Move | TagTrouble)


def test_all_candidates_are_different() -> None:
    for axes, count in ((2, 8), (3, 48)):
        moves = every(axes)
        assert len(set(moves)) == count
        assert moves[0].is_nothing
        assert all(a != b for a, b in itertools.combinations(moves, 2))
