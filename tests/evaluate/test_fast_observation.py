"""Observations become series of their cohort; labels find their predictions; nonsense is counted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.fast.categories import FEATURES_MAX, NAMES_MAX
from gpuwarden.evaluate.fast.observation import PREDICTIONS_MAX, SEGMENTS_MAX, Observations
from gpuwarden.evaluate.fast.tally import SERIES_MAX, Tally
from gpuwarden.model.evaluation import Cohort

RISK = Cohort(service="risk", version="7")


class Heard:
    def __init__(self) -> None:
        self.observations = Observations()
        self.tallies: dict[Cohort, Tally] = {}
        self.at = 1000.0

    def say(self, **said: object) -> Tally:
        self.observations.take(said, RISK, self.at, self.tallies)
        return self.tallies[RISK] if RISK in self.tallies else next(iter(self.tallies.values()))


def test_a_request_and_what_it_was_about() -> None:
    heard = Heard()
    heard.say(latency=0.1, ok=True, cost=0.5)
    tally = heard.say(latency=0.2, ok=False)
    assert tally.counts == {"requests": 2, "errors": 1, "cost": 0.5}
    assert tally.sketches["latency_s"].count == 2


def test_who_never_says_whether_it_was_well_has_no_error_rate() -> None:
    assert "errors" not in Heard().say(latency=0.1).counts


def test_features_that_are_missing_are_counted_and_the_others_have_a_distribution() -> None:
    tally = Heard().say(features={"age": 41, "income": None, "x": math.nan, "city": "Bonn"})
    assert (tally.counts["fields"], tally.counts["missing_fields"]) == (4, 2)
    assert set(tally.sketches) == {"feature.age"}
    assert tally.categories["missing"].done().counts == {"income": 1, "x": 1}


def test_a_flood_of_missing_inputs_is_bounded_and_takes_no_features_place() -> None:
    heard = Heard()
    names: dict[str, object] = {f"f{i}": "a" for i in range(FEATURES_MAX)}
    heard.say(features={"gone": None})
    tally = heard.say(features=names)
    assert len(tally.categories) == FEATURES_MAX + 1
    assert tally.dropped == 0
    for part in range(10):
        heard.say(features=dict.fromkeys(f"{part} {i}" for i in range(60)))
    missing = tally.categories["missing"].done()
    assert len(missing.counts) == NAMES_MAX
    assert sum(missing.counts.values()) + missing.other == 601


def test_a_label_finds_its_prediction_and_counts_once() -> None:
    heard = Heard()
    heard.say(prediction=1, prediction_id="a", segment="old")
    heard.at += 3600
    for _ in range(2):
        heard.say(prediction_id="a", label=True)
    old = heard.tallies[Cohort(service="risk", version="7", segment="old")]
    assert old.counts == {
        "predictions": 1,
        "custom.repeated": 0,
        "labels": 1,
        "correct": 1,
        "true_positives": 1,
        "false_positives": 0,
        "false_negatives": 0,
    }


@pytest.mark.parametrize(
    ("prediction", "label", "name"),
    [(1, 0, "false_positives"), (0, 1, "false_negatives"), (1, 1, "true_positives")],
)
def test_the_kinds_of_right_and_wrong(prediction: int, label: int, name: str) -> None:
    counts = Heard().say(prediction=prediction, label=label).counts
    kinds = ("true_positives", "false_positives", "false_negatives")
    assert {kind for kind in kinds if counts[kind]} == {name}


def test_a_label_of_a_prediction_nobody_knows_is_counted_as_such() -> None:
    heard = Heard()
    tally = heard.say(prediction_id="nobody", label=1)
    assert heard.observations.unmatched == 1
    assert "labels" not in tally.counts


def test_predictions_wait_in_a_bounded_memory() -> None:
    heard = Heard()
    for number in range(PREDICTIONS_MAX + 10):
        heard.say(prediction=1, prediction_id=f"p{number}")
    heard.say(prediction_id="p0", label=1)
    assert heard.observations.unmatched == 1
    heard.at += 90_000
    heard.say(prediction=1, prediction_id="new")
    assert len(heard.observations._predictions) == 1


def test_segments_arms_and_features_are_bounded() -> None:
    heard = Heard()
    for number in range(100):
        heard.say(latency=0.1, segment=f"s{number}", features={f"f{number}": 1})
    assert len({c.segment for c in heard.tallies}) == SEGMENTS_MAX + 1
    tally = Heard().say(features={f"f{n}": n for n in range(200)})
    assert len(tally.sketches) == SERIES_MAX
    assert tally.dropped == 200 - SERIES_MAX


def test_a_unit_counts_once_an_hour_in_its_arm() -> None:
    heard = Heard()
    for arm in ("a", "a", "b"):
        heard.say(unit_id="u1", arm=arm)
    counts = {c.arm: t.counts.get("units", 0) for c, t in heard.tallies.items()}
    assert counts == {"a": 1, "b": 1}
    heard.at += 4000
    heard.say(unit_id="u1", arm="a")
    assert sum(t.counts["units"] for t in heard.tallies.values()) == 3


NASTY = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5), st.lists(st.none())
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("latency", "ok", "features", "prediction", "label", "segment", "arm"),
                *("unit_id", "prediction_id", "confidence", "score", "cost", "complaint"),
            ]
        ),
        st.one_of(NASTY, st.dictionaries(st.text(max_size=3), NASTY)),
    )
)
def test_nonsense_is_neither_raised_nor_counted_as_numbers(said: dict[str, object]) -> None:
    heard = Heard()
    tally = heard.say(**said)
    for value in tally.counts.values():
        assert math.isfinite(value)
        assert value >= 0


def test_what_is_told_twice_is_counted() -> None:
    heard = Heard()
    heard.say(prediction=1, prediction_id="a")
    heard.say(prediction=1, prediction_id="b")
    tally = heard.say(prediction=1, prediction_id="a")
    assert (tally.counts["custom.repeated"], tally.counts["predictions"]) == (1, 3)


def test_a_service_may_count_what_it_looks_for_itself() -> None:
    heard = Heard()
    heard.say(counts={"images": 1, "images_flipped": 0})
    tally = heard.say(counts={"images": 1, "images_flipped": 1})
    assert tally.counts == {"custom.images": 2, "custom.images_flipped": 1}


@pytest.mark.parametrize(
    "counts",
    [
        [1],
        "images",
        {f"n{number}": 1 for number in range(17)},
        {"images": -1},
        {"images": math.inf},
        {"images": "many"},
        {"images": 1e300},
        {"a b": 1},
        {"\u00e4": 1},
        {1: 1},
    ],
)
def test_counts_that_are_none_are_left_out_and_told(counts: object) -> None:
    tally = Heard().say(counts=counts)
    assert (tally.counts, tally.dropped) == ({}, 1)
