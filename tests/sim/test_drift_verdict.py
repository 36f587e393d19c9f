"""A run that lacks anything is no success; a calm one in which anything fires is none either."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.sim.drift.verdict import Seen, missed

CALL = {"is_signed": True, "evidence": [{"reason": "drift"}, {"reason": "accuracy"}]}
WHOLE = Seen(
    drifted=frozenset({"dose", "contrast"}),
    verdict_s=20.0,
    picked_before_per_min=200.0,
    picked_after_per_min=700.0,
    exported=400,
    segments=frozenset({"common", "old-scanner"}),
    corrections=500,
    decided=400,
    counted=300,
    accuracy_before=0.95,
    accuracy_after=0.8,
    is_accuracy_red=True,
    calls=[CALL],
    calls_after_restart=1,
    report=("retraining: full training was asked for (HTTP 202)",),
)
CALM = replace(
    WHOLE,
    drifted=None,
    accuracy_after=0.95,
    is_accuracy_red=False,
    calls=[],
    calls_after_restart=None,
    report=(),
)


def said(seen: Seen, *, is_shifted: bool = True) -> list[str]:
    return missed(seen, is_shifted=is_shifted, accuracy_limit=0.9)


def test_whole_runs_lack_nothing() -> None:
    assert said(WHOLE) == []
    assert said(CALM, is_shifted=False) == []


@pytest.mark.parametrize(
    "change",
    [
        {"drifted": None},
        {"drifted": frozenset({"dose"})},
        {"drifted": frozenset({"dose", "contrast", "age"})},
        {"picked_after_per_min": 220.0},
        {"exported": 0},
        {"segments": frozenset({"common"})},
        {"corrections": 0},
        {"again": 1},
        {"counted": 0},
        {"accuracy_after": None},
        {"is_accuracy_red": False},
        {"calls_before_labels": 1},
        {"calls": []},
        {"calls": [CALL, CALL]},
        {"calls": [{**CALL, "is_signed": False}]},
        {"calls": [{**CALL, "evidence": [{"reason": "drift"}]}]},
        {"calls_after_restart": 2},
        {"calls_after_restart": None},
        {"report": ()},
    ],
)
def test_what_was_not_seen_is_missed(change: dict[str, Any]) -> None:
    assert len(said(replace(WHOLE, **change))) >= 1


@pytest.mark.parametrize(
    "change",
    [{"drifted": frozenset({"age"})}, {"is_accuracy_red": True}, {"calls": [CALL]}],
)
def test_what_fires_where_nothing_is_wrong_is_missed(change: dict[str, Any]) -> None:
    assert len(said(replace(CALM, **change), is_shifted=False)) == 1
