"""What befalls the fleet, handed to on-call: once, again until it is taken, and not again after a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gpuwarden.aggregator.oncall import FleetOncall, remembered
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import GpuwardenError, Unavailable, Unsupported
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Delivery, Notice, Page, Receipt
from gpuwarden.node.notifier import Notifier, Outfit
from gpuwarden.node.sent_log import SentLog
from gpuwarden.policy.fleet.decide import FleetDecision, decide
from gpuwarden.policy.fleet.fold import FleetMemory, fold
from gpuwarden.sim.node.clock import SimClock
from tests.policy.fleet_builders import CFG, NOW, WALL, fleet, heard, report, sick


@dataclass
class ListPager:
    """Takes pages, or says what stands in ``fails``."""

    fails: GpuwardenError | None = None
    pages: list[Page] = field(default_factory=list)
    told: list[Incident] = field(default_factory=list)

    def send(self, page: Page) -> None:
        if self.fails is not None:
            raise self.fails
        self.pages.append(page)

    def follow(
        self,
        incidents: Sequence[Incident],
        subjects: Mapping[IncidentId, str],
        *,
        is_all: bool = False,
    ) -> None:
        self.told += incidents

    def delivered(self) -> Sequence[Delivery]:
        return ()


def storm(memory: FleetMemory, at: float) -> FleetDecision:
    many = [heard(f"n{n}", sick(int(at)), at=at) for n in range(10)]
    return decide(CFG, fold(memory, many), at, WALL + at - NOW, 1)


def test_a_storm_is_one_page() -> None:
    pager = ListPager()
    oncall, memory = FleetOncall(pager), fleet(10)
    for at in range(60):
        decision = storm(memory, NOW + at)
        oncall.tell(decision, NOW + at, WALL + at)
        memory = decision.memory
    (page,) = pager.pages
    assert page.summary.startswith("10 of 10 nodes of group default turned sick at once")
    assert (page.severity, oncall.pages) == ("critical", 1)


@pytest.mark.parametrize(("error", "tries"), [(Unavailable("full"), 1), (Unsupported("none"), 0)])
def test_a_page_that_was_not_taken_is_tried_again(error: GpuwardenError, tries: int) -> None:
    pager = ListPager(fails=error)
    oncall = FleetOncall(pager)
    first = storm(fleet(10), NOW)
    late = storm(first.memory, NOW + CFG.sight.fold_s)
    oncall.tell(late, NOW + 10, WALL)
    pager.fails = None
    oncall.tell(storm(late.memory, NOW + 11), NOW + 11, WALL)
    assert len(pager.pages) == tries


def test_its_end_is_told() -> None:
    pager = ListPager()
    oncall, memory = FleetOncall(pager), storm(fleet(10), NOW).memory
    lifted = NOW + 400 + CFG.sight.over_s
    for at in (NOW + 400, lifted, lifted + CFG.sight.over_s):
        well = [heard(f"n{n}", report(int(at)), at=at) for n in range(10)]
        decision = decide(CFG, replace(fold(memory, well), decided_at=at), at, WALL, 1)
        oncall.tell(decision, at, WALL)
        memory = decision.memory
    assert [incident.closed_at for incident in pager.told] == [
        None,  # paged while it stood
        lifted + CFG.sight.over_s,
    ]


class ListSink:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def deliver(self, notice: Notice) -> Receipt:
        self.notices.append(notice)
        return Receipt()


class Here:
    """Calls to sinks at once, on this thread."""

    def run(self, name: str, call: object) -> None:
        assert callable(call)
        call()


def aggregator(folder: Path, sink: ListSink, clock: SimClock) -> tuple[Notifier, FleetMemory]:
    """A new life on the same disk: its on-call, and what it remembers."""
    cfg = OncallConfig.model_validate({"exec": [{"name": "list", "command": ["/bin/true"]}]})
    outfit = Outfit(cfg=cfg, sinks={"list": sink})
    notifier = Notifier(outfit, SentLog(folder), clock, "centre", Here())
    standing = remembered(notifier.book, clock.now())
    return notifier, replace(fleet(10), incidents=standing)


def test_what_stood_before_a_restart_is_not_told_twice_and_its_end_once(tmp_path: Path) -> None:
    sink, clock = ListSink(), SimClock(NOW)
    for _ in range(3):
        notifier, memory = aggregator(tmp_path, sink, clock)
        oncall = FleetOncall(notifier)
        for _ in range(60):
            clock.advance(clock.now() + 1)
            decision = storm(memory, clock.now())
            oncall.tell(decision, clock.now(), clock.wall())
            memory = decision.memory
            notifier.step()
        notifier.close()
    assert [notice.reason.value for notice in sink.notices] == ["first"]
    notifier, memory = aggregator(tmp_path, sink, clock)
    for _ in range(70):
        clock.advance(clock.now() + 1)
        well = [heard(f"n{n}", report(int(clock.now())), at=clock.now()) for n in range(10)]
        decision = decide(CFG, fold(memory, well), clock.now(), clock.wall(), 1)
        FleetOncall(notifier).tell(decision, clock.now(), clock.wall())
        memory = decision.memory
        notifier.step()
    notifier.close()
    assert [notice.reason.value for notice in sink.notices] == ["first", "resolved"]
    assert sink.notices[0].key == sink.notices[1].key
    assert sink.notices[0].more == "gpuwarden fleet status"
