"""Anomalies at the aggregator: from windows of nodes to a finding, a claim, and on after a restart."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from math import nan, sin, tau
from pathlib import Path
from typing import TypeVar

import pytest

from gpuwarden.aggregator import anomaly_memories, anomaly_steps
from gpuwarden.aggregator.anomalies import Anomalies
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.errors import Unavailable
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.anomaly import SERIES, Layer
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.model.finding import Severity
from gpuwarden.policy.fleet.odd_history import SLOTS_KEPT, History
from gpuwarden.policy.fleet.odd_peers import DeviceReading
from tests.aggregator.services_told import WALL, Bench, bench, latencies, level, message

Result = TypeVar("Result")
DAY = 96
NEW, OLD = Cohort(service="chat", version="v2"), Cohort(service="chat", version="v1")


class Desk:
    """Services and anomalies on the test's clock, and two nodes that tell of two versions."""

    def __init__(self, it: Bench) -> None:
        self.it = it
        self.sequence = 0
        self.slot = int(WALL // 900)
        self.documents = StoreDocuments(it.store, it.committer)
        self.anomalies = self.made()

    def made(self) -> Anomalies:
        it = self.it

        def ask(job: Callable[[], Result]) -> Result:
            return job()

        def leads() -> bool:
            return it.is_leader

        cfg = it.cfg.anomaly
        return Anomalies(cfg, it.picture, ask, ask, self.documents, it.clock, leads)

    def quarter(self, slower: float = 1.0, service: str = "chat") -> None:
        """One quarter of an hour, of which each version tells ten seconds on a node of its own."""
        usual = 0.2 * (1 + 0.3 * sin(tau * self.slot / DAY)) * slower
        for number, version in enumerate((OLD, NEW)):
            cohort = Cohort(service=service, version=version.version)
            values = latencies(usual, 300, self.slot * 2 + number)
            told = Window(
                cohort=cohort,
                begin_wall=self.slot * 900.0 + 100.0,
                length_s=10.0,
                counts={"requests": 300.0, "errors": float(random.Random(self.slot).randint(1, 5))},
                levels={"gpu_utilization": level(0.5)},
                sketches={"latency_s": sketch.of(values)},
            )
            self.sequence += 1
            self.it.tell(f"n{number}", message(told, self.sequence))
        self.it.clock.at = self.slot * 900.0 + 120.0
        self.it.services.look()
        self.slot += 1

    def look(self) -> None:
        """Once the newest quarter is whole."""
        self.it.clock.at = self.slot * 900.0 + anomaly_steps.SETTLE_S + 1
        self.it.services.look()
        self.anomalies.look()
        assert not self.anomalies.fault

    def quarters(self, many: int) -> None:
        for _ in range(many):
            self.quarter()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with bench(tmp_path) as it:
        yield Desk(it)


def learnt(
    service: str = "chat", upto: int = 0, slots: int = 4 * DAY, noisy: bool = False
) -> History:
    """Days as ``Desk.quarter`` tells them, without the nodes; ``noisy``: the last two quarters are odd."""
    history = History()
    r = random.Random(service)
    upto = upto or int(WALL // 900)
    for slot in range(upto - slots, upto):
        usual = 0.2 * (1 + 0.3 * sin(tau * slot / DAY)) * r.lognormvariate(0, 0.03)
        slow = 3.0 if noisy and slot >= upto - 2 else 1.0
        told = {
            "requests_per_s": 600 / 900,
            "error_ratio": r.randint(2, 10) / 600,
            "latency_p50_s": usual * slow,
            "latency_p95_s": usual * 1.9 * r.lognormvariate(0, 0.03) * slow,
            "gpu_utilization": 0.5,
        }
        history.take(slot, told)
    return history


def keep(desk: Desk, service: str = "chat", **how: object) -> None:
    history = learnt(service, **how)  # type: ignore[arg-type]
    anomaly_memories.write(desk.documents, service, history, desk.it.clock.wall())


def test_from_what_nodes_tell_to_what_people_are_told(desk: Desk) -> None:
    keep(desk, upto=desk.slot, slots=3 * DAY - 3)
    desk.look()
    said = desk.anomalies.view.services["chat"]
    assert (said.days, said.is_learning, said.findings) == (2, True, ())
    desk.quarters(4)
    desk.look()
    said = desk.anomalies.view.services["chat"]
    assert (said.days, said.is_learning) == (3, False)
    assert "latency_p50_s" in said.series
    assert "queue_length" not in said.series  # nobody told it
    assert desk.anomalies.claims() == ()
    for slower in (1.0, 2.0, 2.0):
        desk.quarter(slower)
        desk.look()
    said = desk.anomalies.view.services["chat"]
    points = {each.series: each for each in said.findings if each.layer is Layer.POINT}
    assert set(points) == {"latency_p50_s", "latency_p95_s"}
    finding = points["latency_p50_s"]
    assert finding.since_wall == (desk.slot - 2) * 900.0
    assert finding.value is not None
    assert finding.usual is not None
    assert finding.value / finding.usual == pytest.approx(2, rel=0.15)
    (claim,) = desk.anomalies.claims()
    assert (claim.key, claim.severity) == ("anomaly chat", Severity.WARNING)
    assert "service chat: latency (median)" in claim.summary
    assert "at this hour usually" in claim.summary
    counts = desk.anomalies.counters()
    assert counts["anomaly_findings"] == len(said.findings)
    assert counts["anomaly_findings_begun"] >= 2
    desk.quarters(6)
    desk.look()
    said = desk.anomalies.view.services["chat"]
    assert not [each for each in said.findings if each.layer is Layer.POINT]
    assert "latency_p50_s" in {each.series for each in said.recent}


def test_where_nobody_is_to_be_told_it_is_shown_alone(tmp_path: Path) -> None:
    with bench(tmp_path, anomaly={"then": "ignore"}) as it:
        desk = Desk(it)
        keep(desk, noisy=True)
        desk.look()
        assert desk.anomalies.view.services["chat"].findings
        assert desk.anomalies.claims() == ()


def test_a_quarter_that_may_not_be_whole_waits(desk: Desk) -> None:
    desk.quarter()
    desk.it.clock.at = desk.slot * 900.0 + anomaly_steps.SETTLE_S - 1
    desk.it.services.look()
    desk.anomalies.look()
    assert desk.anomalies.view.services == {}
    desk.look()
    assert "chat" in desk.anomalies.view.services


def test_days_outlive_a_restart_and_what_stood_stands(desk: Desk) -> None:
    keep(desk, upto=desk.slot)
    desk.quarter(3.0)
    desk.look()
    before = desk.anomalies.view.services["chat"]
    assert before.findings
    desk.anomalies.start()
    desk.anomalies.stop()
    desk.quarter(3.0)  # while none looked
    again = desk.anomalies = desk.made()
    desk.look()
    after = again.view.services["chat"]
    assert after.days == before.days
    since = {(each.series, each.layer): each.since_wall for each in before.findings}
    found = {(each.series, each.layer): each for each in after.findings}
    assert found["latency_p50_s", Layer.POINT].since_wall == since["latency_p50_s", Layer.POINT]
    assert found["latency_p50_s", Layer.POINT].wall == desk.slot * 900.0
    kept = desk.it.store.documents(anomaly_memories.KIND)
    assert len(kept) == 1
    past = desk.it.store.document_history(anomaly_memories.KIND, kept[0].key, 100)
    assert [each.revision for each in past] == [2]  # the newest alone


def test_only_the_leader_writes_once_an_hour(desk: Desk) -> None:
    desk.it.is_leader = False
    desk.quarters(3)
    desk.look()
    assert "chat" in desk.anomalies.view.services  # a follower shows its own
    assert desk.it.store.documents(anomaly_memories.KIND) == []
    desk.it.is_leader = True
    for _ in range(5):
        desk.quarter()
        desk.look()
    (kept,) = desk.it.store.documents(anomaly_memories.KIND)
    assert kept.revision == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{]",
        zlib.compress(b"{]"),
        zlib.compress(b'{"format": 9, "service": "x", "upto": 1, "series": {}}'),
        zlib.compress(b'{"format": 1, "service": "x", "upto": 1, "series": {}}'),
        zlib.compress(
            b'{"format": 1, "service": "x", "upto": 9e3,'
            b' "series": {"beauty": {"values": [1], "odd": []}}}'
        ),
        zlib.compress(
            b'{"format": 1, "service": "x", "upto": 9000,'
            b' "series": {"error_ratio": {"values": [1], "odd": [[0, 5]]}}}'
        ),
        zlib.compress(
            b'{"format": 1, "service": "x", "upto": 99999999999,'
            b' "series": {"error_ratio": {"values": [1], "odd": []}}}'
        ),
        zlib.compress(b" " * (anomaly_memories.PLAIN_MAX_BYTES + 1)),
    ],
)
def test_a_memory_that_is_none_is_left_and_counted(desk: Desk, body: bytes) -> None:
    kind = anomaly_memories.KIND
    desk.documents.put(kind, "0", body, who="gpuwarden", wall=WALL, after=0)
    keep(desk, "ocr", upto=desk.slot)
    desk.quarter()
    desk.look()
    assert set(desk.anomalies.view.services) == {"chat", "ocr"}
    assert desk.anomalies.counters()["anomaly_memories_refused"] == 1


