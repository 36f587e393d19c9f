"""Streams of kernel records whose every datagram a test decides, and a follower that a test drains."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from gpuwarden.adapters.kmsg.follower import KernelLogFollower
from gpuwarden.adapters.kmsg.placefile import PlaceFile
from gpuwarden.adapters.kmsg.sieve import Counts, Sieve
from gpuwarden.adapters.kmsg.source import Place, Pull, Reach, Source
from gpuwarden.adapters.kmsg.stream import SimulatedStream
from gpuwarden.clock import SystemClock
from gpuwarden.model.kernel_record import KernelForgery, KernelRecord
from gpuwarden.model.views import KernelView

BOOT = "f52adebe-4c67-423a-8453-6234cee1658f"
DEADLINE_S = 20.0
NOISE = "usb 1-1: new high-speed USB device number 2 using xhci_hcd"


def xid(number: int = 79, *, pid: int = 4711, pci: str = "0000:3b:00") -> str:
    return f"NVRM: Xid (PCI:{pci}): {number}, pid={pid}, name=python, of a test"


def line(
    sequence: int, text: str | bytes, *, priority: int = 4, flag: str = "-", us: int = 7
) -> bytes:
    """A record as it is read."""
    body = text.encode() if isinstance(text, str) else text
    return b"%d,%d,%d,%s;%s\n" % (priority, sequence, us, flag.encode(), body)


class Feed:
    """A record stream at ``path``: the test is the driver. One reader at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(os.fspath(path))
        self._listener.listen(4)
        self._listener.settimeout(DEADLINE_S)
        self._reader: socket.socket | None = None
        self.opened: list[Opened] = []
        """Closed with it."""

    def accept(self) -> Feed:
        """Take the reader that has connected."""
        self.hang_up()
        self._reader, _ = self._listener.accept()
        self._reader.settimeout(DEADLINE_S)
        return self

    def say(self, *datagrams: bytes) -> None:
        assert self._reader is not None
        for datagram in datagrams:
            self._reader.send(datagram)

    def heard(self) -> str:
        """The reader's next command."""
        assert self._reader is not None
        return self._reader.recv(100).decode()

    def hang_up(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close(self) -> None:
        self.hang_up()
        for opened in self.opened:
            opened.source.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)


class Opened:
    """A source that a test reads by itself, without a thread."""

    def __init__(self, make: Callable[[Sieve], Source], place: Place | None = None) -> None:
        self.counts = Counts()
        self.source = make(Sieve(self.counts))
        self.source.open(place, is_backlog=True)

    def pull(self, now: float = 1.0) -> Pull:
        return self.source.read(now)

    def all(self, now: float = 1.0) -> list[KernelRecord]:
        """Everything that is there now."""
        found: list[KernelRecord] = []
        while True:
            pull = self.source.read(now)
            found += [kept.record for kept in pull.kept]
            if pull.reach is not Reach.MORE:
                return found

    def texts(self) -> list[str]:
        return [record.text for record in self.all()]

    def fed(self, feed: Feed, datagrams: Iterable[bytes], now: float = 1.0) -> list[KernelRecord]:
        """What is handed on of many datagrams: more than a socket holds at once (max_dgram_qlen)."""
        found: list[KernelRecord] = []
        for number, datagram in enumerate(datagrams):
            feed.say(datagram)
            if number % 8 == 7:
                found += self.all(now)
        return found + self.all(now)


def stream_of(feed: Feed, place: Place | None = None) -> Opened:
    """The agent's own reader of such a stream, connected; its commands are taken."""
    opened = Opened(lambda sieve: SimulatedStream(feed.path, BOOT, sieve), place)
    feed.opened.append(opened)
    feed.accept()
    return opened


class Followed:
    """The port, drained until a test has seen what it waits for."""

    def __init__(
        self, find: Callable[[Sieve], Source], folder: Path, heard: int | None = None
    ) -> None:
        self.port = KernelLogFollower(find, SystemClock(), PlaceFile(folder), heard)
        self.records: list[KernelRecord] = []
        self.forgeries: list[KernelForgery] = []
        self.view = KernelView()
        self.now: float | None = None
        """What time it is for the port; ``None``: what it is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.port.close()

    def look(self, now: float | None = None) -> KernelView:
        self.now = self.now if now is None else now
        self.view = self.port.drain(time.monotonic() if self.now is None else self.now)
        self.records += self.view.records
        if self.view.forgery is not None:
            self.forgeries.append(self.view.forgery)
        return self.view

    def until(self, claim: Callable[[], bool]) -> bool:
        """Whether ``claim`` came true before the deadline; looked every 10 ms."""
        never = threading.Event()
        end = time.monotonic() + DEADLINE_S
        while not claim():
            if time.monotonic() > end:
                return False
            never.wait(0.01)
            self.look()
        return True

    def has(self, count: int) -> bool:
        """Whether so many records came."""
        return self.until(lambda: len(self.records) >= count)

    def count(self, name: str) -> int:
        return self.port.counters()[f"kernel_log_{name}", ""]

    def texts(self) -> list[str]:
        return [record.text for record in self.records]
