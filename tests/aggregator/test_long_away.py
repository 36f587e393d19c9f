"""Case 4: the aggregator is away for four hours. The node's time is the test's; its spool is on disk, and its uplink and
the aggregator it comes back to are real."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters import uplink as uplink_module
from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.adapters.uplink import EVENTS_A_MESSAGE, RING, Uplink
from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.clock import SystemClock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.model.command import Answer, Verb
from gpuwarden.model.decision import Incident
from gpuwarden.model.fleet import Role
from gpuwarden.model.ids import IncidentId
from gpuwarden.node.fleet_desk import NodeFleetDesk
from gpuwarden.sim.node.clock import SimClock
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.adapters.test_uplink import WAIT_S, eventually
from tests.adapters.view_board import Board
from tests.aggregator.centre import Centre
from tests.sample_view import incident, view

AWAY_S = 4 * 3600.0
STEP_S = 30.0
STEPS = int(AWAY_S / STEP_S)
LISTED = 20
"""Incidents that a picture holds."""
SAMPLES_A_BATCH = 10
PAGE_BYTES = 4096
WAL_MAX_BYTES = 1100 * PAGE_BYTES
"""SQLite writes it back into the file after a thousand pages."""


class Node:
    """On the test's clock, with a spool of so many bytes."""

    def __init__(self, centre: Centre, folder: Path, spool_max_bytes: int) -> None:
        self.clock = SimClock()
        self.clock.set_wall(centre.parts.clock.wall() - self.clock.wall())
        own = centre.credentials(Role.NODE, "n1", names=("n1",), ttl_s=10 * AWAY_S)
        write_credentials(folder, own)
        cfg = FleetConfig(
            aggregator=(centre.address,),
            sample_every_s=STEP_S,
            batch_samples=SAMPLES_A_BATCH,
            spool_max_bytes=spool_max_bytes,
        )
        certificate = OwnCertificate(folder, cfg.aggregator, ("/bin/false",))
        self.path = folder / "spool.sqlite"
        self.spool = DiskSpool(self.path, spool_max_bytes)
        self.desk = NodeFleetDesk(cfg, self.clock, "n1", "1.0", self._obey)
        self.board = Board()
        self.uplink = Uplink(cfg, self.board, self.desk, self.spool, certificate, self.clock)
        self.told: list[Incident] = []

    def _obey(self, verb: Verb, subject: str, reason: str, uid: int, timeout_s: float) -> Answer:
        raise AssertionError(verb)

    def step(self) -> None:
        """Half a minute, in which one incident has come and gone; it is written down when this returns."""
        self.clock.advance(self.clock.now() + STEP_S)
        number = len(self.told) + 1
        wall, name = self.clock.wall(), IncidentId(f"inc-{number:04}")
        over = replace(incident(), id=name, steps=(), opened_wall=wall, closed_wall=wall)
        self.told.append(over)
        recent = tuple(reversed(self.told[-LISTED:]))
        self.board.publish(replace(view(), serial=number, incidents=recent, outcomes=()))
        waited, end = threading.Event(), SystemClock().now() + WAIT_S
        while self._written() < number:
            assert SystemClock().now() < end, f"event {number} is not on disk"
            waited.wait(0.002)

    def _written(self) -> int:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name='event'").fetchone()
        return 0 if row is None else int(row[0])

    def disk_bytes(self) -> int:
        return sum(each.stat().st_size for each in self.path.parent.glob("spool.sqlite*"))


@contextmanager
def away_for_four_hours(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spool_max_bytes: int
) -> Iterator[tuple[Node, Centre]]:
    """A node that was in touch, then alone for so long; and the aggregator that has just come back."""
    monkeypatch.setattr(uplink_module, "LOOK_S", 0.0)
    monkeypatch.setattr(uplink_module, "BACKOFF_MAX_S", 1.0)
    with Centre(folder / "centre") as first:
        address = first.address
        node = Node(first, folder / "n1", spool_max_bytes)
        try:
            node.desk.start()
            node.uplink.start()
            node.step()
            eventually(lambda: node.uplink.connects and not node.spool.waiting, "first contact")
            first.stop()
            eventually(lambda: node.uplink.fault, "the break is seen")
            for _ in range(STEPS):
                node.step()
            with Centre(folder / "centre", aggregator={"listen": address}) as second:
                yield node, second
        finally:
            node.uplink.close()
            node.desk.close()
            node.spool.close()


def ids(centre: Centre) -> set[str]:
    return {each.id for each in centre.parts.store.incidents_named("n1", "", 10 * STEPS)}


def effects(centre: Centre) -> int:
    """How many events of the node were kept."""
    rows = centre.parts.store._rows("SELECT count(*) FROM event WHERE node='n1'")  # type: ignore[attr-defined]
    return int(rows[0][0])


def test_case_4_after_four_hours_all_events_arrive_and_samples_are_thinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap = 4 * 2**20
    with away_for_four_hours(tmp_path, monkeypatch, cap) as (node, centre):
        assert node.disk_bytes() <= cap + WAL_MAX_BYTES
        eventually(lambda: len(ids(centre)) == STEPS + 1, "every incident")
        eventually(lambda: node.spool.waiting == 0, "acknowledged")
        assert (effects(centre), node.spool.dropped) == (STEPS + 1, 0)
        eventually(lambda: len(node.uplink._samples) < SAMPLES_A_BATCH, "what was kept of samples")
        assert node.uplink.samples_dropped >= STEPS - 2 * RING
        # Five thousand such nodes are back soon because each has little to say: full messages, thinned samples.
        ideal = STEPS / EVENTS_A_MESSAGE + RING / SAMPLES_A_BATCH
        assert centre.parts.ingest.messages <= 2 * ideal + node.uplink.connects


def test_case_4_beyond_its_bound_the_spool_keeps_the_newest_and_says_what_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap = 16 * 1024
    with away_for_four_hours(tmp_path, monkeypatch, cap) as (node, centre):
        lost = node.spool.dropped
        assert 0 < lost < STEPS
        assert node.disk_bytes() <= 4 * cap + WAL_MAX_BYTES
        newest = {f"inc-{number:04}" for number in range(lost + 2, STEPS + 2)}
        eventually(lambda: newest <= ids(centre), "the newest")
        eventually(lambda: node.spool.waiting == 0, "acknowledged")
        assert effects(centre) == STEPS + 1 - lost
        query = centre.query()
        eventually(lambda: _dropped(query) == lost, "the aggregator is told how many are lost")


def _dropped(query: object) -> int:
    (standing,) = query.Nodes(pb.NodesRequest()).nodes  # type: ignore[attr-defined]
    return int(standing.events_dropped)