def test_a_full_memory_fits_a_document_and_comes_back_as_it_was(desk: Desk) -> None:
    history, r = History(), random.Random(1)
    for slot in range(20_000, 20_000 + SLOTS_KEPT + 500):
        history.take(slot, {name: r.lognormvariate(0, 3) for name in SERIES})
    history.mark("error_ratio", history.first, history.first + 30)
    anomaly_memories.write(desk.documents, "chat", history, WALL)
    (kept,) = desk.it.store.documents(anomaly_memories.KIND)
    assert len(kept.body) < 64 * 1024
    read = anomaly_memories.read(kept.body)
    assert read is not None
    assert read[0] == "chat"
    assert (read[1].upto, len(read[1]), read[1].odd) == (history.upto, SLOTS_KEPT, history.odd)
    assert list(read[1].values["latency_p50_s"]) == pytest.approx(
        list(history.values["latency_p50_s"]), rel=1e-4
    )


def test_services_without_room_are_counted_and_crowd_out_nobody(tmp_path: Path) -> None:
    with bench(tmp_path, anomaly={"services_max": 2}) as it:
        desk = Desk(it)
        for service in ("b", "c", "a"):
            desk.quarter(service=service)
            desk.look()
        assert set(desk.anomalies.view.services) == {"b", "c"}
        assert desk.anomalies.counters()["anomaly_services_crowded"] == 1


