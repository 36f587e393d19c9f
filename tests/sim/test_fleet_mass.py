"""Reliability case 29, small: all nodes say the same at once, and the fleet does not believe them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.clock import SystemClock
from gpuwarden.sim.fleet.centre import own_centre
from gpuwarden.sim.fleet.mass import run_mass, settings
from gpuwarden.sim.fleet.mass_verdict import Mass, missed

SOONER = '[sight]\nfold_s = "2s"\n'


@pytest.mark.serial
@pytest.mark.timeout(180)
def test_case_29_a_mass_false_positive_is_one_page_few_actions_and_undo_works(
    tmp_path: Path,
) -> None:
    pages, clock = tmp_path / "pages.jsonl", SystemClock()
    mass = Mass(nodes=24, xid=79, within_s=6.0, after_s=3.0)
    with own_centre(clock, settings(pages) + SOONER) as centre:
        said = asyncio.run(run_mass(centre, clock, mass, pages))
    assert said["missed"] == []
    assert said["asked"] == {"cordon": 24, "reboot": 24}
    assert said["pages"][0]["summary"].startswith("24 of 24 nodes of group default")
    assert "of 24 nodes of group default turned sick" in said["frozen"]
    assert len(said["uncordons"]) == 4
    assert said["refused"]["frozen"] > 24


WELL: dict[str, Any] = {
    "nodes": 10,
    "reported": 10,
    "asked_nodes": 10,
    "refused": {"frozen": 9},
    "pages": [{}],
    "page_after_s": 20.0,
    "uncordons": [{"node": "n", "done": True, "said": ""}],
}


def wrong(*, granted: int = 1, done: int = 1, **more: Any) -> list[str]:
    return missed({**WELL, **more}, {"cordon": 1}, Counter(cordon=granted), Counter(cordon=done))


def test_what_was_as_it_should_be_misses_nothing() -> None:
    assert wrong() == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"granted": 2}, "2 nodes have leave for a cordon, the budget is 1"),
        ({"done": 2}, "a cordon was done on 2 nodes, 1 had leave"),
        ({"asked_nodes": 9}, "10 of 10 nodes reported, 9 asked"),
        ({"refused": {}}, "nobody was refused"),
        ({"pages": [{}, {}]}, "2 pages instead of one"),
        ({"page_after_s": 61.0}, "nobody was paged within 60 s"),
        ({"page_after_s": None}, "nobody was paged within 60 s"),
        (
            {"uncordons": [{"node": "n", "done": False, "said": "busy"}]},
            "n was not given back: busy",
        ),
    ],
)
def test_each_bound_is_missed_in_words(more: dict[str, Any], expected: str) -> None:
    assert wrong(**more) == [expected]
