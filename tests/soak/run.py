"""An agent with its probe child, and an aggregator over mutual TLS, under work without end: once a second something happens."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.clock import SystemClock
from gpuwarden.errors import GpuwardenError
from gpuwarden.sim.host import SimHost, SimOptions, Workload
from gpuwarden.sim.incident.fleet import SimFleet
from tests.e2e.agent import Agent
from tests.soak.judge import Look, growth

NODE = "soak-1"
DEVICES = 8
BEAT_S = 1.0
"""The rate of the case: 1 Hz."""
LOOK_EVERY = 5
JOBS_MOST = 4
SETTLE_S = 5.0
CHANNELS_MOST_MIB = 5.0
"""What ten thousand channels that were made and closed may have left behind."""
CLOCK = SystemClock()
POLICY = """
[[tenant]]
match = { comm = "workload" }
class = "low"
memory = "4GiB"
grace = "1s"
"""


@dataclass(slots=True)
class Tally:
    """What was done, and what was seen of each process."""

    seconds: float = 0.0
    deeds: dict[str, int] = field(default_factory=dict)
    looks: dict[str, list[Look]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    channels_mib: float | None = None

    def as_json(self) -> dict[str, Any]:
        grown = [growth(name, looks) for name, looks in self.looks.items()]
        found = [*self.faults, *(fault for each in grown for fault in each.faults)]
        if self.channels_mib is not None and self.channels_mib >= CHANNELS_MOST_MIB:
            found.append(f"channels left {self.channels_mib:.2f} MiB behind")
        return {
            "seconds": round(self.seconds, 1),
            "deeds": self.deeds,
            "processes": [asdict(each) for each in grown],
            "channels_mib": self.channels_mib,
            "faults": found,
        }


def look_at(pid: int) -> Look:
    proc = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
    )
    return Look(
        at=CLOCK.now(),
        rss_mib=int(status["VmRSS"].split()[0]) / 1024,
        descriptors=sum(1 for _ in (proc / "fd").iterdir()),
        threads=int(status["Threads"]),
    )


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class World:
    """The host, its agent, and the fleet."""

    def __init__(self, host: SimHost, agent: Agent, fleet: SimFleet) -> None:
        self.host = host
        self.agent = agent
        self.fleet = fleet
        self._jobs: list[Workload] = []
        self._places = 0

    def deeds(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """One a beat, for ever: mostly jobs that come and go and people who look; now and then trouble."""
        for beat in itertools.count(1):
            if beat % 60 == 0:
                yield "reload", lambda: self.agent.signal(signal.SIGHUP)
            elif beat % 300 == 30:
                yield "eviction", self._hog
            elif beat % 20 == 0:
                yield "xid", partial(self.host.control, "xid", device=beat % DEVICES, xid=13)
            elif beat % 3 == 0:
                yield "fleet read", self._read_fleet
            elif beat % 3 == 1:
                yield "read", self.agent.view
            else:
                yield "job", self._job

    def _job(self) -> None:
        for job in [job for job in self._jobs if not job.is_running()]:
            self._end(job)
        if len(self._jobs) >= JOBS_MOST:
            self._jobs[0].terminate()
            self._end(self._jobs[0])
        self._start("hold", "--size", "1GiB")

    def _end(self, job: Workload) -> None:
        job.wait(SETTLE_S)
        self._jobs.remove(job)

    def _hog(self) -> None:
        self._start("hog", "--size", "12GiB", "--rate", "30GiB/s")

    def _start(self, *words: str) -> None:
        self._places += 1
        place = [self._places % DEVICES]
        self._jobs.append(self.host.start_workload(*words, devices=place, wait=False))

    def _read_fleet(self) -> None:
        with FleetClient(self.fleet.address, self.fleet.admin) as client:
            client.status()

    def pids(self) -> dict[str, int]:
        """By what each is called here; the agent's children by their place."""
        probes = {f"probe {n}": pid for n, pid in enumerate(children(self.agent.pid))}
        return {"agent": self.agent.pid, **probes, "aggregator": self.fleet.pid}


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(SimFleet([NODE]))
        host = stack.enter_context(SimHost(SimOptions(devices=DEVICES)))
        settings = POLICY + fleet.settings_of(NODE)
        agent = Agent(folder, settings, env=host.env(fleet.environ))
        stack.callback(agent.close)
        agent.start().until_seen(DEVICES)
        fleet.wait_connected([NODE])
        yield World(host, agent, fleet)


def soak(seconds: float, channels: int, *, beat_s: float = BEAT_S) -> Tally:
    """Something every ``beat_s`` for so long; then so many channels, one after the other."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="gw-soak-") as name, world(Path(name)) as here:
        began = CLOCK.now()
        for number, (what, do) in enumerate(here.deeds()):
            due = began + number * beat_s
            if due - began >= seconds:
                break
            CLOCK.sleep(max(0.0, due - CLOCK.now()))
            try:
                do()
                tally.deeds[what] = tally.deeds.get(what, 0) + 1
            except GpuwardenError as error:
                tally.faults.append(f"{what}: {error}")
            if number % LOOK_EVERY == 0:
                for each, pid in here.pids().items():
                    tally.looks.setdefault(each, []).append(look_at(pid))
        tally.seconds = CLOCK.now() - began
        tally.faults += here.agent.defects()
        if channels:
            tally.channels_mib = _channels(here, channels)
    return tally


def _channels(here: World, count: int) -> float:
    """What stays of so many, each with a question; the first hundred fill what is filled once."""
    before = 0.0
    for number in range(count):
        here._read_fleet()
        if number == min(100, count // 10):
            before = look_at(os.getpid()).rss_mib
    return round(look_at(os.getpid()).rss_mib - before, 2)
