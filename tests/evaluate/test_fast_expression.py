"""What may be written, what it is worth in a window, and what is wrong with the rest."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.expression import parse
from gpuwarden.evaluate.fast.reading import Reading, read
from gpuwarden.model.evaluation import Cohort, Histogram, Lack, Level, Missing, Window

WINDOW = Window(
    cohort=Cohort(service="risk"),
    begin_wall=1000.0,
    length_s=10.0,
    counts={"requests": 200.0, "errors": 4.0, "labels": 0.0, "correct": 0.0, "cost": 30.0},
    levels={"queue_length": Level(total=30.0, count=10, low=1.0, high=7.0, last=2.0)},
    sketches={"latency_s": sketches.of([0.1] * 98 + [2.0] * 2)},
    histograms={"queue_s": Histogram(bounds=(0.1, math.inf), counts=(10, 0))},
    lacks=(Lack(series="first_token_s", why=Missing.UNREADABLE, detail="NaN"),),
)


def value(text: str, past: Window | None = None) -> float:
    got = read(parse(text), WINDOW, past)
    assert isinstance(got, Reading), got
    return got.value


def why(text: str, window: Window | None = WINDOW) -> Missing:
    got = read(parse(text), window)
    assert isinstance(got, Lack), got
    return got.why


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("errors / requests", 0.02),
        ("1 - errors / requests", 0.98),
        ("2 * (errors + requests) / requests", 2.04),
        ("-errors", -4.0),
        ("cost / requests", 0.15),
        ("rate(requests)", 20.0),
        ("mean(queue_length)", 3.0),
        ("queue_length", 3.0),
        ("max(queue_length)", 7.0),
        ("last(queue_length)", 2.0),
        ("above(latency_s, 1)", 0.02),
        ("below(latency_s, 1)", 0.98),
        ("p50(queue_s)", 0.05),
        ("10 - 2 - 3", 5.0),
        ("8 / 2 / 2", 2.0),
        ("1e-1 * 5", 0.5),
    ],
)
def test_values(text: str, wanted: float) -> None:
    assert value(text) == pytest.approx(wanted)


def test_a_quantile_says_on_how_many_values_it_stands() -> None:
    got = read(parse("p99(latency_s)"), WINDOW)
    assert isinstance(got, Reading)
    assert got.value == pytest.approx(2.0, rel=0.01)
    assert got.support == 100
    share = read(parse("errors / requests"), WINDOW)
    assert isinstance(share, Reading)
    assert (share.events, share.trials, share.support) == (4.0, 200.0, 200.0)


def test_the_past_is_compared_with() -> None:
    past = Window(
        cohort=WINDOW.cohort,
        begin_wall=0,
        length_s=1000.0,
        counts={"requests": 10_000.0, "errors": 500.0},
    )
    assert value("drop(errors / requests)", past) == pytest.approx(0.03)
    assert value("growth(rate(requests))", past) == pytest.approx(2.0)
    assert why("drop(errors / requests)") is Missing.TOO_FEW


def test_why_there_is_no_number() -> None:
    assert why("errors / requests", None) is Missing.NO_DATA
    assert why("correct / labels") is Missing.TOO_FEW
    assert why("complaints / requests") is Missing.UNKNOWN_SERIES
    assert why("p99(first_token_s)") is Missing.UNREADABLE
    empty = Window(cohort=WINDOW.cohort, begin_wall=0, length_s=10)
    assert why("errors / requests", empty) is Missing.NO_DATA


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "expected a number, a series or a function at character 1, got the end"),
        ("latency", 'expected a known series at character 1, got "latency"'),
        ("latency_s", "a series that is a count or a level"),
        ("p99(errors)", "a series that is a spread"),
        ("p99(latency_s", 'expected ")"'),
        ("errors requests", "expected the end at character 8"),
        ("errors / / requests", "at character 10"),
        ("__import__('os')", "a known series"),
        ("errors; requests", 'got ";"'),
        ("above(latency_s)", 'expected ","'),
        ("drop(drop(errors))", "looks back already"),
        ("(" * 50 + "errors" + ")" * 50, "nested deeper"),
        ("-" * 50 + "errors", "nested deeper"),
        ("errors + " * 100 + "errors", "longer than"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert wanted in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_tree_or_a_value_error(text: str) -> None:
    try:
        read(parse(text), WINDOW)
    except ValueError:
        return


@given(
    st.lists(
        st.sampled_from(
            ["errors", "requests", "+", "-", "*", "/", "(", ")", "0", "1e300", "drop("]
        ),
        max_size=14,
    )
)
def test_any_tree_gives_a_finite_number_or_a_lack(words: list[str]) -> None:
    try:
        expression = parse(" ".join(words))
    except ValueError:
        return
    got = read(expression, WINDOW, WINDOW)
    assert isinstance(got, Lack) or math.isfinite(got.value)
