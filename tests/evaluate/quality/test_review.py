"""A queue within its bytes; lines out; whatever comes back in is judged line by line."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.quality.review import (
    Correction,
    LineFault,
    ReviewQueue,
    harvest,
    imported,
    line_of,
    prediction_of,
)
from gpuwarden.evaluate.quality.sampling import Prediction, doubt


def _said(
    name: str, confidence: float = 0.4, segment: str = "s", label: str = "x", size: int = 0
) -> Prediction:
    return Prediction(
        id=name, segment=segment, label=label, confidence=confidence, input="i" * size
    )


def _queue(*predictions: Prediction, bytes_max: int = 1 << 20) -> ReviewQueue:
    queue = ReviewQueue(bytes_max)
    queue.add(predictions)
    return queue


def _line(name: str, label: Any = "y", reviewer: Any = "ann", **more: Any) -> str:
    return json.dumps({"id": name, "label": label, "reviewer": reviewer, **more})


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    odd = Prediction(
        id="a\u2028\n\ud800", segment="\x1b[0m", label="é", confidence=math.nan, at_wall=math.inf
    )
    line = line_of(odd)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    said = json.loads(line)
    assert (said["id"], said["confidence"], said["label"]) == ("a\u2028\n\ud800", None, None)


@given(
    st.text(min_size=1, max_size=8),
    st.text(max_size=8),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    st.lists(st.floats(0, 1), max_size=3),
    st.lists(st.text(max_size=4), max_size=3),
)
def test_what_is_written_is_read_again(
    name: str, word: str, confidence: float | None, shares: list[float], opinions: list[str]
) -> None:
    said = Prediction(
        id=name, segment=word, label=word, confidence=confidence, probabilities=tuple(shares),
        opinions=tuple(opinions), at_wall=7.5, version=word, input=word,
    )  # fmt: skip
    assert prediction_of(line_of(said)) == said


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", LineFault.NOT_JSON),
        ("[]", LineFault.NOT_AN_OBJECT),
        ("{}", LineFault.NO_ID),
        ('{"id": "' + "x" * 2000 + '"}', LineFault.NO_ID),
        ('{"id": "a", "input": "' + "x" * (1 << 20) + '"}', LineFault.TOO_LONG),
    ],
)
def test_what_is_no_prediction(line: str, why: LineFault) -> None:
    assert prediction_of(line) is why


def test_a_prediction_with_nonsense_in_it_is_one_in_doubt() -> None:
    odd = {
        "id": "a",
        "confidence": 10**400,
        "probabilities": [0.5, "x"],
        "opinions": [3],
        "at_wall": True,
        "segment": [],
    }
    found = prediction_of(json.dumps(odd))
    assert isinstance(found, Prediction)
    assert (found.confidence, found.opinions, found.at_wall, found.segment) == (None, (), 0.0, "")
    assert doubt(found).uncertainty == 1.0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.floats(0, 1),
            st.sampled_from(["a", "b", "rare"]),
            st.integers(0, 400),
        ),
        max_size=60,
    ),
    st.integers(0, 5000),
)
def test_the_queue_keeps_within_its_bytes_and_counts_what_it_gave_up(
    items: list[tuple[int, float, str, int]], bytes_max: int
) -> None:
    queue = ReviewQueue(bytes_max)
    queue.add(
        _said(str(name), confidence, segment, size=size)
        for name, confidence, segment, size in items
    )
    lines = list(queue.export())
    assert queue.bytes == sum(len(line) + 1 for line in lines) <= bytes_max
    assert len(queue) == len(lines)
    assert {json.loads(line)["id"] for line in lines} <= {str(name) for name, *_ in items}
    assert len(lines) + queue.dropped.total() >= len({name for name, *_ in items})


def test_a_flood_costs_its_own_segment_its_least_doubtful() -> None:
    queue = _queue(*[_said(f"r{n}", 0.69, "rare") for n in range(5)], bytes_max=20_000)
    queue.add(_said(f"f{n}", n / 1000, "flood") for n in range(500))
    kept = queue.items()
    assert sum(each.segment == "rare" for each in kept) == 5
    flood = [each for each in kept if each.segment == "flood"]
    assert {each.id for each in flood} == {f"f{n}" for n in range(len(flood))}, "the least certain"
    assert queue.dropped == {"flood": 500 - len(flood)}


def test_one_that_is_larger_than_the_bound_costs_no_other() -> None:
    queue = _queue(_said("a"), _said("b"), bytes_max=1000)
    queue.add([_said("huge", 0.0, size=2000)])
    assert [each.id for each in queue.items()] == ["a", "b"]
    assert queue.dropped == {"s": 1}


def test_what_was_looked_at_leaves_and_may_come_again() -> None:
    queue = _queue(_said("a"), _said("b"), _said("c", segment="t"))
    queue.done(["a", "c", "unknown"])
    assert [each.id for each in queue.items()] == ["b"]
    assert queue.bytes == len(line_of(_said("b"))) + 1
    queue.add([_said("a", segment="t"), _said("b", 0.1)])
    assert [(each.id, each.segment) for each in queue.items()] == [("b", "s"), ("a", "t")]
    assert queue.get("b") == _said("b"), "one that is there stays as it is"


def test_items_are_by_segment_and_doubt() -> None:
    queue = _queue(_said("1", 0.5, "b"), _said("2", 0.1, "b"), _said("3", 0.6, "a"))
    assert [each.id for each in queue.items()] == ["3", "2", "1"]
    assert doubt(queue.items()[1]).uncertainty == 0.9


def test_corrections_come_back() -> None:
    queue = _queue(_said("a"), _said("b"), _said("c"))
    lines = [*queue.export(), "", "\ufeff" + _line("a"), _line("b", " x "), "  \n"]
    found = imported(lines, queue)
    assert [
        (each.prediction.id, each.label, each.reviewer, each.is_right) for each in found.corrections
    ] == [
        ("a", "y", "ann", False),
        ("b", "x", "ann", True),
    ]
    assert (found.faults, found.blank, found.unlabelled) == ((), 2, 3)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", LineFault.NOT_JSON),
        ("[" * 100_000, LineFault.NOT_JSON),
        ("nul", LineFault.NOT_JSON),
        ("1" * 5000, LineFault.NOT_JSON),
        ("[]", LineFault.NOT_AN_OBJECT),
        ('"a"', LineFault.NOT_AN_OBJECT),
        ("NaN", LineFault.NOT_AN_OBJECT),
        ("{}", LineFault.NO_ID),
        (_line(""), LineFault.NO_ID),
        ('{"id": 3, "label": "y"}', LineFault.NO_ID),
        (_line("unknown"), LineFault.UNKNOWN_ID),
        (_line("a", None), LineFault.NO_LABEL),
        (_line("a", 3), LineFault.NO_LABEL),
        (_line("a", ["y"]), LineFault.NO_LABEL),
        (_line("a", "  "), LineFault.NO_LABEL),
        (_line("a", "y" * 2000), LineFault.NO_LABEL),
        (_line("a", "z"), LineFault.UNKNOWN_LABEL),
        (_line("a", "y", None), LineFault.NO_REVIEWER),
        (_line("a", "y", {"name": "ann"}), LineFault.NO_REVIEWER),
        (_line("a", score="4"), LineFault.NO_SCORE),
        (_line("a", score=True), LineFault.NO_SCORE),
        (_line("a", score=float("nan")), LineFault.NO_SCORE),
        (_line("a", score=-1e10), LineFault.NO_SCORE),
        (_line("a", input="i" * (1 << 20)), LineFault.TOO_LONG),
    ],
)
def test_a_bad_line_is_named_and_costs_no_other(line: str, why: LineFault) -> None:
    queue = _queue(_said("a"), _said("b"))
    found = imported([_line("b"), line, _line("b", reviewer="bea")], queue, labels=frozenset("xy"))
    assert found.faults == ((2, why),)
    assert [each.reviewer for each in found.corrections] == ["ann", "bea"]


def test_one_person_who_says_two_things_says_nothing() -> None:
    queue = _queue(_said("a"), _said("b"))
    found = imported(
        [
            _line("a", "x"),
            _line("b"),
            _line("b"),
            _line("a", "y"),
            _line("a", "x"),
            _line("a", "x", "bea"),
        ],
        queue,
    )
    assert found.faults == (
        (1, LineFault.CONTRADICTORY),
        (3, LineFault.REPEATED),
        (4, LineFault.CONTRADICTORY),
        (5, LineFault.CONTRADICTORY),
    )
    assert [(each.prediction.id, each.reviewer) for each in found.corrections] == [
        ("b", "ann"),
        ("a", "bea"),
    ]
    assert found.counts == {LineFault.CONTRADICTORY: 3, LineFault.REPEATED: 1}


def test_a_flood_of_faults_is_counted_and_not_kept() -> None:
    found = imported(("junk" for _ in range(5000)), _queue())
    assert found.counts == {LineFault.NOT_JSON: 5000}
    assert len(found.faults) == 1000


@given(st.lists(st.text(max_size=60), max_size=10))
def test_any_lines(lines: list[str]) -> None:
    found = imported(lines, _queue(_said("a")))
    assert sum(found.counts.values()) + found.blank + found.unlabelled + len(
        found.corrections
    ) == len(lines)


def test_the_harvest() -> None:
    a, b, c, d = (_said(name, segment="t" if name == "d" else "s") for name in "abcd")
    said = [
        (a, "x", "1"),
        (a, "x", "2"),
        (b, "y", "1"),
        (b, "x", "2"),
        (c, "y", "1"),
        (d, "y", "1"),
        (d, "y", "2"),
    ]
    found = harvest(Correction(prediction=p, label=label, reviewer=who) for p, label, who in said)
    assert (found["s"].labels, found["s"].right, found["s"].undecided) == (3, 1, 1)
    assert found["s"].gold == {"a": "x"}
    assert (found["t"].labels, found["t"].right, found["t"].gold) == (1, 0, {"d": "y"})
    assert harvest([]) == {}
