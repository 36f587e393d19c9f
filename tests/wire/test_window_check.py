"""Windows of nodes, field by field: what is not what it must be is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from gpuwarden.errors import Refused
from gpuwarden.evaluate.fast import sketch
from gpuwarden.evaluate.fast.series import KNOWN
from gpuwarden.model.evaluation import (
    Categories,
    Cohort,
    Colour,
    Histogram,
    Lack,
    Level,
    Missing,
    Verdict,
    Window,
)
from gpuwarden.wire import window_check as check
from gpuwarden.wire.convert_window import of_window, to_verdict, to_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

WALL = 1_700_000_000.0
KINDS = {name: series.kind.value for name, series in KNOWN.items()}
WHOLE = Window(
    cohort=Cohort(service="chat", version="v1", arm="a", segment="s"),
    begin_wall=WALL,
    length_s=10.0,
    revision=3,
    counts={"requests": 7.0, "custom.gold": 1.5},
    levels={"queue_length": Level(total=6.0, count=3, low=1.0, high=3.0, last=2.0)},
    histograms={
        "queue_s": Histogram(bounds=(0.1, 0.5, math.inf), counts=(1.0, 2.0, 0.0), total=0.9)
    },
    sketches={
        "latency_s": sketch.of([0.001, 0.1, 0.2, 3.0]),
        "feature.age": sketch.of([-5.0, 0.0, 40.0]),
    },
    categories={"feature.site": Categories(counts={"north": 4, "süd": 2}, other=1)},
    lacks=(Lack(series="tokens", why=Missing.UNREADABLE, detail="no number"),),
    dropped=2,
)


def message() -> pb.ServiceWindow:
    made = to_window(WHOLE)
    made.sequence, made.tenant = 9, "t-1"
    made.devices.append("GPU-a")
    return made


def told(made: pb.ServiceWindow) -> check.Told:
    return check.from_window(made, KINDS, WALL)


def test_a_window_survives_the_way() -> None:
    found = told(message())
    assert found.window == WHOLE
    assert (found.sequence, found.tenant, found.devices) == (9, "t-1", ("GPU-a",))
    assert of_window(to_window(WHOLE)) == WHOLE
    assert of_window(to_window(WHOLE), {"requests"}).sketches == {}


def test_a_series_of_a_newer_node_is_left_out_and_counted() -> None:
    made = message()
    made.counts.add(name="of_tomorrow", value=1.0)
    found = told(made)
    assert found.window == WHOLE
    assert found.unknown == 1


def _set(path: str, value: object) -> Callable[[pb.ServiceWindow], None]:
    """``levels.0.low`` to a value."""

    def change(made: pb.ServiceWindow) -> None:
        *way, last = path.split(".")
        place: object = made
        for step in way:
            place = place[int(step)] if step.isdigit() else getattr(place, step)  # type: ignore[index]
        if last.isdigit():
            place[int(last)] = value  # type: ignore[index]
        else:
            setattr(place, last, value)

    return change


BAD = {
    "begin_wall: nan": _set("begin_wall", math.nan),
    "begin_wall: off": _set("begin_wall", WALL + 3),
    "begin_wall: ahead": _set("begin_wall", WALL + 70),
    "begin_wall: old": _set("begin_wall", WALL - 86_410),
    "length_s: 0": _set("length_s", 0.0),
    "length_s: long": _set("length_s", 1e9),
    "length_s: inf": _set("length_s", math.inf),
    "cohort.service: empty": _set("cohort.service", ""),
    "cohort.service: long": _set("cohort.service", "x" * 129),
    "cohort.version: escape": _set("cohort.version", "\x1b[2J"),
    "count requests: nan": _set("counts.0.value", math.nan),
    "count requests: inf": _set("counts.0.value", math.inf),
    "count requests: below 0": _set("counts.0.value", -1.0),
    "window.counts: kind": _set("counts.0.name", "queue_length"),
    "window.counts: feature": _set("counts.0.name", "feature.x"),
    "window.counts: twice": _set("counts.1.name", "requests"),
    "level queue_length: nan": _set("levels.0.low", math.nan),
    "level queue_length: none": _set("levels.0.count", 0),
    "level queue_length: order": _set("levels.0.last", 9.0),
    "level queue_length: total": _set("levels.0.total", 60.0),
    "histogram queue_s: bounds": _set("histograms.0.bounds.1", 0.1),
    "histogram queue_s: inf": _set("histograms.0.bounds.1", math.inf),
    "histogram queue_s: below 0": _set("histograms.0.counts.0", -1.0),
    "histogram queue_s: counts": lambda made: made.histograms[0].counts.append(1.0),
    "histogram queue_s: many": lambda made: made.histograms[0].bounds.extend(range(300)),
    "sketch latency_s: accuracy": _set("sketches.0.accuracy", 0.02),
    "sketch latency_s: nan": _set("sketches.0.accuracy", math.nan),
    "sketch latency_s: first": _set("sketches.0.first", 2**30),
    "sketch latency_s: bins": lambda made: made.sketches[0].bins.extend([1] * 7000),
    "sketch latency_s: sum": lambda made: made.sketches[0].bins.extend([2**63] * 4),
    "sketch latency_s: total": _set("sketches.0.total", math.nan),
    "sketch latency_s: low": _set("sketches.0.low", 9.0),
    "categories feature.site: names": lambda made: made.categories[0].names.append("more"),
    "categories feature.site: twice": _set("categories.0.names.1", "north"),
    "categories feature.site: escape": _set("categories.0.names.1", "\x1b[2J"),
    "categories feature.site: long": _set("categories.0.names.1", "x" * 200),
    "categories feature.site: sum": _set("categories.0.other", 2**60),
    "categories feature.site: many": lambda made: made.categories[0].names.extend(
        f"n{n}" for n in range(500)
    ),
    "window.categories: kind": _set("categories.0.name", "requests"),
    "window.categories: feature": lambda made: made.categories.extend(
        pb.CategorySeries(name=f"feature.{n}") for n in range(100)
    ),
    "lack.why: word": _set("lacks.0.why", "lazy"),
    "window.counts: many": lambda made: made.counts.extend(
        pb.CountSeries(name=f"custom.{n}") for n in range(100)
    ),
    "window.devices: many": lambda made: made.devices.extend(["GPU-b"] * 200),
    "window.devices: text": lambda made: made.devices.append("a b"),
    "window.tenant: long": _set("tenant", "x" * 300),
}


@pytest.mark.parametrize("what", BAD)
def test_what_no_node_would_say_is_refused_by_name(what: str) -> None:
    made = message()
    BAD[what](made)
    with pytest.raises(Refused, match=what.partition(":")[0]):
        told(made)


def test_the_accuracy_is_the_one_of_our_sketches() -> None:
    assert check.ACCURACY == sketch.ACCURACY


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(Refused):
        told(pb.ServiceWindow())


def verdict() -> pb.GuardrailVerdict:
    return to_verdict(
        Verdict(
            guardrail="latency-p99",
            cohort=Cohort(service="chat"),
            colour=Colour.RED,
            since_wall=WALL - 5,
            at_wall=WALL,
            value=0.7,
            limit=0.5,
            severity="error",
            summary="p99 is 0.7 s",
        )
    )


def test_a_verdict_survives_the_way() -> None:
    found = check.from_verdict(verdict(), WALL)
    assert (found.colour, found.value, found.limit) == (Colour.RED, 0.7, 0.5)
    assert to_verdict(found) == verdict()
    held = verdict()
    held.missing = "no-data"  # red stands through a silence
    assert check.from_verdict(held, WALL).missing is Missing.NO_DATA


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colour", "blue"),
        ("colour", "unknown"),
        ("missing", "lazy"),
        ("guardrail", ""),
        ("wall", WALL + 100),
        ("value", math.nan),
        ("summary", "x" * 600),
    ],
)
def test_a_verdict_that_says_nothing_is_refused(name: str, value: object) -> None:
    made = verdict()
    setattr(made, name, value)
    with pytest.raises(Refused):
        check.from_verdict(made, WALL)
