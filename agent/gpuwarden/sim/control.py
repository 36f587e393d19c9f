"""A client of the simulated driver's control socket: one JSON object a line, each way."""

from __future__ import annotations

import itertools
import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpuwarden.errors import GpuwardenError, Unavailable

DEADLINE_S = 5.0
MAX_REPLY_BYTES = 32 * 1024 * 1024


class Rejected(GpuwardenError):
    """The driver understood the request and said no; the text says why."""


class Control:
    """A connection to ``DIR/control.sock``. Not for several threads at once.

    ``request`` raises Rejected when the driver refuses, Unavailable when it is away or does not
    answer within the deadline; after the latter the connection is closed and the next request
    opens a new one.
    """

    def __init__(self, folder: Path, deadline_s: float = DEADLINE_S) -> None:
        self._path = folder / "control.sock"
        self._deadline_s = deadline_s
        self._ids = itertools.count(1)
        self._socket: socket.socket | None = None
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._pending = b""

    def request(
        self, command: str, *, deadline_s: float | None = None, **arguments: object
    ) -> dict[str, Any]:
        """One command and its answer, without ``id`` and ``ok``."""
        end = time.monotonic() + (deadline_s or self._deadline_s)
        number = next(self._ids)
        line = json.dumps({"id": number, "cmd": command, **arguments}).encode() + b"\n"
        try:
            connection = self._connected(end)
            connection.settimeout(max(0.001, end - time.monotonic()))
            connection.sendall(line)
            while True:
                answer = json.loads(self._line(connection, end))
                if answer.get("id") in (number, 0):
                    break
        except (OSError, ValueError) as error:
            self.close()
            raise Unavailable(f"simulated driver at {self._path}: {error}") from error
        if not answer.pop("ok", False):
            raise Rejected(f"{command}: {answer.get('error', 'refused')}")
        answer.pop("id")
        return dict(answer)

    def _connected(self, end: float) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(max(0.001, end - time.monotonic()))
            try:
                connection.connect(str(self._path))
            except OSError:
                connection.close()
                raise
            self._socket = connection
            self._pending = b""
        return self._socket

    def _line(self, connection: socket.socket, end: float) -> bytes:
        parts = [self._pending]
        size = len(self._pending)
        while b"\n" not in parts[-1]:
            connection.settimeout(max(0.001, end - time.monotonic()))
            part = connection.recv(1 << 20)
            if not part:
                raise ConnectionResetError("it closed the connection")
            parts.append(part)
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise ValueError("its answer is too long")
        line, _, self._pending = b"".join(parts).partition(b"\n")
        return line