def test_a_service_that_is_gone_is_forgotten(desk: Desk) -> None:
    keep(desk, upto=desk.slot)
    desk.look()
    assert set(desk.anomalies.view.services) == {"chat"}
    desk.slot += SLOTS_KEPT + 1
    desk.look()
    assert desk.anomalies.view.services == {}
    assert desk.it.store.documents(anomaly_memories.KIND) == []


def test_services_that_are_busy_are_asked_again(desk: Desk) -> None:
    def busy(job: object) -> dict[str, int]:
        raise Unavailable("the services are busy")

    was, desk.anomalies._ask_names = desk.anomalies._ask_names, busy
    desk.quarter()
    desk.it.clock.at = desk.slot * 900.0 + anomaly_steps.SETTLE_S + 1
    desk.anomalies.look()
    assert desk.anomalies.fault == "the services are busy"
    assert desk.anomalies.counters()["anomaly_failures"] == 1
    desk.anomalies._ask_names = was
    desk.look()
    assert "chat" in desk.anomalies.view.services


def test_a_clock_that_is_set_empties_nothing(desk: Desk) -> None:
    keep(desk, upto=desk.slot)
    desk.look()
    clock, wall = desk.it.clock, desk.it.clock.at
    before = len(desk.anomalies._days["chat"])

    class Set:
        """A year ahead; what is monotonic goes on."""

        def now(self) -> float:
            return float(clock.now())

        def wall(self) -> float:
            return float(clock.wall()) + 365 * 86_400.0

        def sleep(self, seconds: float) -> None:
            clock.sleep(seconds)

    desk.anomalies._clock = Set()
    for _ in range(3):
        clock.at += 900.0
        desk.anomalies.look()
        assert "the clock was set" in desk.anomalies.fault
    desk.anomalies._clock = clock
    desk.anomalies.look()
    assert len(desk.anomalies._days["chat"]) == before
    assert clock.at < wall + 3600.0
    clock.at += 3600.0
    desk.anomalies.look()
    assert desk.anomalies.fault == ""
    assert len(desk.anomalies._days["chat"]) == before + 7


def test_a_clock_that_was_ahead_for_long_costs_what_was_told_meanwhile(desk: Desk) -> None:
    keep(desk, upto=desk.slot)
    desk.look()
    history = desk.anomalies._days["chat"]
    before = history.upto
    for slot in range(before, before + 50):
        history.take(slot, {})
    desk.quarter()
    desk.look()
    assert history.upto == before + 1
    assert desk.anomalies.view.services["chat"].days == 4


def test_days_of_another_whose_clock_was_ahead_are_kept(desk: Desk) -> None:
    keep(desk, upto=desk.slot + 8)
    desk.quarter()
    desk.look()
    assert desk.anomalies.counters()["anomaly_memories_refused"] == 0
    assert desk.anomalies.view.services["chat"].days == 3
    assert desk.anomalies._days["chat"].upto == desk.slot


def test_one_service_takes_no_other_along(desk: Desk) -> None:
    keep(desk, "a", upto=desk.slot)
    keep(desk, "z", upto=desk.slot)
    desk.look()
    desk.anomalies._days["a"].values["error_ratio"].pop()
    desk.anomalies._judges.clear()
    desk.quarter(service="z")
    desk.look()
    assert desk.anomalies.counters()["anomaly_failures"] == 1
    assert desk.anomalies._days["z"].newest_told() == desk.slot - 1


