"""Halves of the label join on disk: as they were, in every store; what is no half is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.label_book import from_kept, to_kept
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_predictions import KEEP_S, KeptPrediction
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.errors import Refused
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.labels import Answer, Half
from tests.aggregator.databases import database

WALL = 1_700_000_000.0
CHAT = Cohort(service="chat", version="v1", arm="new", segment="old \u2603")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        made: Store = SqliteStore(tmp_path / "x.sqlite")
        yield made
        made.close()
        return
    with database() as url:
        other: Store = PostgresStore(url)
        yield other
        other.close()


def half(ident: str = "p1", **more: object) -> Half:
    words: dict[str, object] = {"prediction": "yes", "positive": "yes", **more}
    return Half(answer=Answer(cohort=CHAT, id=ident, **words))  # type: ignore[arg-type]


def put(store: Store, *halves: Half, wall: float = WALL, epoch: int | None = None) -> None:
    with store.transaction():
        store.put_predictions(to_kept(halves), wall, epoch)


@pytest.mark.parametrize(
    "whole",
    [
        half(),
        half(prediction=None, label="no"),
        Half(
            answer=Answer(cohort=CHAT, id="p1", prediction="a", label="b"),
            is_counted=True,
            has_complained=True,
            has_scored=True,
        ),
        Half(answer=Answer(cohort=CHAT, id="p1"), has_left=True),
    ],
)
def test_it_comes_back_as_it_was(store: Store, whole: Half) -> None:
    put(store, whole)
    assert from_kept(store.predictions("chat", ["p1", "p2"])) == [whole]
    assert store.predictions("other", ["p1"]) == []


def test_what_is_known_later_takes_its_place_and_many_are_found(store: Store) -> None:
    put(store, *(half(f"p{n}") for n in range(700)))
    put(store, half("p3", label="no"))
    found = from_kept(store.predictions("chat", [f"p{n}" for n in range(0, 900, 2)] + ["p3"]))
    assert len(found) == 351
    assert [each.answer.label for each in found if each.answer.id == "p3"] == ["no"]


def test_the_old_go_and_the_oldest_beyond_so_many(store: Store) -> None:
    for number in range(6):
        put(store, half(f"p{number}"), wall=WALL + number)
    put(store, half("ancient"), wall=WALL - KEEP_S)
    with store.transaction():
        store.prune_predictions(2, WALL + 10)
    every = [f"p{n}" for n in range(6)] + ["ancient"]
    assert {each.id for each in store.predictions("chat", every)} == {"p3", "p4", "p5"}


def test_whose_reign_is_over_writes_nothing(store: Store) -> None:
    if isinstance(store, SqliteStore):
        pytest.skip("one file has one aggregator")
    with pytest.raises(Refused):
        put(store, half(), epoch=-5)
    assert store.predictions("chat", ["p1"]) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"[[1,2,3],null,null,1,[0,0,0,0]]", b"[[],7,7,7,[]]", b"\xff"],
)
def test_what_is_no_half_is_none(body: bytes) -> None:
    assert from_kept([KeptPrediction(service="chat", id="p1", body=body)]) == []
