"""A rollback whose aggregator is killed in its middle: the rest goes on, nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet_kills.rollback_play import play


@pytest.mark.timeout(300)
def test_an_aggregator_killed_half_way_orders_nobody_twice_and_forgets_nobody(
    tmp_path: Path,
) -> None:
    found = play(tmp_path, nodes=6, at=(1, 3), broken=frozenset({2}))
    assert (found.kills, found.killed_half_way) == (2, 2)
    assert found.state == "halted", "with one that failed it is no success"
    assert found.turns == {f"n{n}": "failed" if n == 2 else "done" for n in range(6)}
    for each in found.carriers:
        wanted = ["v2"] if each.is_broken else ["v2", "v1"]
        assert each.runs == wanted, "an image that is broken leaves what runs; none is begun twice"
        assert len(each.orders) == 1, "one order, under one id, whoever gives it"
        assert each.again == 0, "what is known to be begun is not ordered again"
