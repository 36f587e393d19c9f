"""Predictions for people in every store there is: within their bytes, each decided once, the rare segments kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_reviews import Decision, KeptLabel, KeptReview
from gpuwarden.aggregator.store_sqlite import SqliteStore
from tests.aggregator.databases import database

WALL = 1_700_000_000.0
MANY = 10**9


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same store each time it is called."""
    if request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "x.sqlite")
        return
    with database() as url:
        yield lambda: PostgresStore(url)


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Iterator[Store]:
    made = reopen()
    yield made
    made.close()


def kept(name: str, weight: float = 0.5, segment: str = "common", **more: object) -> KeptReview:
    values: dict[str, object] = {"service": "chat", "wall": WALL, "body": b"x" * 100, **more}
    return KeptReview(id=name, weight=weight, segment=segment, **values)  # type: ignore[arg-type]


def put(store: Store, *reviews: KeptReview, bytes_max: int = MANY) -> int:
    with store.transaction():
        return store.put_reviews(reviews, bytes_max)


def page(store: Store, segment: str | None = None, limit: int = 100) -> list[str]:
    return [each.id for each in store.review_page("chat", segment, (1e9, ""), limit)]


def said(name: str, reviewer: str, label: str = "1") -> KeptLabel:
    return KeptLabel(service="chat", id=name, reviewer=reviewer, label=label, wall=WALL)


def keep(store: Store, labels: list[KeptLabel], *decided: Decision) -> set[tuple[str, str]]:
    with store.transaction():
        return store.keep_reviews(labels, decided)


def test_the_highest_rank_first_page_after_page_and_after_a_restart(
    reopen: Callable[[], Store],
) -> None:
    store = reopen()
    put(store, kept("a", 0.1), kept("b", 0.9), kept("c", 0.9), kept("r", 0.5, "rare"))
    put(store, kept("b", 0.0, body=b"another"), kept("z", service="other"))
    store.close()
    again = reopen()
    assert page(again) == ["b", "c", "r", "a"]
    assert page(again, "rare") == ["r"]
    first = again.review_page("chat", None, (1e9, ""), 2)
    rest = again.review_page("chat", None, (first[-1].weight, first[-1].id), 9)
    assert [each.id for each in rest] == ["r", "a"]
    assert first[0] == kept("b", 0.9)
    assert again.review_sizes("chat") == (4, 400)
    again.close()


def test_over_the_bound_the_largest_segment_gives_up_its_least_and_is_counted(store: Store) -> None:
    put(store, kept("r1", 0.1, "rare"), kept("r2", 0.2, "rare"))
    many = [kept(f"c{number:03}", number / 100) for number in range(100)]
    assert put(store, *many, bytes_max=1000) == 92
    assert page(store, "rare") == ["r2", "r1"]
    assert page(store, "common") == [f"c{number:03}" for number in range(99, 91, -1)]


def test_what_is_decided_gives_way_before_what_waits_and_is_no_loss(store: Store) -> None:
    put(store, *(kept(f"c{number}", number / 10) for number in range(10)))
    keep(store, [said("c9", "ann")], Decision(service="chat", id="c9"))
    assert put(store, kept("new", 0.05), bytes_max=1000) == 0
    assert store.reviews_named("chat", ["c9"]) == []
    assert store.review_labels("chat", ["c9"]) == []
    assert page(store)[-1] == "c0"


def test_one_is_decided_once_and_the_first_word_of_a_person_stands(store: Store) -> None:
    put(store, kept("a"), kept("b"))
    decision = Decision(service="chat", id="a")
    assert keep(store, [said("a", "ann", "1")], decision) == {("chat", "a")}
    assert keep(store, [said("a", "ann", "0"), said("a", "bea", "1")], decision) == set()
    assert [(s.reviewer, s.label) for s in store.review_labels("chat", ["a", "b"])] == [
        ("ann", "1"),
        ("bea", "1"),
    ]
    assert page(store) == ["b"]
    keep(store, [], Decision(service="chat", id="a", gold="1"))
    (known,) = store.reviews_named("chat", ["a", "none"])
    assert (known.state, known.gold) == ("decided", "1")


def test_what_is_old_goes_with_its_words(store: Store) -> None:
    put(store, kept("old", wall=WALL - 100), kept("new"))
    keep(store, [said("old", "ann"), said("new", "ann")])
    with store.transaction():
        store.prune(WALL - 50)
    assert page(store) == ["new"]
    assert store.review_labels("chat", ["new", "old"]) == [said("new", "ann")]
