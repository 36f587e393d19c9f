"""The aggregator's watchdog: fed by a finished turn and a store that answered; by neither alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.aggregator import pulse
from gpuwarden.aggregator.committer import Committer
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable
from gpuwarden.model.fleet import FleetView
from tests.adapters.manager_socket import managed

ROOT = Path(__file__).resolve().parents[2]


class Disk:
    """A store that can be stuck, or ill."""

    def __init__(self) -> None:
        self.lets = threading.Event()
        self.lets.set()
        self.error: Unavailable | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.lets.wait(30.0)
        if self.error is not None:
            raise self.error
        yield


class Heard(list[str]):
    """A watchdog that keeps what it was fed with."""

    def pet(self, status: str) -> None:
        self.append(status)


class Turns:
    """Pictures, one newer than the other while the loop turns."""

    def __init__(self) -> None:
        self.turns = True
        self._serial = 0

    def __call__(self) -> FleetView:
        self._serial += self.turns
        return FleetView(serial=self._serial, at=0.0, wall=0.0, epoch=1)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.lets.set()


@pytest.fixture
def committer(disk: Disk) -> Iterator[Committer]:
    store: Any = disk
    made = Committer(
        store,
        SystemClock(),
        linger_s=0.01,
        queue_max=10,
        on_committed=lambda entries: None,
        on_failed=lambda entries, why: None,
    )
    made.start()
    yield made
    made.stop()


async def _fed(committer: Committer, turns: Turns, watchdog: Heard, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(pulse.keep(committer, turns, watchdog), seconds)


def fed(committer: Committer, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> Heard:
    monkeypatch.setattr(pulse, "BEAT_S", 0.02)
    watchdog = Heard()
    asyncio.run(_fed(committer, turns, watchdog, 1.0))
    return watchdog


def test_both_are_well(committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    said = fed(committer, Turns(), monkeypatch)
    assert len(said) > 2
    assert said[0] == "0 nodes, leads"


def test_a_loop_that_hangs_feeds_nothing_more(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns()
    turns.turns = False
    assert fed(committer, turns, monkeypatch) == []


def test_a_store_that_hangs_feeds_nothing(
    committer: Committer, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.lets.clear()
    assert fed(committer, Turns(), monkeypatch) == []


def test_a_store_that_says_no_has_answered(
    committer: Committer, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.error = Unavailable("the disk is full")
    assert fed(committer, Turns(), monkeypatch)[0] == "0 nodes, leads, store: the disk is full"


def test_what_a_manager_hears_of_the_real_one(tmp_path: Path) -> None:
    path = tmp_path / "aggregator.toml"
    path.write_text(
        f'[aggregator]\nlisten = "127.0.0.1:0"\nenrol_listen = "127.0.0.1:0"\n'
        f'metrics_listen = "127.0.0.1:0"\nstate_dir = "{tmp_path}/state"\n'
    )
    command = [sys.executable, "-m", "gpuwarden", "aggregator", "-c", str(path)]
    with managed(tmp_path) as manager, (tmp_path / "log").open("wb") as log:
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "agent"),
            "NOTIFY_SOCKET": manager.address,
        }
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            heard = manager.until(lambda said: said.get("READY") == "1")
            assert heard[0] == {"STATUS": "opening the store"}
            assert heard[-1]["STATUS"] == "0 nodes, leads"
            assert all("WATCHDOG" not in said for said in heard[:-1])
            manager.until(lambda said: said == {"WATCHDOG": "1"})
            process.send_signal(signal.SIGTERM)
            manager.until(lambda said: said == {"STOPPING": "1"})
            assert process.wait(30.0) == 0
        finally:
            process.kill()
            process.wait(30.0)
