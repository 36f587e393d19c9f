"""Windows of the last hours: coarser with age, each count once, within bounded memory."""

from __future__ import annotations

from dataclasses import replace

from gpuwarden.aggregator.archive import MINUTE_S, MINUTES_KEPT_S, QUARTER_S, Archive
from gpuwarden.model.evaluation import Cohort
from tests.aggregator.services_told import CHAT, latencies, window

DAY = 86_400.0
BEGIN = 1_700_000_100.0 // QUARTER_S * QUARTER_S


def minutes(archive: Archive, many: int, cohort: Cohort = CHAT) -> None:
    for n in range(many):
        made = window(BEGIN + n * MINUTE_S, [0.1, 0.2], cohort)
        archive.put(replace(made, length_s=MINUTE_S))


def requests(archive: Archive, since: float = 0.0) -> float:
    return sum(w.counts["requests"] for w in archive.over(CHAT, since, 1e12, None))


def test_minutes_become_quarters_and_lose_nothing() -> None:
    archive = Archive(keep_s=DAY, max_bytes=2**20)
    minutes(archive, 40)
    assert requests(archive) == 80
    made = archive.age(BEGIN + QUARTER_S + MINUTES_KEPT_S)
    assert [(w.begin_wall - BEGIN, w.length_s) for _, w in made] == [(0.0, QUARTER_S)]
    assert len(archive.over(CHAT, 0.0, 1e12, None)) == 26
    assert requests(archive) == 80
    assert archive.age(BEGIN + QUARTER_S + MINUTES_KEPT_S) == []
    archive.age(BEGIN + 4 * QUARTER_S + MINUTES_KEPT_S)
    assert [w.length_s for w in archive.over(CHAT, 0.0, 1e12, None)] == [QUARTER_S] * 3
    assert requests(archive) == 80


def test_what_is_too_old_is_forgotten() -> None:
    archive = Archive(keep_s=DAY, max_bytes=2**20)
    minutes(archive, 10)
    archive.age(BEGIN + DAY + 5 * MINUTE_S)
    archive.age(BEGIN + DAY + QUARTER_S + 1)
    assert list(archive.cohorts()) == []
    assert archive.bytes == 0


def test_only_the_series_that_are_wanted_are_read() -> None:
    archive = Archive(keep_s=DAY, max_bytes=2**20)
    minutes(archive, 1)
    (found,) = archive.over(CHAT, BEGIN, BEGIN + 1, {"errors"})
    assert (dict(found.counts), dict(found.sketches)) == ({"errors": 0.0}, {})
    assert archive.over(CHAT, BEGIN + 1, 1e12, None) == []


def test_a_second_window_of_a_span_is_added() -> None:
    archive = Archive(keep_s=DAY, max_bytes=2**20)
    minutes(archive, 1)
    minutes(archive, 1)
    assert requests(archive) == 4
    archive.load(CHAT, BEGIN, MINUTE_S, b"")  # it is here already
    assert requests(archive) == 4


def test_what_does_not_fit_goes_the_oldest_first_of_all() -> None:
    archive = Archive(keep_s=DAY, max_bytes=20_000)
    for n in range(60):
        for name in ("chat", "ocr"):
            made = window(BEGIN + n * MINUTE_S, latencies(0.1, 300, n), Cohort(service=name))
            archive.put(replace(made, length_s=MINUTE_S))
    archive.age(BEGIN + 60 * MINUTE_S)
    assert archive.bytes <= 20_000
    kept = [w.begin_wall for w in archive.over(Cohort(service="chat"), 0.0, 1e12, None)]
    assert kept[-1] == BEGIN + 59 * MINUTE_S
    assert len(kept) + archive.dropped >= 60
    assert archive.dropped > 0
