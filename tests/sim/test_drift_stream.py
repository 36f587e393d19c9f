"""The simulated service: as good as it is said to be before the shift, and as bad after it."""

from __future__ import annotations

import statistics

from gpuwarden.sim.drift.stream import FEATURES, MOVED, request

MANY = 4000


def right(shift: float) -> float:
    found = [request(7, number, shift) for number in range(MANY)]
    return statistics.fmean(each.prediction == each.truth for each in found)


def test_the_same_seed_and_number_is_the_same_request() -> None:
    assert request(1, 5) == request(1, 5)
    assert request(1, 5) != request(2, 5)


def test_it_is_right_as_often_as_it_can_be_until_the_shift() -> None:
    assert 0.94 < right(0.0) < 0.96
    assert right(1.0) < 0.72


def test_two_of_its_inputs_shift_and_the_others_do_not() -> None:
    found = [request(3, number, 1.0) for number in range(MANY)]
    for name in FEATURES:
        mean = statistics.fmean(each.features[name] for each in found)
        assert abs(mean - (1.0 if name in MOVED else 0.0)) < 0.08
    rare = statistics.fmean(each.segment == "old-scanner" for each in found)
    assert 0.08 < rare < 0.12


def test_it_is_not_less_sure_after_the_shift() -> None:
    sure = [statistics.fmean(request(3, n, s).confidence for n in range(MANY)) for s in (0.0, 1.0)]
    assert sure[1] > sure[0] - 0.02
