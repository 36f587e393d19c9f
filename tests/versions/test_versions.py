"""Case 48: an upgrade and a downgrade across the newest schema, with a full spool and an open intent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import folder  # noqa: F401  a short path
from tests.versions.run import ROOT, NoHistory, before_newest_schema, code_of, play


@pytest.mark.serial
@pytest.mark.timeout(240)
def test_case_48_there_and_back(folder: Path) -> None:  # noqa: F811
    try:
        commit = before_newest_schema()
        old = code_of(commit, folder / "old")
    except NoHistory as missing:
        pytest.skip(f"this checkout has no history: {missing}")
    told = play(folder, old, ROOT / "agent")
    assert told.faults == [], told.seen
    schemas = told.seen["schemas"]
    assert schemas[0] < schemas[1]  # by one, or by as many as came with that commit
    assert told.seen["events waiting"] >= 1
