"""Cases 26, 28 and 52 of the faults of a fleet: two aggregators on one database, whatever is done to either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aggregator.databases import database
from tests.fleet_pair.clusters import mirrored
from tests.fleet_pair.run import FAULTS, Result, play


def played(folder: Path, faults: int, seed: int) -> Result:
    with database() as url:
        return play(folder, url, faults=faults, nodes=6, seed=seed, say=print)


def check(result: Result) -> None:
    tally = result.tally
    assert result.findings == []
    assert (tally.lost, tally.doubled, tally.broken) == (0, 0, [])
    # It was a history in which something could have gone wrong.
    assert tally.resent > 0
    assert result.leaders > 1
    assert min(result.grants, result.actions, result.orders_done) > 0


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_case_52_the_history_of_two_aggregators_keeps_every_rule(tmp_path: Path) -> None:
    check(played(tmp_path, len(FAULTS), seed=11))


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_case_52_nor_does_a_long_history_break_one(tmp_path: Path) -> None:
    check(played(tmp_path, 60, seed=12))


@pytest.mark.postgres
@pytest.mark.root
@pytest.mark.timeout(300)
def test_case_28_the_standby_takes_over_under_load(tmp_path: Path) -> None:
    with mirrored() as (first, second, url):

        def fail_over() -> None:
            first.die()
            second.promote()

        result = play(
            *(tmp_path, url),
            faults=1,
            nodes=6,
            seed=13,
            say=print,
            other=("failover", fail_over),
        )
        assert result.faults == {"failover": 1}
        check(result)
