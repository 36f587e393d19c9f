"""Only time in which a service is known to be well makes its version good."""

from itertools import pairwise

from gpuwarden.evaluate.fast.probation import GAP_MAX_S, Probation, told


def after(*words: tuple[float, bool | None]) -> Probation:
    found = Probation()
    for at, is_well in words:
        found = told(found, is_well, at)
    return found


def test_well_without_a_break() -> None:
    words = [(float(t), True) for t in range(0, 601, 10)]
    assert after(*words).held_s == 600
    assert after(*words).is_over(600)
    assert not after(*words[:-1]).is_over(600)


def test_a_red_word_begins_anew() -> None:
    found = after((0, True), (10, True), (20, False), (30, True), (40, True))
    assert found.held_s == 10, "the 10 s from red to green are not well"


def test_time_in_which_nobody_knows_is_no_good_news() -> None:
    assert after(*((float(t), None) for t in range(0, 1000, 10))).held_s == 0
    assert after((0, True), (10, None), (20, True), (30, True)).held_s == 10
    assert after((0, True), (GAP_MAX_S + 1, True)).held_s == 0


def test_a_clock_that_goes_back_takes_nothing_and_gives_nothing() -> None:
    words = [(0.0, True), (10.0, True), (5.0, True), (15.0, True)]
    held = [after(*words[: n + 1]).held_s for n in range(len(words))]
    assert all(b >= a for a, b in pairwise(held))
    assert held[-1] == 20
