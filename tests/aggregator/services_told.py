"""What nodes tell of a service, and an aggregator's services on a clock of the test's own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpuwarden.aggregator.arrivals import Arrival
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.picture import Bounds, Picture
from gpuwarden.aggregator.services import Services
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.aggregator.window_relay import WindowRelay
from gpuwarden.clock import SystemClock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.config_guardrails import pack
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.evaluation import Cohort, Level, Window
from gpuwarden.wire.convert_window import to_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

WALL = 1_700_000_000.0
LENGTH_S = 10.0
CHAT = Cohort(service="chat", version="v1")
WHOLE = Cohort(service="chat")


def latencies(median_s: float, many: int, seed: int) -> list[float]:
    """Lognormal, as those of services are."""
    chance = random.Random(seed)
    return [median_s * chance.lognormvariate(0.0, 0.4) for _ in range(many)]


def window(
    begin: float = WALL,
    values: Iterable[float] = (),
    cohort: Cohort = CHAT,
    *,
    counts: dict[str, float] | None = None,
    levels: dict[str, float] | None = None,
    revision: int = 0,
) -> Window:
    told = list(values)
    numbers = {"requests": float(len(told)), "errors": 0.0, **(counts or {})}
    return Window(
        cohort=cohort,
        begin_wall=begin,
        length_s=LENGTH_S,
        revision=revision,
        counts=numbers,
        levels={name: level(value) for name, value in (levels or {}).items()},
        sketches={"latency_s": sketch.of(told)} if told else {},
    )


def level(value: float) -> Level:
    return Level(total=value * 10, count=10, low=value, high=value, last=value)


def message(told: Window, sequence: int = 1, **more: Any) -> pb.ServiceWindow:
    made = to_window(told)
    made.sequence = sequence
    made.tenant = more.get("tenant", "")
    made.devices.extend(more.get("devices", ()))
    return made


class TestClock:
    """Both times move together."""

    __test__ = False

    def __init__(self, wall: float = WALL) -> None:
        self.at = wall

    def now(self) -> float:
        return self.at - WALL + 1000.0

    def wall(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Bench:
    """Services with a store, driven pass by pass."""

    def __init__(
        self, store: Store, name: str = "life-1", beside: Bench | None = None, **sections: Any
    ) -> None:
        """``beside``: another on the same store."""
        self.cfg = AggregatorConfig.model_validate(sections)
        self.clock: Any = TestClock()
        self.store = store
        self.committer: Committer = beside.committer if beside is not None else _committer(store)
        self.epoch = self.committer.do(lambda s: s.next_epoch()).result(10)
        self.is_leader = True
        said = self.cfg.evaluation
        self.picture = Picture(
            Bounds(
                cohorts_max=said.cohorts_max,
                fine_bytes=said.fine_mib * 2**20,
                archive_bytes=said.archive_mib * 2**20,
                keep_s=said.keep_s,
            )
        )
        relay = WindowRelay(store, self.committer, self.picture, name, self.lead, is_shared=True)
        self.services = Services(
            said, pack(self.cfg.guardrail), self.picture, relay, self.clock, self.lead
        )
        self.acks: list[tuple[str, int, int]] = []
        self.services.taken = lambda *told: self.acks.append(told)

    def lead(self) -> Lead:
        return Lead(epoch=self.epoch, is_ours=self.is_leader)

    def tell(
        self, node: str, *windows: pb.ServiceWindow, verdicts: Sequence[pb.GuardrailVerdict] = ()
    ) -> None:
        self.services.hear(
            Arrival(node=node, stream=1, windows=windows, verdicts=tuple(verdicts), size=1000)
        )

    def until(self, wall: float, step_s: float = 1.0) -> None:
        """Passes until then."""
        while self.clock.at < wall:
            self.clock.at = min(wall, self.clock.at + step_s)
            self.services.look()

    def colour(self, guardrail: str, cohort: Cohort = WHOLE) -> str:
        line = self.services.lines.get((guardrail, cohort))
        return "none" if line is None else line.verdict.colour.value

    def close(self) -> None:
        self.committer.stop()


def _committer(store: Store) -> Committer:
    made = Committer(
        store,
        SystemClock(),
        linger_s=0.001,
        queue_max=1000,
        on_committed=lambda entries: None,
        on_failed=lambda entries, why: None,
    )
    made.start()
    return made


@contextmanager
def bench(folder: Path, **sections: Any) -> Iterator[Bench]:
    store = SqliteStore(folder / "x.sqlite")
    made = Bench(store, **sections)
    try:
        yield made
    finally:
        made.close()
        store.close()
