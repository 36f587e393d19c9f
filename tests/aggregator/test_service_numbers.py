"""What rollouts are told of services: a word, a cause, counts of both arms, the weather."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuwarden.aggregator.service_causes import Causes
from gpuwarden.aggregator.service_numbers import ServiceNumbers
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.ramp import Word
from tests.aggregator.services_told import WALL, Bench, bench, latencies, message, window

BASE = Cohort(service="chat", version="v1", arm="base")
NEW = Cohort(service="chat", version="v2", arm="new")


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def numbers(it: Bench, connected: frozenset[str] = frozenset({"n1", "n2"})) -> ServiceNumbers:
    causes = Causes(it.services, it.store, it.clock, lambda: connected)
    return ServiceNumbers(it.services, causes, it.clock)


def meanwhile(it: Bench, ask: Callable[[], object]) -> object:
    """The answer to something that waits for the services' next pass."""
    found: list[object] = []
    asking = threading.Thread(target=lambda: found.append(ask()))
    asking.start()
    while asking.is_alive():
        it.services.look()
        asking.join(0.01)
    return found[0]


def test_a_version_is_green_red_or_unknown(it: Bench) -> None:
    told = numbers(it)
    assert told.word("chat", "v2", "new")[0] is Word.UNKNOWN
    it.tell("n1", message(window(values=latencies(0.05, 500, 1), cohort=BASE)))
    it.tell("n2", message(window(values=[3.0] * 100, cohort=NEW)))
    it.until(WALL + 15)
    assert told.word("chat", "v1", "base")[0] is Word.GREEN
    word, why = told.word("chat", "v2", "new")
    assert word is Word.RED
    assert "latency-p99" in why
    assert told.word("chat", "v3", "")[0] is Word.UNKNOWN


def test_a_warning_goes_on_with_nothing_and_undoes_nothing(it: Bench) -> None:
    queue = {"queue_length": 500.0}
    it.tell("n1", message(window(values=latencies(0.05, 500, 1), cohort=BASE)))
    for n in range(9):
        begin = WALL - 80 + n * 10
        it.tell("n2", message(window(begin, [0.05] * 100, NEW, levels=queue), n + 1))
    it.until(WALL + 70)
    word, why = numbers(it).word("chat", "v2", "new")
    assert word is Word.UNKNOWN
    assert "queue-length" in why


def test_the_cause_is_looked_for_where_it_is_red(it: Bench) -> None:
    it.tell("n1", message(window(values=latencies(0.05, 500, 1), cohort=BASE)))
    it.tell("n2", message(window(values=[3.0] * 100, cohort=NEW)))
    it.until(WALL + 15)
    found = meanwhile(it, lambda: numbers(it).cause("chat", "v2"))
    assert found.is_gpu is False  # type: ignore[attr-defined]
    deaf = numbers(it, frozenset())
    found = meanwhile(it, lambda: deaf.cause("chat", "v2"))
    assert found.is_gpu is None  # type: ignore[attr-defined]
    assert numbers(it).cause("chat", "v1").is_gpu is None


def test_periods_are_whole_and_of_each_arm(it: Bench) -> None:
    for n in range(3):
        begin = WALL - 30 + n * 10
        it.tell("n1", message(window(begin, [0.1] * 90, BASE), 2 * n + 1))
        it.tell("n2", message(window(begin, [0.2] * 10, NEW, counts={"errors": 1}), 2 * n + 2))
        it.tell("n2", message(window(begin, [0.2] * 10, NEW), 2 * n + 3))
    it.services.look()
    found = meanwhile(it, lambda: numbers(it).periods("chat", WALL - 30, WALL - 5))
    assert [(p.begin_wall - WALL, p.end_wall - WALL) for p in found] == [(-30, -20), (-20, -10)]  # type: ignore[attr-defined]
    arms = found[0].arms  # type: ignore[index]
    assert (arms["base"].units, arms["new"].units, arms["new"].errors) == (90, 10, 1)
    assert arms["new"].total_s == pytest.approx(2.0)
    assert arms["new"].square_s == pytest.approx(10 * 0.04, rel=0.02)


def test_the_weather_is_of_all_services(it: Bench) -> None:
    assert numbers(it).weather(1.0).rate is None
    it.tell("n1", message(window(values=[0.05] * 100)))
    it.tell("n1", message(window(values=[3.0] * 50, cohort=Cohort(service="ocr")), 2))
    it.until(WALL + 15)
    found = numbers(it).weather(1.0)
    assert found.rate == pytest.approx(15.0)
    assert (found.red, found.services) == (1, 2)
