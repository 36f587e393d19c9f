"""The aggregator is killed while nodes send events; afterwards its file is compared with what it acknowledged.

Every node numbers its events and sends again what was not acknowledged, as the uplink does. Each event makes
one change to one incident, so that an event that had its effect twice shows in the incident's count.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME
from gpuwarden.clock import SystemClock
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.incident.daemon import free_port, with_our_code
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetServiceStub
from tests.aggregator.centre import event, incident, sample

READY_S = 30.0
INCIDENTS = 5
BATCH = 7
LIFE_S = (0.1, 0.6)
"""How long an aggregator lives after it has begun to listen."""


@dataclass(slots=True)
class Tally:
    """What the file holds, against what was acknowledged."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    resent: int = 0
    """Events that were sent again: that there are some shows that the kills hit."""
    broken: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return not (self.lost or self.doubled or self.broken) and self.acknowledged > 0

    def as_json(self) -> dict[str, Any]:
        return {
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "resent": self.resent,
            "lost": self.lost,
            "doubled": self.doubled,
            "broken": self.broken,
        }


class Sender:
    """A node that has events without end, on a thread of its own."""

    def __init__(self, name: str, authority: Authority, *addresses: str) -> None:
        own = authority.credentials(
            Identity(role=Role.NODE, name=name), ttl_s=86_400, wall=SystemClock().wall()
        )
        self.name = name
        self._credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        self._addresses = addresses
        self._place = 0
        self._stop = threading.Event()
        self._acked = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.upto = 0
        """The highest number that an aggregator said is committed."""
        self.sent = 0
        self.resent = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        with self._acked:
            self._acked.notify_all()
        self._thread.join(READY_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._converse()
            except grpc.RpcError:
                self._place += 1
                self._stop.wait(0.05)

    def _converse(self) -> None:
        over = threading.Event()
        options = (
            ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
            ("grpc.max_reconnect_backoff_ms", 100),
            ("grpc.initial_reconnect_backoff_ms", 50),
        )
        address = self._addresses[self._place % len(self._addresses)]
        with grpc.secure_channel(address, self._credentials, options) as channel:
            call: Any = FleetServiceStub(channel).Attend(self._requests(over))
            self.begun(address, call)
            try:
                for response in call:
                    self.heard(response)
                    with self._acked:
                        self.upto = max(self.upto, response.ack.events_upto)
                        self._acked.notify_all()
                    if self._stop.is_set():
                        return
            finally:
                over.set()
                call.cancel()

    def begun(self, address: str, call: Any) -> None:
        """For those who want to know: a stream to there has begun."""

    def heard(self, response: pb.AttendResponse) -> None:
        """For those who want to know: this came."""

    def hello(self) -> pb.Hello:
        return pb.Hello(schema_version=1, node=self.name, boot_id="b", log_id="log")

    def event(self, number: int) -> pb.FleetEvent:
        """The same for a number, whenever it is sent."""
        which = f"inc-{number % INCIDENTS}"
        return event(number, incident(which, summary=f"change {number}"))

    def is_change(self, number: int) -> bool:
        """Whether that event changes an incident."""
        return True

    def asks(self) -> list[pb.PermitAsk]:
        return []

    def _requests(self, over: threading.Event) -> Any:
        yield pb.AttendRequest(hello=self.hello())
        number, samples = self.upto, 0
        while not over.is_set():
            with self._acked:
                if number - self.upto >= 4 * BATCH:
                    self._acked.wait(0.5)
            if over.is_set() or number - self.upto >= 4 * BATCH:
                continue
            events = []
            for _ in range(BATCH):
                number += 1
                self.resent += number <= self.sent
                events.append(self.event(number))
            self.sent = max(self.sent, number)
            samples += 1
            batch = pb.Batch(events=events, samples=[sample(samples)], asks=self.asks())
            yield pb.AttendRequest(batch=batch)


def play(folder: Path, *, kills: int, nodes: int, seed: int, database: str = "") -> Tally:
    """So many lives of an aggregator on one state folder (or that database of PostgreSQL), each ended by
    SIGKILL."""
    chance, tally = random.Random(seed), Tally()
    address = f"127.0.0.1:{free_port()}"
    config = folder / "aggregator.toml"
    config.write_text(
        f'[aggregator]\nlisten = "{address}"\nmetrics_listen = "none"\nenrol_listen = "127.0.0.1:{free_port()}"\n'
        f'state_dir = "{folder / "state"}"\n'
        + (f'store = "{database}"\n' if database else "")
        + '[ingest]\ncommit_s = "20ms"\nmessages_per_s = 5000\n'
        "messages_burst = 5000\n"
    )
    authority = Authority.open(folder / "state" / "pki", "gpuwarden", SystemClock().wall())
    senders = [Sender(f"n{number}", authority, address) for number in range(nodes)]
    for sender in senders:
        sender.start()
    pause = threading.Event()
    try:
        for _ in range(kills):
            process = started(config, folder / "aggregator.log")
            _until_heard(senders, process)
            pause.wait(chance.uniform(*LIFE_S))
            process.send_signal(signal.SIGKILL)
            process.wait()
            tally.kills += 1
    finally:
        for sender in senders:
            sender.stop()
    with _opened(folder / "state" / "fleet.sqlite", database, tally) as db:
        for sender in senders:
            compare(db, "%s" if database else "?", sender, tally)
    return tally


def started(config: Path, log: Path) -> subprocess.Popen[bytes]:
    import os

    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "gpuwarden", "aggregator", "-c", str(config)],
            env=with_our_code(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def _until_heard(senders: list[Sender], process: subprocess.Popen[bytes]) -> None:
    """Until this life has acknowledged something: a kill before that would prove little."""
    before, waited = sum(s.upto for s in senders), threading.Event()
    for _ in range(int(READY_S / 0.02)):
        if sum(s.upto for s in senders) > before:
            return
        if process.poll() is not None:
            raise AssertionError(f"the aggregator ended with status {process.returncode}")
        waited.wait(0.02)
    process.kill()
    raise AssertionError(f"nothing was acknowledged within {READY_S:g} s")


@contextmanager
def _opened(path: Path, database: str, tally: Tally) -> Iterator[Any]:
    if database:
        with psycopg.connect(database) as db:
            yield db
        return
    with closing(sqlite3.connect(path)) as kept:
        if kept.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            tally.broken.append(f"{path}: not whole")
        yield kept


def compare(db: Any, mark: str, sender: Sender, tally: Tally) -> None:
    mine = f"FROM event WHERE node={mark}", f"FROM incident WHERE node={mark}"
    rows = [row[0] for row in db.execute(f"SELECT sequence {mine[0]}", (sender.name,))]
    kept = set(rows)
    changes = dict(db.execute(f"SELECT id, changes {mine[1]}", (sender.name,)).fetchall())
    tally.acknowledged += sender.upto
    tally.resent += sender.resent
    tally.lost += len(set(range(1, sender.upto + 1)) - kept)
    tally.doubled += len(rows) - len(kept)
    for number in range(INCIDENTS):
        expected = sum(1 for n in kept if n % INCIDENTS == number and sender.is_change(n))
        tally.doubled += abs(changes.get(f"inc-{number}", 0) - expected)
