"""CPU of one full poll: ours (child and parent together), the floor's, nvitop's and gpustat's."""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cost import cpu_s, median

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.book import Book
from gpuwarden.adapters.probe.crew import Post
from gpuwarden.adapters.probe.worker import Start, Worker
from gpuwarden.clock import SystemClock
from gpuwarden.config import AgentConfig, Config
from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.memory import Memory
from gpuwarden.model.views import ProbeView
from gpuwarden.node.observe import Observer
from gpuwarden.wiring import build

HERE = Path(__file__).resolve().parent
POLLS = {"ours": 40, "floor": 40, "nvitop": 6, "gpustat": 1}
"""Polls a round: about the same wall time each (gpustat sleeps 0.1 s a device)."""
DEADLINE_S = 30.0


class PollWorker(Worker):
    """The worker of the agent with the child of the bench."""

    def _command(self, frames: int, requests: int, shared: int) -> list[str]:
        command = super()._command(frames, requests, shared)
        boot = f"import sys; sys.path[:0] = [sys.argv.pop(1), {str(HERE)!r}]; "
        command[command.index("-c") + 1] = boot + "from poll_child import main; main()"
        return command


class PollProbe:
    """The probe port, one full poll a drain."""

    def __init__(self) -> None:
        start = Start(library=None, fast_deadline_s=1.0, slow_deadline_s=1.0)
        self.worker = PollWorker(start, time.monotonic())
        self._post = Post(worker=self.worker)
        self._book = Book()
        self._poller = select.poll()
        self._poller.register(self.worker, select.POLLIN)
        self._take()  # versions and inventory

    def drain(self, now: float) -> ProbeView:
        self.worker.send(layout.PLAN, b"")
        self._take()
        view = self._book.view(now, 1e9)
        assert self._book.details
        return view

    def _take(self) -> None:
        if not self._poller.poll(DEADLINE_S * 1000):
            raise SystemExit("the poll child does not answer")
        finished, *_ = self.worker.progress(layout.FAST)
        for frame in self.worker.frames():
            self._book.take(self._post, frame)
        self._book.renew(self._post, finished)
        if not self.worker.is_open:
            raise SystemExit("the poll child ended")

    def steer(self, plan: ProbePlan) -> None:
        """It polls when it is told to."""

    def filenos(self) -> tuple[int, ...]:
        return (self.worker.fileno(),)

    def close(self) -> None:
        self.worker.hang_up()
        self.worker.wait(5.0)
        self.worker.release()


class Ours:
    """The agent's own look at the node, attribution and snapshot included, over a full poll each."""

    def __init__(self, folder: Path) -> None:
        agent = AgentConfig(state_dir=folder / "state", run_dir=folder / "run")
        cfg = Config(agent=agent)
        self._parts = build(cfg, SystemClock(), os.environ)
        self._parts.probe.close()
        self._probe = PollProbe()
        ports = replace(self._parts.node.ports, probe=self._probe)
        self._observer = Observer(cfg, ports)
        self._memory = self._parts.node.memory
        for _ in range(5):
            snapshot = self.look()
        if not snapshot.uses:
            raise SystemExit(f"the poll attributes no process: {snapshot.gaps}")
        self.attributed = len({pid for t in snapshot.tenants for pid in t.pids})

    def look(self) -> Any:
        memory: Memory = self._memory
        return self._observer.look(time.monotonic(), time.time(), memory)

    def poll(self, times: int) -> tuple[list[float], list[float]]:
        """CPU milliseconds of each poll: of both processes together, and of the child alone."""
        both, child = [], []
        pid = self._probe.worker.pid
        for _ in range(times):
            ours, theirs = time.process_time(), cpu_s(pid)
            self.look()
            theirs = cpu_s(pid) - theirs
            both.append((time.process_time() - ours + theirs) * 1000)
            child.append(theirs * 1000)
        return both, child

    def profile(self) -> None:
        """Where the parent's time goes, to standard error."""
        profiler = cProfile.Profile()
        profiler.enable()
        self.poll(100)
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)

    def close(self) -> None:
        self._probe.close()
        self._parts.close()


@contextmanager
def peer(python: str, name: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [python, str(HERE / "peer.py"), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(DEADLINE_S)


def ask(process: subprocess.Popen[str], times: int) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{times}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a peer ended: {process.args}")
    return [float(cost) for cost in json.loads(line)]


def measure(python: str, rounds: int, *, is_profiled: bool) -> dict[str, Any]:
    """Medians over all rounds; in each round everybody polls, so that all meet the same machine."""
    costs: dict[str, list[float]] = {name: [] for name in ("ours", "child", *POLLS)}
    with (
        tempfile.TemporaryDirectory(prefix="gpuwarden-bench-") as folder,
        peer(python, "floor") as floor,
        peer(python, "nvitop") as nvitop,
        peer(python, "gpustat") as gpustat,
    ):
        ours = Ours(Path(folder))
        try:
            for _ in range(rounds):
                both, child = ours.poll(POLLS["ours"])
                costs["ours"] += both
                costs["child"] += child
                for name, process in (("floor", floor), ("nvitop", nvitop), ("gpustat", gpustat)):
                    costs[name] += ask(process, POLLS[name])
            if is_profiled:
                ours.profile()
        finally:
            ours.close()
    medians = {name: median(values) for name, values in costs.items()}
    return {
        "poll_cpu_ms": medians["ours"],
        "poll_vs_nvitop": medians["ours"] / medians["nvitop"],
        "poll_vs_floor": medians["ours"] / medians["floor"],
        "poll_child_cpu_ms": medians["child"],
        "floor_cpu_ms": medians["floor"],
        "nvitop_cpu_ms": medians["nvitop"],
        "gpustat_cpu_ms": medians["gpustat"],
        "poll_processes": ours.attributed,
    }
