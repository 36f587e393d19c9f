"""Case 2 of the faults of a fleet: the aggregator is killed under load, and nothing acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aggregator.databases import database
from tests.fleet_kills.run import play


@pytest.mark.timeout(300)
def test_case_2_a_killed_aggregator_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    tally = play(tmp_path, kills=10, nodes=4, seed=7)
    assert (tally.lost, tally.doubled, tally.broken) == (0, 0, [])
    assert tally.acknowledged > 0
    assert tally.resent > 0


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_case_2_nor_does_one_on_postgresql(tmp_path: Path) -> None:
    with database() as url:
        tally = play(tmp_path, kills=10, nodes=4, seed=8, database=url)
    assert (tally.lost, tally.doubled, tally.broken) == (0, 0, [])
    assert tally.acknowledged > 0
    assert tally.resent > 0
