"""Reliability case 53, as work and not as time: how many calls one report takes, which no neighbour changes.

``scripts/ingest-guard`` measures the time, beside a loop of plain hashing.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

from tests.ingest_guard.__main__ import verdict
from tests.ingest_guard.work import NODES, Work

CALLS_MAX = 66
"""Calls of Python code and of C for one report: a tenth more than there were when this was written."""


def test_case_53_a_report_takes_no_more_calls_than_it_did(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.take(work.messages())
    counts: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        counts[event] += 1

    messages = work.messages()
    sys.setprofile(count)
    try:
        work.take(messages)
    finally:
        sys.setprofile(None)
    work.close()
    calls = (counts["call"] + counts["c_call"]) / NODES
    assert calls <= CALLS_MAX


@pytest.mark.parametrize(("ratio", "is_well"), [(1.0, True), (1.25, True), (1.26, False)])
def test_case_53_a_quarter_more_time_is_too_much(ratio: float, is_well: bool) -> None:
    assert verdict(ratio, 1.0) is is_well
