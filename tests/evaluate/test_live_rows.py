"""Live rows against a profile: which features, since which window, how far; and accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpuwarden.evaluate.drift import joint
from gpuwarden.evaluate.drift.profile import of_categories, of_numbers
from gpuwarden.evaluate.drift.profile_file import ProfileFile
from gpuwarden.evaluate.drift.report import LiveColumns, LiveRows, Times, numbers_of
from gpuwarden.evaluate.quality.table import number_of
from gpuwarden.model.drift_report import DriftReport

R = np.random.default_rng(5)
SITES = [("north", "south", "west")[n % 3] for n in range(6000)]
REFERENCE = ProfileFile(
    rows=6000,
    features={"x": of_numbers(R.normal(50, 10, size=6000)), "site": of_categories(SITES)},
)


TIMES = Times(read=number_of, show=lambda wall: f"{wall / 3600:.0f} h")


def _report(
    table: dict[str, Any], *, columns: LiveColumns | None = None, batch: int = 700, rows: int = 1000
) -> DriftReport:
    live = LiveRows(REFERENCE, list(table), columns=columns, window_rows=rows, times=TIMES)
    length = len(next(iter(table.values())))
    for start in range(0, length, batch):
        live.add([values[start : start + batch] for values in table.values()])
    return live.report(title="t")


def test_a_shift_is_found_from_its_window_on() -> None:
    r = np.random.default_rng(1)
    x = r.normal(50, 10, size=8000)
    x[5000:] += 6
    got = _report({"x": x, "site": SITES + SITES[:2000]})
    track = next(each for each in got.features if each.feature == "x")
    assert [p.is_drift for p in track.points] == [False] * 5 + [True] * 3
    assert got.windows == tuple(f"{n},000" for n in range(1, 9))
    assert len(got.summary) == 1
    assert got.summary[0].startswith("x has drifted since 6,000: mean 5")
    assert "+0.6" in got.summary[0] or "+0.5" in got.summary[0]
    assert got.rows == 8000


def test_what_is_over_is_told_with_its_end() -> None:
    x = np.random.default_rng(1).normal(50, 10, size=6000)
    x[2000:4000] += 8
    got = _report({"x": x})
    assert "in 2 windows from 3,000 to 4,000" in got.summary[0]


def test_stable_rows_are_said_to_be_so() -> None:
    got = _report({"x": np.random.default_rng(2).normal(50, 10, size=6000), "site": SITES})
    assert got.summary == ("No feature has drifted.",)
    assert got.remarks == ()


def test_new_names_and_missing_values_are_findings() -> None:
    sites = [*SITES[:3000], *["east" if n % 3 else "north" for n in range(3000)]]
    x: list[Any] = [
        "50" if n >= 3000 and n % 2 else str(v)
        for n, v in enumerate(np.random.default_rng(3).normal(50, 10, 6000))
    ]
    x[3000::3] = [""] * 1000
    got = _report({"x": x, "site": sites})
    assert sorted(line.split()[0] for line in got.summary) == ["site", "x"]
    assert "% missing" in " ".join(got.summary)


def test_accuracy_that_drops_is_said_once_and_by_when() -> None:
    r = np.random.default_rng(4)
    truth = np.where(r.random(12_000) < 0.5, "a", "b")
    wrong = r.random(12_000) < np.where(np.arange(12_000) < 8000, 0.03, 0.15)
    said = np.where(wrong, "c", truth)
    table = {"x": r.normal(50, 10, size=12_000), "t": truth.tolist(), "p": said.tolist()}
    got = _report(table, columns=LiveColumns(truth="t", prediction="p"))
    assert got.quality is not None
    assert got.quality.verdict_window in (8, 9)
    assert got.quality.baseline == pytest.approx(0.97, abs=0.01)
    assert got.summary[-1].startswith("Accuracy has dropped, said at ")
    assert got.quality.points[0].low is not None
    table["t"] = [""] * 12_000
    bare = _report(table, columns=LiveColumns(truth="t", prediction="p"))
    assert bare.quality is not None
    assert (bare.quality.baseline, bare.quality.verdict_window) == (None, None)
    assert bare.remarks[-1] == "accuracy: 0 labels are no reference"


def test_a_rest_and_an_absent_feature_are_told() -> None:
    got = _report({"x": np.random.default_rng(2).normal(50, 10, size=2300)})
    assert got.remarks == (
        "site is in the profile and not in the live table",
        "the last 300 rows make no window",
    )
    assert len(_report({"x": np.full(2600, 50.0)}).windows) == 3  # more than half of one is judged


def test_times_name_the_windows_and_must_ascend() -> None:
    x = np.random.default_rng(2).normal(50, 10, size=2000)
    hours = [3.6 * n for n in range(2000)]
    got = _report({"x": x, "at": hours}, columns=LiveColumns(time="at"))
    assert (got.axis, got.windows) == ("time (UTC)", ("1 h", "2 h"))
    with pytest.raises(ValueError, match="not in the order of time"):
        _report({"x": x, "at": hours[::-1]}, columns=LiveColumns(time="at"))
    with pytest.raises(ValueError, match="expected Unix seconds or ISO"):
        _report({"x": x, "at": ["soon"] * 2000}, columns=LiveColumns(time="at"))


def test_what_makes_no_report() -> None:
    with pytest.raises(ValueError, match="rows make no window"):
        _report({"x": [1.0] * 90})
    with pytest.raises(ValueError, match="none of the profile's features"):
        _report({"y": [1.0] * 2000})
    with pytest.raises(ValueError, match="no column 'at'"):
        _report({"x": [1.0]}, columns=LiveColumns(time="at"))
    with pytest.raises(ValueError, match="nothing to read it by"):
        LiveRows(REFERENCE, ["x"], columns=LiveColumns(time="x"))
    with pytest.raises(ValueError, match="both or neither"):
        _report({"x": [1.0]}, columns=LiveColumns(truth="x"))
    with pytest.raises(ValueError, match="window rows"):
        _report({"x": [1.0]}, rows=10)


def test_features_that_go_together_no_longer_are_found_by_all_numbers() -> None:
    r = np.random.default_rng(6)

    def pairs(rows: int, correlation: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        both = r.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size=rows)
        return both[:, 0], both[:, 1]

    a, b = pairs(5000, 0.7)
    known = ProfileFile(rows=5000, features={"a": of_numbers(a), "b": of_numbers(b)})
    chosen = joint.ReferenceRows(1000)
    for start in range(0, 5000, 700):
        chosen.add(joint.matrix([a[start : start + 700], b[start : start + 700]]))
    live = LiveRows(known, ["b", "a"], rows=chosen.rows())
    assert numbers_of(known, ["b", "a"]) == ("a", "b")
    before, after = pairs(2000, 0.7), pairs(2000, -0.7)
    for a, b in (before, after):
        live.add([b, a])
    got = live.report(title="t")
    assert [each.is_drift for each in got.joint] == [False, False, True, True]
    assert got.summary[0] == "No feature has drifted."
    assert got.summary[1].startswith(
        "All numbers together have drifted, first in 3,000, in 2 of 4 windows: a classifier tells "
    )
    assert got.joint_needed == pytest.approx(0.5533, abs=0.01)


def test_rows_of_the_reference_are_a_fair_and_the_same_choice() -> None:
    def chosen() -> list[float]:
        rows = joint.ReferenceRows(200)
        for start in range(0, 10_000, 500):
            rows.add(np.arange(start, start + 500, dtype=float)[:, None])
        return [float(x) for x in rows.rows()[:, 0]]

    got = chosen()
    assert got == chosen()
    assert len(set(got)) == 200
    assert np.mean(got) == pytest.approx(5000, abs=900)
    assert joint.matrix([["1", "", "x"], [True, None, 3]]).tolist()[0][0] == 1.0
    assert np.isnan(joint.matrix([["1", "", "x"]])[1:, 0]).all()


def test_a_verdict_on_accuracy_does_not_hang_on_when_time_begins() -> None:
    """Rows of hour 0 and the same rows of today: the level of a chance is by how long they reach."""
    length, hour_s = 12_000, 3600.0
    columns = LiveColumns(truth="t", prediction="p", time="at")
    for seed in range(12):
        r = np.random.default_rng(seed)
        wrong = r.random(length) < np.where(np.arange(length) < 8000, 0.1, 0.132)
        table = {"x": r.normal(50, 10, size=length), "t": ["a"] * length}
        table["p"] = np.where(wrong, "c", "a").tolist()
        verdicts = []
        for begin in (0.0, 1.7e9):
            table["at"] = (begin + hour_s * np.arange(1, length + 1) / 1000).tolist()
            got = _report(table, columns=columns)
            assert got.quality is not None
            verdicts.append(got.quality.verdict_window)
        assert verdicts[0] == verdicts[1], seed
