"""A node's page is sent by the node or by the aggregator: by one of both, under one key, whoever hears whom."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.make import make_sinks
from gpuwarden.adapters.uplink import Uplink
from gpuwarden.clock import SystemClock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book, Matcher, Page, Reason
from gpuwarden.node.notifier import Notifier, Outfit
from gpuwarden.node.page_desk import PageDesk
from gpuwarden.node.sent_log import SentLog
from gpuwarden.policy.notify import people
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node_pb
from tests.adapters.receiver import Receiver, answer
from tests.adapters.test_uplink import Node, eventually
from tests.aggregator.centre import Centre, sample
from tests.aggregator.pairs import leads, pair
from tests.sample_view import open_incident, view

QUICK = {"gather_s": 0.5, "fold_s": 1, "fold_max_s": 2, "over_s": 2}


def hook(receiver: Receiver) -> dict[str, Any]:
    return {"webhook": [{"name": "hook", "url": receiver.url("/"), "timeout_s": 30}]}


class PagingNode(Node):
    """A node that has on-call of its own."""

    def __init__(self, centre: Centre, folder: Path, receiver: Receiver, **settings: Any) -> None:
        super().__init__(centre, folder, **settings)
        clock = SystemClock()
        fleet = {"page_wait_s": 2, "page_told_s": 20, **settings}
        cfg = FleetConfig.model_validate(
            {"aggregator": (centre.address,), "sample_every_s": 0.2, "batch_s": 0.2, **fleet}
        )
        self.pages = PageDesk(cfg, clock, "n1")
        oncall = OncallConfig.model_validate(hook(receiver))
        sinks = make_sinks(oncall, Secrets(os.environ), clock, "host")
        log = SentLog(folder / "oncall")
        self.notifier = Notifier(Outfit(cfg=oncall, sinks=sinks), log, clock, "host")
        self.notifier.hand_over(self.pages)
        self.uplink = Uplink(
            cfg, self.board, self.desk, self.spool, self.certificate, clock, None, self.pages
        )
        self.pages.offer = self.uplink.hand_over

    def start(self) -> None:
        super().start()
        self.notifier.start()
        self.show(view())

    def close(self) -> None:
        super().close()
        self.notifier.close()

    def page(self, name: str = "inc-1") -> None:
        """As the loop does."""
        incident = replace(open_incident(), id=IncidentId(name), opened_wall=SystemClock().wall())
        self.notifier.follow([incident], {})
        self.show(replace(view(), incidents=(incident,)))
        self.notifier.send(
            Page(
                id=f"{name}-page",
                incident=IncidentId(name),
                severity="error",
                summary="a device is lost",
                wall=SystemClock().wall(),
            )
        )

    def over(self, name: str = "inc-1") -> None:
        now = SystemClock().wall()
        incident = replace(
            open_incident(), id=IncidentId(name), closed_at=1.0, closed_wall=now, outcome="well"
        )
        self.notifier.follow([incident], {})
        self.show(replace(view(), incidents=(incident,)))


def told(receiver: Receiver) -> list[tuple[str, str]]:
    said = [request.json() for request in receiver.requests]
    return [(each["key"], each["reason"]) for each in said]


@contextmanager
def fleet(folder: Path, **settings: Any) -> Iterator[tuple[Centre, Receiver, PagingNode, Receiver]]:
    with (
        Receiver() as far,
        Receiver() as near,
        Centre(folder / "centre", sight=QUICK, oncall=hook(far)) as centre,
    ):
        here = PagingNode(centre, folder / "n1", near, **settings)
        here.start()
        try:
            eventually(lambda: here.uplink.connects, "the node is heard")
            yield centre, far, here, near
        finally:
            here.close()


def counters(centre: Centre) -> dict[str, int]:
    return {e.name: e.total for e in centre.query().Status(pb.StatusRequest()).counters}


def test_while_both_hear_each_other_the_centre_alone_tells(tmp_path: Path) -> None:
    with fleet(tmp_path) as (centre, far, here, near):
        here.page()
        far.wait(1)
        eventually(lambda: _relay(here).is_told, "the node knows that somebody was told")
        here.over()
        far.wait(2)
        assert told(far) == [("n1/inc-1", "first"), ("n1/inc-1", "resolved")]
        assert near.requests == []
        first = far.requests[0].json()
        assert (first["host"], first["summary"]) == ("n1", "a device is lost")
        assert (here.pages.handed_over >= 1, here.pages.alone) == (True, 0)
        said = counters(centre)
        assert (said["node_pages_told"], said["node_pages_alone"]) == (1, 0)


def _relay(here: PagingNode) -> Any:
    return here.notifier.book.entries[IncidentId("inc-1")].relay


def test_while_the_centre_is_not_heard_the_node_tells_at_once_under_the_same_key(
    tmp_path: Path,
) -> None:
    with fleet(tmp_path) as (centre, far, here, near):
        centre.stop()
        eventually(lambda: here.uplink.fault, "the node has noticed")
        here.page()
        near.wait(1)
        assert told(near) == [("n1/inc-1", "first")]
        assert here.pages.alone == 1
        again = Centre(
            tmp_path / "centre",
            sight=QUICK,
            oncall=hook(far),
            aggregator={"listen": centre.address},
        )
        with again:
            eventually(lambda: counters(again)["node_pages_alone"] == 1, "it is counted there too")
            here.over()
            near.wait(2)
            assert told(near)[1:] == [("n1/inc-1", "resolved")]
            assert far.requests == []
            assert counters(again)["node_pages_twice"] == 0


def test_a_page_that_was_taken_and_not_told_comes_back_by_its_deadline(tmp_path: Path) -> None:
    with (
        Receiver(usual=answer(500)) as dead,
        Receiver() as near,
        Centre(tmp_path / "centre", sight=QUICK, oncall=hook(dead)) as centre,
    ):
        here = PagingNode(centre, tmp_path / "n1", near, page_told_s=5)
        here.start()
        try:
            eventually(lambda: here.uplink.connects, "the node is heard")
            here.page()
            dead.wait(1)
            near.wait(1)
            assert told(near) == [("n1/inc-1", "first")]
            eventually(lambda: counters(centre)["node_pages_alone"], "the centre knows")
            eventually(lambda: not _keys(centre), "the centre has given it up")
        finally:
            here.close()


def _keys(centre: Centre) -> list[str]:
    return [name for name in centre.parts.store.oncall_lines() if name.startswith("entry n1/")]


def test_a_centre_without_sinks_takes_no_pages(tmp_path: Path) -> None:
    with Receiver() as near, Centre(tmp_path / "centre", sight=QUICK) as centre:
        here = PagingNode(centre, tmp_path / "n1", near)
        here.start()
        try:
            eventually(lambda: here.uplink.connects, "the node is heard")
            here.page()
            near.wait(1)
            assert told(near) == [("n1/inc-1", "first")]
        finally:
            here.close()


def hand_over(number: int, **more: Any) -> pb.FleetEvent:
    word = {
        "page": "p1",
        "incident": "inc-1",
        "severity": "error",
        "summary": "lost",
        "wall": 1.7e9,
    }
    return pb.FleetEvent(sequence=number, wall=1.7e9, page=pb.HandOver(**{**word, **more}))


def test_the_pages_of_a_mass_are_one(tmp_path: Path) -> None:
    lost = pb.DeviceSample(id="GPU-0", sight=node_pb.SIGHT_LOST, total_bytes=2**35)
    finding = pb.FindingSample(
        rule="fault", key="k", severity=node_pb.SEVERITY_CRITICAL, summary="xid 79", fault="lost"
    )
    with (
        Receiver() as far,
        Centre(tmp_path / "centre", sight={**QUICK, "gather_s": 3}, oncall=hook(far)) as centre,
    ):
        lines = [centre.line(f"n{n}") for n in range(8)]
        for line in lines:
            line.batch(samples=[sample()])
        for line in lines[:5]:
            line.batch(samples=[sample(2, devices=[lost], findings=[finding])])
            line.batch(events=[hand_over(1)])
        eventually(lambda: counters(centre)["node_pages_folded"] == 5, "all are folded")
        far.wait(1)
        heard = [word for line in lines[:5] for word in _words(line)]
        assert heard == ["p1"] * 5
        keys = [key for key, _ in told(far)]
        assert [key for key in keys if "/fleet-mass-default-" in key] == keys[:1]
        assert not any(key.startswith("n") for key in keys)
        summary = far.requests[0].json()["summary"]
        assert summary.startswith("5 of 8 nodes of group default turned sick at once")
        for line in lines:
            line.close()


def _words(line: Any) -> list[str]:
    """Until it is said that people were told."""
    while not (found := [w.page for d in line.directives for w in d.pages if w.is_told]):
        line.next()
    return found


@pytest.mark.parametrize("severity", ["", "loud"])
def test_what_is_no_page_is_refused_by_itself(tmp_path: Path, severity: str) -> None:
    with Receiver() as far, Centre(tmp_path / "c", sight=QUICK, oncall=hook(far)) as centre:
        line = centre.line("n1")
        line.batch(events=[hand_over(1, severity=severity), hand_over(2, incident="inc-2")])
        line.until_acked(2)
        far.wait(1)
        assert [key for key, _ in told(far)] == ["n1/inc-2"]
        line.close()


@pytest.mark.postgres
@pytest.mark.timeout(120)
def test_what_a_follower_takes_the_leader_tells_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with (
        Receiver() as far,
        pair(tmp_path, sight=QUICK, oncall=hook(far)) as (one, two, _),
    ):
        eventually(lambda: two.query().Status(pb.StatusRequest()).leader, "the leader is known")
        line = two.line("n1")
        line.batch(events=[hand_over(1)])
        assert _words(line) == ["p1"]
        assert told(far) == [("n1/inc-1", "first")]
        one.stop()
        eventually(lambda: leads(two), "the second leads")
        line.batch(events=[hand_over(2, page="p2", severity="critical")])
        far.wait(2)
        assert told(far) == [("n1/inc-1", "first"), ("n1/inc-1", "escalated")]
        line.close()


def test_a_certificate_that_is_not_renewed_is_told(tmp_path: Path) -> None:
    with Receiver() as far, Centre(tmp_path / "c", sight=QUICK, oncall=hook(far)) as centre:
        soon = SystemClock().wall() + 600

        def given(store: Any) -> None:
            store.add_certificate("old", "n1", soon - 600)
            store.add_certificate("new", "n1", soon)
            store.add_certificate("fine", "n2", soon + 80_000)

        centre.parts.committer.do(given).result(10)
        assert centre._loop is not None
        asyncio.run_coroutine_threadsafe(centre.parts.expiry.look(), centre._loop).result(10)
        far.wait(1)
        said = far.requests[0].json()
        assert said["severity"] == "warning"
        assert "1 node has not renewed their certificate (0 run out): n1" in said["summary"]


def test_what_is_silenced_on_its_node_after_it_was_told_is_not_told_again_by_the_centre(
    tmp_path: Path,
) -> None:
    with fleet(tmp_path) as (centre, far, here, near):
        here.page()
        far.wait(1)
        notifier = centre.parts.paging.reign.notifier
        assert notifier is not None
        until_wall = SystemClock().wall() + 3600
        here.notifier.change(lambda _cfg, book, wall: silenced(book, wall, until_wall))
        eventually(lambda: _held(centre) is Reason.SILENCED, "the centre holds it back")
        (silence,) = notifier.book.silences.values()
        assert silence.author == "n1"
        assert silence.reason.endswith("of kim: we know")
        assert silence.until_wall == until_wall
        here.notifier.change(lambda _cfg, book, _wall: replace(book, silences={}))
        eventually(lambda: _held(centre) is None, "it counts again")
        assert notifier.book.silences == {}
        assert len(far.requests) == 1
        assert near.requests == []


def silenced(book: Book, wall: float, until_wall: float) -> Book:
    matcher = Matcher(incident=IncidentId("inc-1"))
    fresh, _ = people.silenced(
        book, matcher, author="kim", reason="we know", wall=wall, until_wall=until_wall
    )
    return fresh


def _held(centre: Centre) -> Reason | None:
    notifier = centre.parts.paging.reign.notifier
    return None if notifier is None else notifier.book.entries[IncidentId("n1/inc-1")].held
