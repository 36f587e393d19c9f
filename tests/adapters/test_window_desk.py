"""What is seen of services becomes windows of ten seconds, and verdicts each second."""

from dataclasses import replace

import pytest

from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.adapters.window_desk import NodeWindowDesk
from gpuwarden.adapters.window_spool import WindowSpool
from gpuwarden.config_guardrails import pack
from gpuwarden.errors import Unavailable
from gpuwarden.evaluate.fast.tally import Tally
from gpuwarden.model.evaluation import Cohort, Colour, Missing, Verdict, Window
from gpuwarden.model.health import DeviceHealth, Vitals
from gpuwarden.model.ids import TenantId
from gpuwarden.model.service import Fitness
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Use
from gpuwarden.sim.node.clock import SimClock
from gpuwarden.wire.convert_window import of_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from tests.sample_view import view as sample_view

RISK = Cohort(service="risk", version="7", arm="canary")


class Pictures(ViewSource):
    """A picture, or none yet."""

    def __init__(self) -> None:
        self.now: View | None = None

    def view(self) -> View:
        if self.now is None:
            raise Unavailable("not yet")
        return self.now

    def fitness(self, name: str, now: float) -> Fitness | None:
        return None

    def wait_newer(self, serial: int, timeout_s: float) -> View | None:
        return self.now


