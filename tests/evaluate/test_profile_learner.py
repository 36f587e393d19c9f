"""Profiles of a reference in two passes: the same as at once, and a named decision on what is not clear."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from gpuwarden.evaluate.drift import profile_learner, profile_parts
from gpuwarden.evaluate.drift.profile import (
    CategoryProfile,
    NumericProfile,
    of_categories,
    of_numbers,
)
from gpuwarden.evaluate.drift.profile_learner import Learned, Learner, LeftOut
from gpuwarden.evaluate.drift.profile_parts import Names, Part, Sample


def _learned(table: dict[str, Any], batch: int = 700, **options: Any) -> dict[str, Learned]:
    rows = len(next(iter(table.values())))
    batches = [
        [values[start : start + batch] for values in table.values()]
        for start in range(0, rows, batch)
    ]
    learner = Learner(list(table), **options)
    for each in batches:
        learner.scan(each)
    learner.settle()
    for each in batches:
        learner.count(each)
    return dict(learner.learned())


def _one(values: Any, **options: Any) -> Learned:
    return _learned({"x": values}, **options)[""]


@pytest.mark.parametrize("kind", ["smooth", "default", "two", "constant", "few"])
def test_in_batches_it_is_the_profile_of_the_whole(kind: str) -> None:
    r = np.random.default_rng(3)
    values = {
        "smooth": r.normal(1e6, 1.0, size=5000),
        "default": np.where(r.random(5000) < 0.4, -1.0, r.lognormal(size=5000)),
        "two": r.integers(0, 2, size=5000).astype(float),
        "constant": np.full(5000, 0.1),
        "few": np.array([3.0, 1.0, 2.0]),
    }[kind]
    values[: values.size // 50] = np.nan
    whole, got = of_numbers(values), _one(values).features["x"]
    assert isinstance(got, NumericProfile)
    assert (got.edges, got.counts, got.missing) == (whole.edges, whole.counts, whole.missing)
    assert (got.low, got.high) == (whole.low, whole.high)
    assert (got.mean, got.std) == pytest.approx((whole.mean, whole.std), rel=1e-9)
    assert got.centres == pytest.approx(whole.centres, rel=1e-9)


def test_of_more_rows_than_the_sample_holds_all_are_counted() -> None:
    values = np.sort(
        np.random.default_rng(1).normal(size=400_000)
    )  # sorted: no batch is like the whole
    first, again = (_one(values, batch=50_000).features["x"] for _ in range(2))
    assert first == again  # the same file, the same profile
    assert isinstance(first, NumericProfile)
    assert sum(first.counts) == 400_000
    assert max(first.counts) < 0.055 * 400_000
    assert min(first.counts) > 0.045 * 400_000
    assert (first.low, first.high) == (values[0], values[-1])
    assert (first.mean, first.std) == pytest.approx((values.mean(), values.std()), rel=1e-9)


def test_names_are_counted_as_at_once() -> None:
    names = [f"c{n % 7 * (n % 3)}" for n in range(3000)] + [None] * 5
    assert _one(names).features["x"] == of_categories(names)


def test_text_of_a_csv_is_read_as_what_it_says() -> None:
    texts = ["1.5", "", "NA", "nan", "inf", "-2", " 3 ", "N/a"]
    got = _one(texts)
    profile = got.features["x"]
    assert isinstance(profile, NumericProfile)
    assert (profile.low, profile.high, profile.missing) == (-2.0, 3.0, 5)
    assert got.notes == {}
    truths = _one([True, False, None, True]).features["x"]
    assert truths == CategoryProfile(counts={"True": 2, "False": 1}, other=0, missing=1)
    assert _one([None, True]).features["x"] == CategoryProfile(
        counts={"True": 1}, other=0, missing=1
    )
    assert isinstance(_one(["1_000", "2_000"]).features["x"], CategoryProfile)


def test_a_few_stray_words_are_missing_and_told_many_leave_the_column_out() -> None:
    few = _one([str(n) for n in range(990)] + ["broken"] * 5)
    assert few.notes == {"x": "5 values are no numbers: counted as missing"}
    profile = few.features["x"]
    assert isinstance(profile, NumericProfile)
    assert (profile.missing, sum(profile.counts)) == (5, 990)
    many = _one([str(n) for n in range(900)] + ["A12"] * 100)
    assert (dict(many.features), many.left_out) == ({}, {"x": LeftOut.MIXED})
    asked = _one(["1"] * 900 + ["A12"] * 100, categories=["x"])
    assert asked.features["x"] == CategoryProfile(counts={"1": 900, "A12": 100}, other=0, missing=0)


def test_a_flood_of_names_is_left_out_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_parts, "NAMES_MAX", 1000)
    names = [f"id{n}" for n in range(20_000)] + ["same"] * 5000
    names = [names[n * 7919 % 25_000] for n in range(25_000)]
    got = _one(names)
    assert (dict(got.features), got.left_out) == ({}, {"x": LeftOut.FLOOD})
    profile = _one(names, categories=["x"]).features["x"]
    assert isinstance(profile, CategoryProfile)
    assert (
        profile.counts["same"] == 5000
    )  # counted in the second pass, though others were forgotten
    assert sum(profile.counts.values()) + profile.other == 25_000
    assert len(profile.counts) <= 200


def test_numbers_too_large_for_a_variance_are_missing_and_told() -> None:
    got = _one([1.0, 2.0, 1e308, -1e200, 3.0])
    profile = got.features["x"]
    assert isinstance(profile, NumericProfile)
    assert (profile.low, profile.high, profile.missing) == (1.0, 3.0, 2)
    assert got.notes == {"x": "2 values are too large: counted as missing"}


def test_empty_constant_and_unknown_columns() -> None:
    got = _learned(
        {"none": ["", "NA"], "same": ["7", "7"], "left": ["a", "b"]}, columns=["none", "same"]
    )[""]
    assert got.left_out == {"none": LeftOut.EMPTY}
    assert list(got.features) == ["same"]
    assert got.notes == {"same": "constant"}
    with pytest.raises(ValueError, match="no column 'other'"):
        Learner(["a"], columns=["other"])
    with pytest.raises(ValueError, match="'a' is there twice"):
        Learner(["a", "a"])
    with pytest.raises(ValueError, match="no column is left"):
        Learner(["a"], segment_column="a")
    with pytest.raises(ValueError, match="an empty reference"):
        Learner(["a"]).settle()


def test_segments_have_profiles_of_their_own_beside_the_whole() -> None:
    n = np.arange(4000)
    who = ["old" if k % 4 else "new" for k in n]
    who[0] = None  # type: ignore[call-overload]
    got = _learned({"x": n.astype(float), "site": ["a"] * 4000, "who": who}, segment_column="who")
    assert sorted(got) == ["", "new", "old"]
    assert (got[""].rows, got["new"].rows, got["old"].rows) == (4000, 999, 3000)
    assert got["new"].features["x"] == of_numbers(n[4::4])
    assert "who" not in got[""].features


def test_too_many_segments_or_columns_are_refused() -> None:
    who = [str(k) for k in range(40)]
    with pytest.raises(ValueError, match="more than 32 segments"):
        _learned({"x": np.arange(40.0), "who": who}, segment_column="who")
    with pytest.raises(ValueError, match="at most 400 together"):
        _learned({f"x{k}": [1.0] for k in range(401)})


def test_a_reference_that_changes_between_the_passes_is_refused() -> None:
    learner = Learner(["x"])
    learner.scan([[1.0, 2.0]])
    learner.settle()
    learner.count([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="has changed"):
        learner.learned()


def test_a_sample_is_fair_whatever_the_order() -> None:
    sample = Sample(1000)
    for start in range(0, 100_000, 5000):
        sample.add(np.arange(start, start + 5000, dtype=float))
    values = sample.values()
    assert values.size == 1000
    counts, _ = np.histogram(values, bins=10, range=(0, 100_000))
    assert counts.min() > 60
    assert counts.max() < 140


def test_commonest_names_survive_forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_parts, "NAMES_MAX", 100)
    names = Names()
    for n in range(5000):
        names.add(Counter([f"r{n}", f"s{n}", *(["often"] if n % 20 == 0 else [])]))
    assert names.commonest(1) == ("often",)
    assert names.total == 10_250


def test_a_part_of_typed_numbers() -> None:
    part = Part.of(np.array([1, 2, 3]), is_named=False)
    assert (part.numbers.tolist(), part.missing) == ([1.0, 2.0, 3.0], 0)
    part = Part.of(np.array([1, 1, 3]), is_named=True)
    assert part.names == {"1": 2, "3": 1}
    assert profile_learner.SERIES_MAX * profile_parts.SAMPLE * 24 < 1 << 30
