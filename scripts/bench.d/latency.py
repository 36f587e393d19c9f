"""From a line of the kernel log to the decision, and to the page at the sink, on an otherwise idle host.

The simulated driver writes the lines into its stream, which is read as /dev/kmsg is. With ``--kernel-lines``, as
root, the kernel itself writes them into its own log (``latency_writer``) and the agent reads /dev/kmsg: not where
a real NVIDIA driver is loaded, and not beside other watchers of this log, which would believe them. The agent is the real one at its defaults but for enforce mode, in which Xid 79 pages at once
(a reboot is not allowed by default, so it is handed to people); ``storm_notices`` is raised, or the eleventh page in five minutes would be
folded into one with others. Beside it a plain reader of the same log that only stamps: the floor.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import steady
from cost import median, percentile

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.sim.host import SimHost, SimOptions

HERE = Path(__file__).parent
DEVICES, ROUNDS = 16, 7
"""Each device tells one fault in the life of an agent: 112 lines in seven lives."""
SETTLE_S, PAGE_S = 4.0, 5.0
MISSED_MAX = 3
PAUSE_S = (0.1, 0.35)
"""Between a page and the next line, so that no line meets the agent at the same moment of its rounds."""
KMSG = Path("/dev/kmsg")
ALL_NAMESPACES = Path("/proc/sys/net/netfilter/nf_log_all_netns")
REAL_DRIVER = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"))
MARK = b"OUT=lo"
"""What the kernel adds to a line of ours."""
FORGET_BURSTS, FORGET_BURST = 5000, 10
"""One open /dev/kmsg takes ten lines at a time."""
FILLER = b"<7>gpuwarden-bench: nothing of interest " + b"0123456789" * 80 + b"\n"
CREDIT = 64
LINE = "NVRM: Xid (PCI:{pci}): 79, GPU has fallen off the bus."


class Writer(Protocol):
    """Has a line about one device written; the nanosecond at which that began."""

    source: str

    def write(self, number: int) -> int: ...


@dataclass(slots=True)
class Heard:
    """What came, with the nanosecond at which it did."""

    what: list[tuple[int, bytes]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def add(self, what: bytes) -> None:
        at = time.monotonic_ns()
        with self.news:
            self.what.append((at, what))
            self.news.notify_all()

    def wait(self, word: bytes, since: int) -> int | None:
        """When the first that holds ``word`` came after ``since``; ``None`` when none did in time."""

        def found() -> int | None:
            return next((at for at, text in self.what if at >= since and word in text), None)

        with self.news:
            self.news.wait_for(lambda: found() is not None, PAGE_S)
            return found()


def measure(*, is_kernel: bool) -> dict[str, Any]:
    """99th percentiles and medians, in milliseconds; how many lines, and by whom they were written."""
    decided: list[float] = []
    paged: list[float] = []
    floor: list[float] = []
    missed = 0
    source = ""
    with SimHost(SimOptions(devices=DEVICES, profile="H100-80", seed=1)) as host:
        before = dict(os.environ)
        os.environ.update(host.env())
        log = KMSG if is_kernel else host.folder / "kmsg.sock"
        folder = Path(tempfile.mkdtemp(prefix="gpuwarden-bench-"))
        try:
            # What the log holds from before is no news, not even to the first life.
            with _agent(folder, log, "http://127.0.0.1:9/hook"):
                pass
            for life in range(ROUNDS):
                found = _life(host, random.Random(life), folder, log)
                source = found.source
                decided += found.decided
                paged += found.paged
                floor += found.floor
                missed += found.missed
        finally:
            os.environ.clear()
            os.environ.update(before)
            shutil.rmtree(folder, ignore_errors=True)
    return {
        "kmsg_line_source": source,
        "kmsg_lines": DEVICES * ROUNDS,
        "kmsg_lines_missed": missed,
        "kmsg_line_floor_p99_ms": _p99(floor),
        "kmsg_line_floor_median_ms": median(floor) if floor else None,
        "kmsg_line_to_decision_p99_ms": _p99(decided),
        "kmsg_line_to_decision_median_ms": median(decided) if decided else None,
        "kmsg_line_to_decision_max_ms": max(decided, default=None),
        "kmsg_line_to_page_p99_ms": _p99(paged),
        "kmsg_line_to_page_median_ms": median(paged) if paged else None,
        "kmsg_line_to_page_max_ms": max(paged, default=None),
    }


def _p99(values: list[float]) -> float | None:
    return percentile(values, 0.99) if values else None


@dataclass(slots=True)
class Life:
    """What one life of the agent has shown, in milliseconds."""

    source: str
    decided: list[float] = field(default_factory=list)
    paged: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    missed: int = 0


def _life(host: SimHost, chance: random.Random, folder: Path, log: Path) -> Life:
    """A new agent that goes on in the log where the last one stopped, and knows nothing else."""
    pages, lines = Heard(), Heard()
    with contextlib.ExitStack() as stack:
        for known in ("journal", "oncall"):
            shutil.rmtree(folder / "state" / known, ignore_errors=True)
        hook = stack.enter_context(_sink(pages))
        stack.enter_context(_agent(folder, log, hook))
        with NodeClient(folder / "run" / "gpuwarden.sock") as client:
            devices = [(d.id, _short(d.pci or "")) for d in client.view().snapshot.devices]
        order = list(range(len(devices)))
        chance.shuffle(order)
        addresses = [pci for _, pci in devices]
        writer: Writer
        stack.enter_context(_floor(log, lines))
        if log == KMSG:
            writer = stack.enter_context(_kernel(addresses))
        else:
            writer = Simulated(host, addresses)
        life = Life(source=writer.source)
        began: dict[str, int] = {}
        for number in order:
            uuid, pci = devices[number]
            at = began[uuid] = writer.write(number)
            page_at = pages.wait(uuid.encode(), at)
            if page_at is None:
                life.missed += 1
                if life.missed > MISSED_MAX:
                    raise SystemExit(f"{life.missed} lines brought no page:\n{_story(folder)}")
            else:
                life.paged.append((page_at - at) / 1e6)
            read_at = lines.wait(f"{pci})".encode(), at)
            if read_at is not None:
                life.floor.append((read_at - at) / 1e6)
            time.sleep(chance.uniform(*PAUSE_S))
        for phase, device, at in _stamps(folder / "stamps"):
            if phase == "deciding" and device in began and at >= began[device]:
                life.decided.append((at - began.pop(device)) / 1e6)
    return life


def _story(folder: Path) -> str:
    return (folder / "agent.log").read_text(errors="replace")[-2000:]


def _short(pci: str) -> str:
    """00000000:10:00.0 -> 0000:10:00, as the driver's own lines name it."""
    return pci.partition(".")[0][-10:].lower()


