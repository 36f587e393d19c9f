"""Who tells of a node's incident, at the edge of each deadline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book, Brief, Entry, Relay
from gpuwarden.policy.notify import relay

CFG = OncallConfig.model_validate({"exec": [{"name": "x", "command": ["/bin/true"]}]})
WALL = 1.7e9
NAME = IncidentId("inc-1")
OFFERED = Relay(page="p1", since_wall=WALL)


def book(state: Relay | None = None, **more: Any) -> Book:
    entry = Entry(
        incident=NAME,
        brief=Brief(incident=NAME, summary="lost", opened_wall=WALL),
        severity="error",
        paged_wall=WALL,
        pages=("p1",),
        relay=state,
    )
    return Book(entries={NAME: replace(entry, **more)})


def after(before: Book, wall: float, away_s: float | None = None) -> Relay | None:
    moved = relay.advanced(CFG, before, wall, away_s=away_s, wait_s=5.0, told_s=60.0)
    return moved.entries[NAME].relay


def test_it_is_offered_where_the_aggregator_is_heard_and_the_nodes_own_where_not() -> None:
    assert after(book(), WALL) == OFFERED
    assert after(book(), WALL, away_s=0.0) == replace(OFFERED, own=relay.AWAY)
    assert after(book(is_message=True), WALL) is None


@pytest.mark.parametrize(
    ("state", "after_s", "away_s", "own"),
    [
        (OFFERED, 4.9, None, ""),
        (OFFERED, 4.9, 100.0, ""),
        (OFFERED, 5.0, None, relay.NOT_TAKEN),
        (replace(OFFERED, is_taken=True), 59.9, None, ""),
        (replace(OFFERED, is_taken=True), 60.0, None, relay.NOT_TOLD),
        (replace(OFFERED, is_taken=True, is_told=True), 10_000.0, None, ""),
        (replace(OFFERED, is_taken=True, is_told=True), 10_000.0, CFG.repeat_s - 1, ""),
        (replace(OFFERED, is_taken=True, is_told=True), 10_000.0, CFG.repeat_s, relay.AWAY),
        (replace(OFFERED, own=relay.NOT_TAKEN), 1.0, None, relay.NOT_TAKEN),
    ],
)
def test_it_comes_back_by_its_deadline_and_stays(
    state: Relay, after_s: float, away_s: float | None, own: str
) -> None:
    found = after(book(state), WALL + after_s, away_s)
    assert found is not None
    assert found.own == own


def test_a_worse_page_is_offered_anew() -> None:
    told = replace(OFFERED, is_taken=True, is_told=True)
    assert after(book(told, pages=("p1", "p2")), WALL + 9) == Relay(page="p2", since_wall=WALL + 9)


def test_what_is_heard_counts_for_the_page_it_names() -> None:
    heard = relay.heard(book(OFFERED), {"p0"}, set()).entries[NAME].relay
    assert heard == OFFERED
    heard = relay.heard(book(OFFERED), {"p1"}, set()).entries[NAME].relay
    assert heard == replace(OFFERED, is_taken=True)
    heard = relay.heard(book(OFFERED), set(), {"p1"}).entries[NAME].relay
    assert heard == replace(OFFERED, is_taken=True, is_told=True)
