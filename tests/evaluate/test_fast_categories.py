"""Names of inputs, counted within bounds: the commonest stay, a flood is one number, windows add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.fast import categories
from gpuwarden.evaluate.fast.categories import FEATURES_MAX, HELD_MAX, NAMES_MAX, Names
from gpuwarden.evaluate.fast.observation import Observations
from gpuwarden.evaluate.fast.tally import Tally
from gpuwarden.evaluate.fast.window import merge, only
from gpuwarden.model.evaluation import Categories, Cohort, Window

SCAN = Cohort(service="scan")


def said(**features: object) -> Tally:
    tallies: dict[Cohort, Tally] = {}
    heard = Observations()
    heard.take({"features": features}, SCAN, 0.0, tallies)
    return tallies[SCAN]


def test_text_and_yes_and_no_are_names_and_numbers_are_none() -> None:
    tally = said(site="north", is_new=True, age=41, note="", extra=None, odd=[1])
    window = tally.window(SCAN, 0.0, 10.0, 0)
    assert window.categories == {
        "feature.site": Categories(counts={"north": 1}),
        "feature.is_new": Categories(counts={"True": 1}),
        "missing": Categories(counts={"note": 1, "extra": 1}),
    }
    assert set(window.sketches) == {"feature.age"}
    assert tally.counts["missing_fields"] == 2


def test_a_flood_is_one_number_and_the_commonest_stay() -> None:
    names = Names()
    for i in range(5000):
        names.add(f"new{i}")
        names.add("north")
    told = names.done()
    assert len(names.counts) == HELD_MAX
    assert len(told.counts) == NAMES_MAX
    assert told.counts["north"] == 5000
    assert categories.rows(told) == 10_000


@pytest.mark.parametrize("name", ["a\nb", "\ud800", "x" * 129, "\x1b[31m"])
def test_a_name_that_nobody_can_read_is_one_of_the_others(name: str) -> None:
    names = Names()
    names.add(name)
    assert names.done() == Categories(counts={}, other=1)


def test_invented_features_are_counted_as_dropped() -> None:
    tally = said(**{f"f{i}": "a" for i in range(FEATURES_MAX + 9)})
    assert len(tally.categories) == FEATURES_MAX
    assert tally.dropped == 9
    assert not Tally().categories
    assert not tally.is_empty


told = st.builds(
    Categories,
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9)),
    other=st.integers(0, 9),
)


@given(told, told, told)
def test_windows_add_up_in_any_order(a: Categories, b: Categories, c: Categories) -> None:
    def window(begin: float, each: Categories) -> Window:
        return Window(cohort=SCAN, begin_wall=begin, length_s=10.0, categories={"feature.s": each})

    one = merge([window(0, a), window(10, b), window(20, c)])
    two = merge([window(0, c), window(10, a), window(20, b)])
    assert one is not None
    assert two is not None
    assert one.categories == two.categories
    whole = one.categories["feature.s"]
    assert categories.rows(whole) == sum(map(categories.rows, (a, b, c)))
    assert only(one, frozenset()).categories == {}
    tally = Tally()
    for each in (a, b, c):
        tally.merge(window(0, each))
    other = Tally()
    other.absorb(tally)
    assert other.window(SCAN, 0, 10, 0).categories["feature.s"] == whole
