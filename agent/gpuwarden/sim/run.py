"""Runs a command inside a simulated GPU host: ours, or another project's."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Self

from gpuwarden.sim.host import SimHost, SimOptions, Workload

STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
SETTLE_TICKS = 6  # of 100 ms: utilisation is then near its value
SETTLE_PERIOD_S = 0.05
SETTLE_TIMEOUT_S = 3.0
MIB = 1024 * 1024

NOT_FOUND = 127  # the shell's code for a command that does not exist
NOT_EXECUTABLE = 126


def start_holders(host: SimHost, per_device: int) -> list[Workload]:
    """``per_device`` live processes on every device, with sizes and loads drawn from the seed.

    Together they hold about half of a device and keep it 10 to 90 % busy. On a partitioned device
    they live on its instances in turn.
    """
    if not per_device:
        return []
    chance = random.Random(host.options.seed)
    holders = []
    for device in host.control("info")["devices"]:
        instances = device["instances"] or [device]
        room = min((each["total"] - each["used"]) // 2 for each in instances)
        shares = -(-per_device // len(instances))  # processes on the fullest instance
        busy = chance.randint(100, 900)
        for number in range(per_device):
            mib = max(1, int(room / shares * chance.uniform(0.4, 1.6)) // MIB)
            holders.append(
                host.start_workload(
                    "hold",
                    *("--size", f"{mib}MiB", "--load", str(busy // per_device)),
                    devices=[instances[number % len(instances)]["uuid"]],
                    wait=False,
                )
            )
    for holder in holders:
        holder.wait_ready()
    _settle(host)
    return holders


def _settle(host: SimHost) -> None:
    """Until the driver has sampled what runs, so that the first reader sees values, not zeros."""
    first = host.control("info")["tick"]
    for _ in range(int(SETTLE_TIMEOUT_S / SETTLE_PERIOD_S)):
        if host.control("info")["tick"] >= first + SETTLE_TICKS:
            return
        time.sleep(SETTLE_PERIOD_S)


class _Stopped(Exception):
    """A signal came while no command was there to take it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Signals:
    """Hands SIGTERM and SIGHUP to the command; before and after it they end the host in order.

    Ctrl-C reaches the command by itself, which is in the same group of the terminal. Handlers, not
    SIG_IGN: the command must start with the defaults. Only the main thread can have them.
    """

    def __init__(self) -> None:
        self.command: subprocess.Popen[bytes] | None = None
        self.is_over = False
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self._before[number] = signal.signal(number, self._on)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, old in self._before.items():
            signal.signal(number, old)

    def _on(self, number: int, frame: FrameType | None) -> None:
        if self.command is not None:
            if number != signal.SIGINT:
                with contextlib.suppress(ProcessLookupError):
                    self.command.send_signal(number)
        elif not self.is_over:
            self.is_over = True
            raise _Stopped(number)


def run(
    command: Sequence[str],
    options: SimOptions,
    *,
    processes: int = 0,
    announce: Callable[[str], None] | None = None,
) -> int:
    """Runs ``command`` on a simulated host and returns its exit status (128 + n for signal n).

    An empty command keeps the host up until a signal comes, and returns 0. SIGTERM and SIGHUP are
    passed to the command. Driver and processes are gone when this returns, and they end by
    themselves should this process be killed. ``announce`` is told the host's folder.
    Raises Unsupported when the host cannot be built, Unavailable when it does not come up.
    """
    if command and shutil.which(command[0]) is None:
        return NOT_FOUND
    with _Signals() as signals:
        try:
            with SimHost(options) as host:
                start_holders(host, processes)
                if announce is not None:
                    announce(str(host.folder))
                status = _run_command(command, host, signals) if command else _stay()
                signals.is_over = True
                return status
        except _Stopped as stopped:
            return 128 + stopped.number if command else 0


def _stay() -> int:
    while True:
        signal.pause()


def _run_command(command: Sequence[str], host: SimHost, signals: _Signals) -> int:
    try:
        child = subprocess.Popen(list(command), env=host.env())
    except OSError:
        return NOT_EXECUTABLE
    signals.command = child
    status = child.wait()
    return 128 - status if status < 0 else status
