"""The simulated driver's kernel log: a socket with the read semantics of /dev/kmsg (sim/driver/kmsg.c).

One record a datagram; ``seek first`` or ``seek N`` says where to read on, ``credit N`` how many datagrams
may come; ``!EPIPE`` tells once that records were overwritten.
"""

import os
import socket
import stat
from pathlib import Path
from time import monotonic

from gpuwarden.adapters.kmsg.device import cannot_open
from gpuwarden.adapters.kmsg.ring import SLICE, Ring
from gpuwarden.adapters.kmsg.sieve import Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Place
from gpuwarden.adapters.peers import read_peer
from gpuwarden.errors import Unavailable
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.snapshot import GapKind

OVERRUN = b"!EPIPE"
WINDOW = 2 * SLICE
"""Datagrams that may be on their way: two reads' worth, so that a read always finds its fill."""
CONNECT_S = 1.0


class SimulatedStream(Ring):
    """Believed only where the socket, and whoever listens on it, are this agent's own user's."""

    name = "simulated"
    trust = KernelTrust.SIMULATED

    def __init__(self, path: Path, boot_id: str, sieve: Sieve) -> None:
        super().__init__(sieve)
        self._path = path
        self._boot_id = boot_id
        self._socket: socket.socket | None = None
        self._credit = 0

    def open(self, place: Place | None, *, is_backlog: bool) -> None:
        self._socket = connection = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        self._backlog_before_us = monotonic() * 1e6  # the driver sends when it comes to it
        try:
            name = self._connect(connection)
            number = self._begin(connection.fileno(), name, place, is_backlog=is_backlog)
            self._say(b"seek first" if number is None else b"seek %d" % min(number, 2**64 - 1))
            self._taken(0)
        except OSError as error:
            raise cannot_open(self._path, error) from error
        except Unavailable as error:
            raise error if isinstance(error, CannotRead) else CannotRead(str(error)) from error

    def _connect(self, connection: socket.socket) -> str:
        """The stream's name: each start of a driver makes a socket of its own and counts from 0."""
        status = self._path.lstat()
        if not stat.S_ISSOCK(status.st_mode):
            raise CannotRead(f"{self._path}: not a socket")
        connection.settimeout(CONNECT_S)
        connection.connect(os.fspath(self._path))
        connection.setblocking(False)
        for uid, whose in (
            (status.st_uid, "the socket"),
            (read_peer(connection, ()).uid, "its other end"),
        ):
            if uid != os.geteuid():
                raise CannotRead(
                    f"{self._path}: {whose} belongs to uid {uid}: a simulated kernel log is believed only "
                    f"from the agent's own user ({os.geteuid()})",
                    GapKind.DENIED,
                )
        return f"{self._boot_id}:{status.st_ino}:{status.st_mtime_ns}"

    def _say(self, text: bytes) -> None:
        if self._socket is not None:
            self._socket.send(text)

    def _taken(self, count: int) -> None:
        self._credit -= count
        if self._credit <= WINDOW // 2:
            self._say(b"credit %d" % (WINDOW - self._credit))
            self._credit = WINDOW

    def _special(self, raw: bytes) -> None:
        self._credit -= 1
        if raw == OVERRUN:
            self._sieve.counts.overruns += 1
        else:
            super()._special(raw)

    def close(self) -> None:
        self._fd = -1
        if self._socket is not None:
            self._socket.close()
            self._socket = None