class Scene:
    """A desk whose clock stands where it is told."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.pictures = Pictures()
        self.spool = WindowSpool(0.0)
        self.desk = NodeWindowDesk(
            self.pictures, self.spool, self.clock, pack(()), frozenset({"risk"})
        )
        self.align()

    def align(self) -> None:
        """To the beginning of the first whole window."""
        self.desk.tick()
        self.go(10.0 - self.clock.wall() % 10.0)
        self.desk.tick()

    def go(self, seconds: float) -> None:
        self.clock.advance(self.clock.now() + seconds)

    def page(self, **counts: float) -> None:
        self.desk.page(
            "risk",
            Window(cohort=Cohort(service="risk"), begin_wall=0, length_s=1.0, counts=counts),
            None,
        )

    def windows(self) -> list[Window]:
        return [
            of_window(pb.ServiceWindow.FromString(payload))
            for _, payload in self.spool.take(0, 100, 1 << 20)
        ]

    def view(self) -> View:
        return self.pictures.view()

    def carried(self, vitals: Vitals | None = None) -> None:
        """The picture says who carries the service, and how busy the device is."""
        view = sample_view()
        tenant = view.snapshot.tenants[0]
        device = replace(view.snapshot.devices[0], health=DeviceHealth(vitals=vitals))
        self.pictures.now = replace(
            view,
            at=self.clock.now(),
            snapshot=replace(
                view.snapshot,
                devices=(device,),
                tenants=(replace(tenant, service="risk", version="7", arm="canary"),),
                uses=(Use(tenant=tenant.id, device=device.id, used_bytes=1, listed_at=0.0),),
            ),
        )


def test_ten_seconds_become_a_window_and_none_before_the_first_whole_ten() -> None:
    scene = Scene()
    for _ in range(10):
        scene.page(requests=5.0, errors=0.0)
        scene.go(1.0)
        scene.desk.tick()
    (window,) = scene.windows()
    assert window.begin_wall % 10 == 0
    assert window.length_s == 10.0
    assert window.counts["requests"] == 50.0
    assert window.revision == 0


def test_the_cohort_is_what_the_label_says() -> None:
    scene = Scene()
    scene.carried()
    scene.desk.tick()
    scene.page(requests=5.0)
    scene.go(10.0)
    scene.desk.tick()
    message = pb.ServiceWindow.FromString(scene.spool.take(0, 1, 1 << 20)[0][1])
    assert (message.cohort.version, message.cohort.arm) == ("7", "canary")
    assert message.tenant
    assert list(message.devices)
    assert scene.desk.service_of(TenantId(message.tenant)) == "risk"
    assert scene.desk.service_of("docker:other") is None


def test_red_is_said_in_the_same_second_with_the_numbers_it_stands_on() -> None:
    scene = Scene()
    for _ in range(3):
        scene.page(requests=100.0, errors=0.0)
        scene.go(1.0)
        scene.desk.tick()
    assert {v.guardrail: v.colour for v in scene.desk.verdicts()}["error-rate"] is Colour.GREEN
    scene.page(requests=100.0, errors=90.0)
    scene.go(1.0)
    scene.desk.tick()
    (red,) = [v for v in scene.desk.verdicts() if v.colour is Colour.RED]
    assert red.guardrail == "error-rate"
    assert red.value == pytest.approx(0.225)
    assert red.since_wall == pytest.approx(scene.clock.wall())
    (early,) = scene.windows()
    scene.go(10.0)
    scene.desk.tick()
    last = scene.windows()[-1]
    assert (early.begin_wall, early.revision) == (last.begin_wall, 0)
    assert last.revision == 1
    assert last.counts["errors"] == 90.0


def test_a_service_with_an_objective_is_not_judged_twice_on_its_latency() -> None:
    scene = Scene()
    told = Tally()
    for _ in range(50):
        told.value("latency_s", 3.0)
    for _ in range(5):
        scene.desk.observe(Cohort(service="risk"), told)
        scene.desk.observe(Cohort(service="other"), told)
        scene.go(1.0)
        scene.desk.tick()
    judged = {
        (v.cohort.service, v.colour) for v in scene.desk.verdicts() if v.guardrail == "latency-p99"
    }
    assert judged == {("other", Colour.RED)}


def test_the_objectives_word_goes_on_with_the_walls_time() -> None:
    scene = Scene()
    verdict = Verdict(
        guardrail="objective",
        cohort=Cohort(service="risk"),
        colour=Colour.RED,
        since_wall=scene.clock.now(),
        at_wall=scene.clock.now(),
    )
    window = Window(cohort=Cohort(service="risk"), begin_wall=0, length_s=1, counts={"requests": 1})
    scene.desk.page("risk", window, verdict)
    scene.desk.tick()
    (told,) = [v for v in scene.desk.verdicts() if v.guardrail == "objective"]
    assert told.since_wall == pytest.approx(scene.clock.wall())


def test_a_page_that_cannot_be_read_is_said() -> None:
    scene = Scene()
    scene.desk.unread("risk", "no answer within 1 s")
    scene.go(10.0)
    scene.desk.tick()
    (window,) = scene.windows()
    assert [(lack.why, lack.detail) for lack in window.lacks] == [
        (Missing.UNREADABLE, "no answer within 1 s")
    ]


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    scene = Scene()
    scene.clock.set_wall(-3600.0)
    scene.desk.tick()
    scene.page(requests=5.0)
    scene.go(10.0)
    scene.desk.tick()
    assert scene.windows()[-1].counts == {"requests": 5.0}


def test_cohorts_are_bounded_and_what_is_lost_is_counted() -> None:
    scene = Scene()
    told = Tally()
    told.count("requests")
    for number in range(400):
        scene.desk.observe(Cohort(service="risk", segment=f"s{number}"), told)
    assert scene.desk.overflow == 400 - 256


def test_how_busy_its_devices_are_is_a_level_while_that_is_fresh() -> None:
    scene = Scene()
    vitals = Vitals(at=scene.clock.now(), utilization_ratio=0.12, clock_event_mask=0x40)
    scene.carried(vitals)
    for _ in range(40):
        scene.go(1.0)
        scene.pictures.now = replace(scene.view(), at=scene.clock.now())
        scene.desk.tick()
    found = scene.windows()
    assert found[0].levels["gpu_utilization"].high == 0.12
    assert found[0].levels["gpu_throttled"].last == 1.0
    assert len(found) == 2  # of the last ten seconds nothing is known, and nothing is said
