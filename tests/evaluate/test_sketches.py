"""Sketches: what they promise of accuracy and of merging."""

from __future__ import annotations

import datasketches
import ddsketch
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.evaluate.drift import ks
from gpuwarden.evaluate.sketch import fleet_percentile, kll_error, log_mapping, merged


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e9), max_size=20), st.sampled_from([0.001, 0.01, 0.05, 0.3]))
def test_representative_is_within_the_accuracy(values: list[float], accuracy: float) -> None:
    got = log_mapping.mapped(values, relative_accuracy=accuracy)
    for value, key, answer in zip(values, got.keys, got.representatives, strict=True):
        assert abs(answer - value) <= accuracy * value * (1 + 1e-9)
        assert got.gamma ** (key - 1) * (1 - 1e-9) <= value <= got.gamma**key * (1 + 1e-9)


def test_mapping_is_that_of_the_library() -> None:
    values = np.random.default_rng(1).lognormal(2, 3, 300).tolist()
    sketch = ddsketch.DDSketch(0.02)
    got = log_mapping.mapped(values, relative_accuracy=0.02)
    assert list(got.keys) == [sketch._mapping.key(value) for value in values]


def test_powers_of_gamma_are_their_own_bucket() -> None:
    gamma = 1.01 / 0.99
    got = log_mapping.mapped([gamma**k for k in range(-50, 51)], relative_accuracy=0.01)
    assert list(got.keys) == list(range(-50, 51))


@pytest.mark.parametrize("nodes", [1, 7, 40])
def test_merged_ddsketch_loses_nothing(nodes: int) -> None:
    x = np.random.default_rng(2).lognormal(4, 0.7, 4001)
    q = [0.0, 0.5, 0.95, 0.999, 1.0]
    got = merged.ddsketches(x, nodes=nodes, relative_accuracy=0.01, q=q)
    true = [np.sort(x)[int(each * 4000)] for each in q]
    assert got.merged_equals_single
    assert got.quantiles == pytest.approx(true, rel=0.0101)


def test_merged_kll_keeps_its_rank_error() -> None:
    x = np.random.default_rng(3).normal(size=30_000)
    ranks = merged.kll_ranks(x, nodes=30, k=200, q=[0.1, 0.5, 0.99])
    assert ranks == pytest.approx((0.1, 0.5, 0.99), abs=0.02)


@pytest.mark.parametrize("k", [8, 100, 200, 1000, 65_535])
def test_rank_error_is_the_librarys(k: int) -> None:
    got = kll_error.rank_error(k)
    of = datasketches.kll_doubles_sketch.get_normalized_rank_error
    assert got.single_sided == pytest.approx(of(k, False), rel=1e-9)
    assert got.double_sided == pytest.approx(of(k, True), rel=1e-9)


def test_small_samples_are_kept_whole() -> None:
    r = np.random.default_rng(4)
    a, b = np.round(r.normal(size=90), 1), np.round(r.normal(0.4, 1, 70), 1)
    got = kll_error.ks_from_sketches(a, b, k=200, alpha=0.05)
    assert got.sketch_D == pytest.approx(ks.distance(a, b), abs=1e-12)


def test_equal_samples_do_not_drift_and_shifted_ones_do() -> None:
    r = np.random.default_rng(5)
    a, b = r.normal(size=60_000), r.normal(size=50_000)
    assert not kll_error.ks_from_sketches(a, b, k=200, alpha=0.05).drift
    assert kll_error.ks_from_sketches(a, b + 0.3, k=200, alpha=0.05).drift


def test_one_bad_node_shows_in_the_fleet_alone() -> None:
    r = np.random.default_rng(6)
    nodes = [r.normal(100, 5, 1000) for _ in range(39)] + [r.normal(900, 50, 1000)]
    got = fleet_percentile.fleet_percentile(nodes, percentile=99)
    assert got.fleet > 800
    assert got.mean_of_nodes < 140


def test_what_does_not_fit() -> None:
    for call in (
        lambda: log_mapping.mapped([0.0], relative_accuracy=0.01),
        lambda: log_mapping.mapped([1.0], relative_accuracy=1),
        lambda: merged.ddsketches([1.0, 2.0], nodes=3, relative_accuracy=0.01, q=[0.5]),
        lambda: merged.ddsketches([1.0], nodes=1, relative_accuracy=0.01, q=[1.5]),
        lambda: merged.kll([1.0], k=7),
        lambda: kll_error.rank_error(0),
        lambda: fleet_percentile.fleet_percentile([], percentile=99),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