@pytest.mark.parametrize("value", [1e300, -5.0, 1e-300, 0.0])
def test_numbers_that_none_has_are_no_error(desk: Desk, value: float) -> None:
    history = learnt(upto=desk.slot)
    for place in range(0, len(history), 7):
        for name in SERIES:
            history.values[name][place] = value
    anomaly_memories.write(desk.documents, "chat", history, WALL)
    desk.quarter()
    desk.look()
    assert desk.anomalies.counters()["anomaly_failures"] == 0
    assert not desk.anomalies.view.services["chat"].is_learning


def test_new_settings_hold_from_the_next_quarter_on(desk: Desk) -> None:
    keep(desk, upto=desk.slot)
    desk.quarter(3.0)
    desk.look()
    assert desk.anomalies.view.services["chat"].findings
    wide = {"point_sigma": 900.0, "window_sigma": 900.0}
    desk.anomalies.cfg = desk.it.cfg.anomaly.model_copy(update=wide)
    desk.quarter(3.0)
    desk.look()
    assert not desk.anomalies.view.services["chat"].findings


def test_a_gpu_that_is_hot_beside_its_peers_is_told(desk: Desk) -> None:
    def reading(n: int, hot: float) -> DeviceReading:
        return DeviceReading(
            node=f"n{n}",
            group="default",
            work="chat",
            device=f"GPU-{n}",
            index=0,
            model="H100",
            utilization_ratio=0.9,
            temperature_c=60.0 + n % 3 + (hot if n == 5 else 0.0),
            power_w=500.0 + n,
        )

    for hot in (0.0, *[30.0] * 40):
        desk.anomalies.hear([reading(n, hot) for n in range(8)])
        desk.anomalies.look()
    (odd,) = desk.anomalies.view.devices
    assert (odd.node, odd.device, odd.series, odd.count) == ("n5", "GPU-5", "temperature_c", 7)
    (claim,) = desk.anomalies.claims()
    assert (claim.key, claim.severity) == ("gpus unlike their peers", Severity.WARNING)
    assert "node n5 GPU 0 (H100): temperature 92 C, 7 peers at the same work 61 C" in claim.summary
    assert desk.anomalies.counters()["anomaly_devices_odd"] == 1
    assert desk.anomalies.view.devices_compared == 8


def test_what_the_services_are_asked_for_is_in_small_parts() -> None:
    since = dict.fromkeys("abcdef", 7)
    cohorts = {"a": 40, "b": 24, "c": 1, "d": 256, "e": 60}
    parts = [list(part) for part in anomaly_steps.jobs(since, cohorts)]
    assert parts == [["a", "b"], ["c"], ["d"], ["e", "f"]]
    assert anomaly_steps.jobs({}, cohorts) == []


def test_numbers_of_a_quarter() -> None:
    few = Window(
        cohort=OLD,
        begin_wall=900.0,
        length_s=900.0,
        counts={"requests": 45.0, "errors": 9.0},
        sketches={"latency_s": sketch.of([0.1] * 45)},
    )
    told = anomaly_steps.numbers(few)
    assert told["requests_per_s"] == 0.05
    assert {told[name] for name in SERIES if name != "requests_per_s"} == {None}
    late = Window(cohort=OLD, begin_wall=1800.0, length_s=60.0, counts={"requests": 90.0})
    assert anomaly_steps.quarters([few, few, late], newest=1) == {
        1: {**anomaly_steps.numbers(few), "requests_per_s": 0.1, "error_ratio": 0.2,
            "latency_p50_s": pytest.approx(0.1, rel=0.01),
            "latency_p95_s": pytest.approx(0.1, rel=0.01)},
    }  # fmt: skip


def test_a_history_is_bounded_and_knows_its_gaps() -> None:
    history = History()
    for slot in range(5000, 5000 + 2 * DAY):
        assert history.take(slot, {"error_ratio": 0.5, "latency_p50_s": nan})
    assert not history.take(5000, {"error_ratio": 0.1})
    assert (history.days(), history.newest_told()) == (2, 5000 + 2 * DAY - 1)
    history.take(5000 + 4 * DAY - 1, {})
    assert (len(history), history.days(), history.newest_told()) == (4 * DAY, 2, 5000 + 2 * DAY - 1)
    history.take(10**6, {"error_ratio": 0.5})
    assert (len(history), history.upto, history.days()) == (SLOTS_KEPT, 10**6 + 1, 0)
    with pytest.raises(ValueError, match="equal lengths"):
        history.load(9000, {"error_ratio": [1.0]}, {"error_ratio": b""})


def test_what_was_known_is_said_before_the_services_answer(desk: Desk) -> None:
    keep(desk, upto=desk.slot, noisy=True)

    def ill(job: object) -> dict[str, int]:
        raise Unavailable("what was known before is not read")

    desk.anomalies._ask_names = ill
    desk.it.clock.at = desk.slot * 900.0
    desk.anomalies.look()
    assert [claim.key for claim in desk.anomalies.claims()] == ["anomaly chat"]
