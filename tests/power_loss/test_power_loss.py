"""Case 3: the power fails, and what was not fsynced is gone: nothing that was told as kept is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.clock import SystemClock
from gpuwarden.node.journal import Reading, read
from gpuwarden.sim.driver.build import find_compiler
from gpuwarden.sim.incident.daemon import with_our_code
from tests.power_loss.writer import FILES, SPOOL_MAX_BYTES

ROOT = Path(__file__).parents[2]
SHIM = Path(__file__).with_name("durable.c")
LIVES_S = (0.0, 0.03)
CHECKPOINT = 1200
"""So many writes move a WAL of SQLite back into its file at least once (1000 pages)."""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "durable.so"
    command = [
        *find_compiler().command,
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(made),
        str(SHIM),
        "-ldl",
    ]
    subprocess.run(command, check=True, timeout=60)
    return made


class Power:
    """One process that writes; each loss of power is looked at while it stands still."""

    def __init__(self, process: subprocess.Popen[bytes], durable: Path) -> None:
        assert process.stdout is not None
        self._process = process
        self._durable = durable
        self._out = process.stdout.fileno()
        self._said = b""
        os.set_blocking(self._out, False)

    @property
    def acked(self) -> int:
        """The highest number that was told as kept."""
        while True:
            try:
                more = os.read(self._out, 65536)
            except BlockingIOError:
                break
            if not more:
                raise AssertionError("the writer has ended")
            self._said = (self._said + more)[-4096:]
        lines = self._said.split(b"\n")
        return int(lines[-2]) if len(lines) > 1 else 0

    def until(self, number: int) -> None:
        clock = SystemClock()
        deadline = clock.now() + 120
        while self.acked < number:
            assert clock.now() < deadline, f"{number} was not reached"
            clock.sleep(0.01)

    def lose(self, into: Path) -> int:
        """What a disk then has lies in ``into``; the highest number that was told before."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        told = self.acked
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(self._durable / "linked", into)
        self._process.send_signal(signal.SIGCONT)
        return told


@contextmanager
def writing(kind: str, folder: Path, shim: Path) -> Iterator[Power]:
    live, durable = folder / "live", folder / "durable"
    for each in (live, *(durable / name for name in ("half", "fresh", "linked"))):
        each.mkdir(parents=True)
    environ = {
        **with_our_code(os.environ),
        "LD_PRELOAD": str(shim),
        "DURABLE_FROM": f"{live}",
        "DURABLE_TO": str(durable),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.power_loss.writer", kind, str(live)],
        stdout=subprocess.PIPE,
        env=environ,
        cwd=ROOT,
    )
    try:
        yield Power(process, durable)
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def is_whole(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def store_keeps(folder: Path, told: int) -> None:
    is_whole(folder / FILES["store"])
    with closing(SqliteStore(folder / FILES["store"])) as store:
        permits = {kept.permit.id for kept in store.ledger(1.0, 10.0)}
    with closing(sqlite3.connect(folder / FILES["store"])) as db:
        events = {number for (number,) in db.execute("SELECT sequence FROM event")}
    assert permits >= {f"p{number}" for number in range(1, told + 1)}
    assert events >= set(range(1, told + 1))


def spool_keeps(folder: Path, told: int) -> None:
    is_whole(folder / FILES["spool"])
    with closing(DiskSpool(folder / FILES["spool"], SPOOL_MAX_BYTES)) as spool:
        kept = {int(event.split()[0]) for _, event in spool.take(0, told + 10, 10**9)}
    assert kept >= set(range(1, told + 1))


def journal_keeps(folder: Path, told: int) -> None:
    reading = Reading()
    kept = {
        int(dict(each.old or ())["number"])
        for record in read(folder, reading)
        for each in record.outcomes
    }
    assert kept >= set(range(1, told + 1))


KEEPS: dict[str, Callable[[Path, int], None]] = {
    "store": store_keeps,
    "spool": spool_keeps,
    "journal": journal_keeps,
}


def play(kind: str, folder: Path, shim: Path, losses: int) -> None:
    chance, clock = random.Random(3), SystemClock()
    with writing(kind, folder, shim) as power:
        power.until(1)
        for number in range(losses):
            clock.sleep(chance.uniform(*LIVES_S))
            if number == losses // 2 and kind != "journal":
                power.until(CHECKPOINT)
            told = power.lose(folder / "after")
            KEEPS[kind](folder / "after", told)
        assert told > losses / 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", sorted(KEEPS))
def test_case_3_nothing_that_was_told_as_kept_is_lost_with_the_power(
    kind: str, tmp_path: Path, shim: Path
) -> None:
    play(kind, tmp_path, shim, 20)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", sorted(KEEPS))
def test_case_3_two_hundred_times(kind: str, tmp_path: Path, shim: Path) -> None:
    play(kind, tmp_path, shim, 200)