def _stamps(path: Path) -> Iterator[tuple[str, str, int]]:
    for line in path.read_text().splitlines():
        phase, device, at = line.split()
        yield phase, device, int(at)


def why_not_kernel() -> str:
    """Why the kernel cannot be had to write the lines here; empty: it can."""
    if os.geteuid() != 0 or not os.access(ALL_NAMESPACES, os.W_OK):
        return "only root of the host's own network can have the kernel write lines"
    missing = [tool for tool in ("iptables", "ip", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if any(path.exists() for path in REAL_DRIVER):
        return "a real NVIDIA driver is loaded: whoever watches it would believe the lines"
    return ""


@dataclass(slots=True)
class Simulated:
    """The simulated driver writes its own lines."""

    host: SimHost
    addresses: list[str]
    source: str = "simulated"

    def write(self, number: int) -> int:
        began = time.monotonic_ns()
        self.host.control("kernel_line", text=LINE.format(pci=self.addresses[number]), count=1)
        return began


@dataclass(slots=True)
class OfKernel:
    """``latency_writer``, at work."""

    process: subprocess.Popen[str]
    source: str = "kernel"

    def write(self, number: int) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def _kernel(addresses: list[str]) -> Iterator[OfKernel]:
    """Lines of network namespaces of their own reach the log while this is open; then as it was."""
    before = ALL_NAMESPACES.read_text()
    ALL_NAMESPACES.write_text("1\n")
    try:
        command = ["unshare", "--net", sys.executable, str(HERE / "latency_writer.py"), *addresses]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit("the kernel cannot be had to write lines: see above")
            yield OfKernel(process)
            assert process.stdin is not None
            process.stdin.close()
    finally:
        ALL_NAMESPACES.write_text(before)
        _forget()


def _forget() -> None:
    """Push our lines out of the kernel's ring: an agent that starts later would read and believe them."""
    for _ in range(FORGET_BURSTS):
        fd = os.open(KMSG, os.O_WRONLY | os.O_CLOEXEC)
        for _ in range(FORGET_BURST):
            os.write(fd, FILLER)
        os.close(fd)
        if not _is_left():
            return


def _is_left() -> bool:
    fd = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                if MARK in os.read(fd, 8192):
                    return True
            except BrokenPipeError:
                continue
            except BlockingIOError:
                return False
    finally:
        os.close(fd)


@contextmanager
def _floor(log: Path, lines: Heard) -> Iterator[None]:
    """A plain reader of the log: one read a record, the stamp, nothing else."""
    with contextlib.ExitStack() as stack:
        if log == KMSG:
            reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, reader)
            os.lseek(reader, 0, os.SEEK_END)
        else:
            side = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            side.connect(os.fspath(log))
            side.setblocking(False)
            side.send(b"credit %d" % CREDIT)
            reader = side.fileno()
        stop = os.eventfd(0, os.EFD_CLOEXEC)
        stack.callback(os.close, stop)
        thread = threading.Thread(
            target=_stamp, args=(reader, stop, lines, log != KMSG), daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            os.eventfd_write(stop, 1)
            thread.join()


def _stamp(reader: int, stop: int, lines: Heard, is_stream: bool) -> None:
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(stop, select.POLLIN)
    while all(fd != stop for fd, _ in poller.poll()):
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while record := os.read(reader, 8192):
                lines.add(record)
                if is_stream:  # the simulated driver sends as many as it is asked for
                    os.write(reader, b"credit 1")


@contextmanager
def _sink(pages: Heard) -> Iterator[str]:
    """A webhook on loopback that notes when a whole request has come, and takes it; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    side, _ = listener.accept()
                except OSError:
                    return
                with side, contextlib.suppress(OSError):
                    side.settimeout(PAGE_S)
                    _take(side, pages)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PAGE_S)


def _take(side: socket.socket, pages: Heard) -> None:
    data = b""
    while True:
        head, mark, body = data.partition(b"\r\n\r\n")
        sizes = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        if mark and len(body) >= (int(sizes[0].partition(b":")[2]) if sizes else 0):
            break
        more = side.recv(65536)
        if not more:
            return
        data += more
    pages.add(body)
    side.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@contextmanager
def _agent(folder: Path, kernel_log: Path, hook: str) -> Iterator[None]:
    port = steady.free_port()
    config = folder / "agent.toml"
    config.write_text(
        f'[agent]\nmode = "enforce"\nrun_dir = "{folder}/run"\nstate_dir = "{folder}/state"\n'
        f'metrics_listen = "127.0.0.1:{port}"\n[kmsg]\npath = "{kernel_log}"\n'
        f'[oncall]\nstorm_notices = 1000\n[[oncall.webhook]]\nurl = "{hook}"\n'
    )
    stamps = folder / "stamps"
    stamps.write_text("")
    command = [sys.executable, str(HERE / "latency_agent.py"), str(config), str(stamps)]
    with steady.daemon(command, port, folder / "agent.log"):
        time.sleep(SETTLE_S)
        yield
