"""The book of windows: each counts once, whatever arrives twice, late or in another order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.window import Book, merge
from gpuwarden.model.evaluation import Cohort, Lack, Level, Missing, Window

RISK = Cohort(service="risk")
NOW = 1_000_000.0


def window(begin: float, requests: float = 10.0, revision: int = 0, **more: object) -> Window:
    words: dict[str, object] = {
        "cohort": RISK,
        "begin_wall": begin,
        "length_s": 10.0,
        "revision": revision,
        "counts": {"requests": requests},
        **more,
    }
    return Window(**words)  # type: ignore[arg-type]


def total(book: Book, since: float = 0.0) -> float:
    return sum(w.counts["requests"] for w in book.over(RISK, since, NOW + 1e6))


def test_windows_merge_series_by_series() -> None:
    level = Level(total=2.0, count=2, low=0.5, high=1.5, last=1.5)
    later = Level(total=9.0, count=1, low=9.0, high=9.0, last=9.0)
    lack = Lack(series="errors", why=Missing.UNREADABLE)
    first = window(NOW, levels={"in_flight": level}, lacks=(lack,), dropped=1)
    second = window(
        NOW + 10,
        levels={"in_flight": later},
        sketches={"latency_s": sketches.of([1.0])},
        lacks=(lack,),
        dropped=2,
    )
    merged = merge([second, first])
    assert merged is not None
    assert (merged.begin_wall, merged.length_s, merged.dropped) == (NOW, 20.0, 3)
    assert merged.counts == {"requests": 20.0}
    assert merged.levels["in_flight"] == Level(total=11.0, count=3, low=0.5, high=9.0, last=9.0)
    assert merged.lacks == (lack,)
    assert merged.sketches["latency_s"].total == 1.0
    assert merge([]) is None


def test_a_window_counts_once_and_a_revision_takes_its_place() -> None:
    book = Book()
    assert book.put("a", window(NOW, 10), NOW)
    assert not book.put("a", window(NOW, 99), NOW)
    assert book.put("b", window(NOW, 5), NOW)
    assert total(book) == 15
    assert book.put("a", window(NOW, 12, revision=1), NOW)
    assert not book.put("a", window(NOW, 10, revision=0), NOW)
    assert total(book) == 17


def test_windows_of_a_minute_become_one_and_what_comes_again_is_not_counted_again() -> None:
    book = Book(settle_s=60)
    start = NOW // 60 * 60
    for begin in range(0, 300, 10):
        book.put("a", window(start + begin), start + begin)
    assert total(book) == 300
    book.settle(start + 300)
    assert total(book) == 300
    assert len(book.over(RISK, 0, NOW * 2)) < 20
    for begin in range(0, 300, 10):
        book.put("a", window(start + begin), start + 300)
        book.put("a", window(start + begin, revision=0), start + 300)
    assert total(book) == 300
    assert book.late > 0


def test_what_is_too_old_or_from_the_future_is_not_taken() -> None:
    book = Book(keep_s=600)
    assert not book.put("a", window(NOW - 700), NOW)
    assert not book.put("a", window(NOW + 120), NOW)
    assert book.put("a", window(NOW + 30), NOW)
    assert book.late == 2


def test_the_book_is_bounded_in_windows_and_in_time() -> None:
    book = Book(windows_max=100, keep_s=600)
    for begin in range(0, 5000, 10):
        book.put("a", window(NOW + begin), NOW + begin)
    assert book.dropped > 0
    assert len(book.over(RISK, 0, NOW * 2)) <= 100
    book.settle(NOW + 10_000)
    assert not book.over(RISK, 0, NOW * 2)
    assert not book.cohorts()


@given(st.randoms(), st.integers(1, 4), st.integers(1, 12))
def test_any_order_and_any_repetition_give_the_same(
    chance: random.Random, nodes: int, windows: int
) -> None:
    start = NOW // 60 * 60
    sent = [
        (f"n{node}", window(start + 10 * number, requests=node + 1.0))
        for node in range(nodes)
        for number in range(windows)
    ]
    arrives = [*sent, *chance.choices(sent, k=len(sent))]
    chance.shuffle(arrives)
    book = Book()
    for node, each in arrives:
        book.put(node, each, start + 100)
    assert total(book) == sum(node + 1 for node in range(nodes)) * windows


def test_two_hundred_nodes_and_the_one_in_forty_that_is_bad() -> None:
    chance, book, all_values = random.Random(7), Book(), []
    for node in range(200):
        slow = 5.0 if node % 40 == 0 else 1.0
        values = [slow * 0.08 * chance.lognormvariate(0, 0.3) for _ in range(50)]
        all_values += values
        book.put(
            f"n{node}", window(NOW, len(values), sketches={"latency_s": sketches.of(values)}), NOW
        )
    (merged,) = book.over(RISK, 0, NOW * 2)
    got = sketches.quantile(merged.sketches["latency_s"], 0.99)
    assert got == pytest.approx(sorted(all_values)[int(0.99 * (len(all_values) - 1))], rel=0.011)
    assert merged.counts["requests"] == 10_000
