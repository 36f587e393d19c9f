"""What came between two looks at a service's histogram; many of them merged."""

import math

import pytest

from gpuwarden.evaluate.fast import histogram as histograms
from gpuwarden.evaluate.fast.histogram import Break, Cumulative, between
from gpuwarden.model.evaluation import Histogram

INF = math.inf
BOUNDS = (0.1, 0.5, 1.0, INF)


def page(*counts: float, total: float | None = None) -> Cumulative:
    return Cumulative(bounds=BOUNDS, counts=counts, total=total)


def test_between_two_looks_is_what_ended_in_each_bucket() -> None:
    got = between(page(10, 12, 12, 13, total=5.0), page(15, 20, 21, 24, total=12.0))
    assert got == Histogram(bounds=BOUNDS, counts=(5, 3, 1, 2), total=7.0)


def test_counters_that_went_back_say_nothing() -> None:
    assert between(page(10, 12, 12, 13), page(1, 1, 2, 2)) is Break.RESET
    assert between(page(1, 1, 1, 1, total=9.0), page(2, 2, 2, 2, total=1.0)) is Break.RESET
    # A part of the service started afresh: its bucket fell, the others hide it.
    assert between(page(10, 20, 20, 20), page(30, 31, 31, 31)) is Break.RESET


def test_other_buckets_say_nothing() -> None:
    other = Cumulative(bounds=(0.1, INF), counts=(1, 2))
    assert between(page(1, 1, 1, 1), other) is Break.CHANGED


def test_histograms_merge_on_the_edges_that_all_have() -> None:
    fine = Histogram(bounds=BOUNDS, counts=(5, 3, 1, 2), total=7.0)
    coarse = Histogram(bounds=(0.5, 2.0, INF), counts=(10, 1, 1))
    merged = histograms.merge([fine, coarse])
    assert merged == Histogram(bounds=(0.5, INF), counts=(18, 5), total=None)
    assert histograms.merge([fine, fine]) == Histogram(
        bounds=BOUNDS, counts=(10, 6, 2, 4), total=14.0
    )
    assert histograms.merge([]) is None


def test_a_quantile_is_linear_inside_its_bucket() -> None:
    even = Histogram(bounds=BOUNDS, counts=(0, 100, 0, 0))
    assert histograms.quantile(even, 0.5) == pytest.approx(0.3)
    assert histograms.quantile(even, 1.0) == pytest.approx(0.5)
    beyond = Histogram(bounds=BOUNDS, counts=(1, 0, 0, 99))
    assert histograms.quantile(beyond, 0.99) == 1.0
    assert histograms.quantile(Histogram(bounds=BOUNDS, counts=(0, 0, 0, 0)), 0.5) is None


def test_a_share_above_a_limit_is_linear_inside_the_bucket_that_holds_it() -> None:
    histogram = Histogram(bounds=BOUNDS, counts=(50, 40, 0, 10))
    assert histograms.share_above(histogram, 0.5) == pytest.approx(0.1)
    assert histograms.share_above(histogram, 0.3) == pytest.approx(0.3)
    assert histograms.mean(Histogram(bounds=BOUNDS, counts=(1, 1, 0, 0), total=0.6)) == 0.3
