"""Two aggregators on one PostgreSQL under load, killed, paused and cut off, one or the other; then the history is
held against the model."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME
from gpuwarden.clock import SystemClock
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.incident.daemon import free_port
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceStub
from tests.fleet_kills.run import Tally, compare, started
from tests.fleet_pair.history import History, Seen
from tests.fleet_pair.model import Rules, findings
from tests.fleet_pair.uplinks import Node

READY_S = 60.0
RULES = Rules(nodes_in_window=2, window_s=3.0, ttl_s=1.5)
FAULTS = ("kill", "pause", "session", "cut")
PAUSE_S = (6.0, 8.0)
"""Longer than a leader may be silent."""
QUIET_S = (0.5, 1.5)


@dataclass(slots=True)
class Result:
    """What came of it."""

    tally: Tally = field(default_factory=Tally)
    faults: dict[str, int] = field(default_factory=dict)
    leaders: int = 0
    grants: int = 0
    actions: int = 0
    orders: int = 0
    orders_done: int = 0
    streams: int = 0
    stale: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return self.tally.is_well and not self.findings and self.grants > 0

    def as_json(self) -> dict[str, Any]:
        names = (
            "faults",
            "leaders",
            "grants",
            "actions",
            "orders",
            "orders_done",
            "streams",
            "stale",
        )
        said = {name: getattr(self, name) for name in names}
        return {**self.tally.as_json(), **said, "findings": self.findings}


class Aggregator:
    """One of the two: a process, a folder, an address."""

    def __init__(self, folder: Path, database: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder
        folder.mkdir(parents=True)
        self._config = folder / "aggregator.toml"
        self._config.write_text(
            f'[aggregator]\nlisten = "{self.address}"\nmetrics_listen = "none"\nenrol_listen = "127.0.0.1:{free_port()}"\n'
            f'state_dir = "{folder / "state"}"\nstore = "{database}"\n'
            '[ingest]\ncommit_s = "20ms"\nmessages_per_s = 5000\nmessages_burst = 5000\n'
            f'[permit]\nttl_s = "{RULES.ttl_s * 1000:g}ms"\nstanding_ratio = "100%"\n'
            f'cordon = {{ ratio = "100%", most = {RULES.nodes_in_window}, '
            f'window_s = "{RULES.window_s * 1000:g}ms" }}\n'
            '[sight]\ndoubt_min = 10000\n[ask]\norder_s = "6s"\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = started(self._config, self.folder / "log")

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Whatever it is doing, stopped or not."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(READY_S)


class Operator:
    """Gives orders through either, and writes down what it is told."""

    def __init__(
        self, authority: Authority, history: History, aggregators: list[Aggregator], seed: int
    ) -> None:
        own = authority.credentials(
            Identity(role=Role.ADMIN, name="operator"), ttl_s=86_400, wall=SystemClock().wall()
        )
        self._credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        self._history = history
        self._aggregators = aggregators
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)
        self.count = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(READY_S)

    def _run(self) -> None:
        nodes = sorted(self._history.domains)
        while not self._stop.wait(0.3):
            self.count += 1
            order = pb.OrderRequest(
                node=self._chance.choice(nodes),
                verb="cordon",
                subject="GPU-0",
                reason="a test",
                id=f"o{self.count}",
            )
            with suppress(grpc.RpcError):
                text = self._give(self._chance.choice(self._aggregators), order)
                self._history.note(
                    Seen(
                        at=SystemClock().now(),
                        who="operator",
                        what="answer",
                        name=order.id,
                        text=text,
                    )
                )

    def _give(self, aggregator: Aggregator, order: pb.OrderRequest) -> str:
        options = (("grpc.ssl_target_name_override", AGGREGATOR_NAME),)
        with grpc.secure_channel(aggregator.address, self._credentials, options) as channel:
            answer: Any = FleetQueryServiceStub(channel).Order(order, timeout=7.0)
            return str(answer.text)


def play(
    folder: Path,
    database: str,
    *,
    faults: int,
    nodes: int,
    seed: int,
    say: Callable[[str], None],
    other: tuple[str, Callable[[], None]] | None = None,
) -> Result:
    """So many faults, each of one of both; the database has to be empty. ``other``: instead of ours, a fault by
    its name."""
    chance, history, result = random.Random(seed), History(), Result()
    both = [Aggregator(folder / name, database) for name in ("one", "two")]
    authority = Authority.open(both[0].folder / "state" / "pki", "gpuwarden", SystemClock().wall())
    shutil.copytree(both[0].folder / "state" / "pki", both[1].folder / "state" / "pki")
    senders = []
    for number in range(nodes):
        places = [each.address for each in (both if number % 2 else both[::-1])]
        rack = f"r{number // 2}"
        senders.append(Node(f"n{number}", rack, history, authority, *places))
    operator = Operator(authority, history, both, seed)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(senders, over), daemon=True)
    try:
        for aggregator in both:
            aggregator.start()
        for sender in senders:
            sender.start()
        _until_acted(history, 0)
        watcher.start()
        operator.start()
        for number in range(faults):
            # Every kind comes up, in an order that the seed draws.
            kind = FAULTS[number % len(FAULTS)] if number < len(FAULTS) else chance.choice(FAULTS)
            if other is None:
                _hit(kind, chance, both, database)
            else:
                kind, hit = other
                hit()
            result.faults[kind] = result.faults.get(kind, 0) + 1
            say(f"{number + 1} of {faults}: {kind}")
            _until_acted(history, _actions(history))
            over.wait(chance.uniform(*QUIET_S))
    finally:
        over.set()
        operator.stop()
        for sender in senders:
            sender.stop()
        for aggregator in both:
            aggregator.kill()
    _judge(history, senders, database, result)
    result.orders = operator.count
    history.write(folder / "history.jsonl")
    return result


def _watch(senders: list[Node], over: threading.Event) -> None:
    while not over.wait(0.2):
        for sender in senders:
            sender.look()


def _hit(kind: str, chance: random.Random, both: list[Aggregator], database: str) -> None:
    """One fault; at its end both run."""
    wait, victim = threading.Event(), _victim(chance, both, database)
    if kind == "kill":
        victim.kill()
        wait.wait(chance.uniform(0.0, 1.0))
        victim.start()
    elif kind == "pause":
        victim.signal(signal.SIGSTOP)
        wait.wait(chance.uniform(*PAUSE_S))
        victim.signal(signal.SIGCONT)
    else:
        # The session of the leader, or every session of both.
        what = "gpuwarden-lead" if kind == "session" else "gpuwarden-%"
        with psycopg.connect(database, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name LIKE %s",
                (what,),
            )


def _victim(chance: random.Random, both: list[Aggregator], database: str) -> Aggregator:
    """The leader, mostly."""
    with psycopg.connect(database) as db:
        row = db.execute("SELECT address FROM epoch").fetchone()
    leading = [each for each in both if row is not None and each.address == row[0]]
    return chance.choice([*leading * 3, *both])


def _actions(history: History) -> int:
    return sum(1 for seen in list(history.seen) if seen.what == "action")


def _until_acted(history: History, before: int) -> None:
    """Until somebody leads again, and gives."""
    waited = threading.Event()
    for _ in range(int(READY_S / 0.05)):
        if _actions(history) > before:
            return
        waited.wait(0.05)
    raise AssertionError(f"nobody was given leave within {READY_S:g} s")


def _judge(history: History, senders: list[Node], database: str, result: Result) -> None:
    history.read(database)
    result.findings = findings(history, RULES)
    with psycopg.connect(database) as db:
        for sender in senders:
            compare(db, "%s", sender, result.tally)
    result.leaders = len(history.reigns)
    result.grants = len(history.grants)
    counts = {
        what: [s for s in history.seen if s.what == what] for what in ("action", "stream", "stale")
    }
    result.actions, result.stale = len(counts["action"]), len(counts["stale"])
    result.streams = len(counts["stream"])
    result.tally.kills = result.faults.get("kill", 0)
    result.orders_done = sum(1 for is_done in history.orders.values() if is_done)
