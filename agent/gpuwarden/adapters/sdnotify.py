"""The service manager's side channel: sd_notify(3) without a library."""

import os
import socket
import time
from collections.abc import Mapping

STATUS_MAX_CHARS = 200


class SdNotify:
    """Says READY, RELOADING, STOPPING and STATUS; feeds the watchdog with finished ticks only.

    Without ``NOTIFY_SOCKET`` every call does nothing. A manager that does not listen is not waited
    for: the message is lost and counted.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._status = ""
        self.lost = 0
        if self._path.startswith(("/", "@")) and len(self._path) < 108:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self, status: str) -> None:
        """The agent has finished its first tick."""
        self._send(f"READY=1\nSTATUS={_line(status)}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """A new configuration is being read."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def reloaded(self, status: str) -> None:
        """The new configuration is in force, or the old one stays (``status`` says which)."""
        self._status = ""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def stopping(self) -> None:
        """The agent is on its way out."""
        self._send("STOPPING=1")

    def pet(self, status: str) -> None:
        """A tick has finished."""
        line = _line(status)
        if line == self._status:
            self._send("WATCHDOG=1")
        else:
            self._status = line
            self._send(f"WATCHDOG=1\nSTATUS={line}")

    def close(self) -> None:
        """Nothing is said after this."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            self._socket.sendto(message.encode("utf-8", "replace"), address)
        except OSError:
            self.lost += 1


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:STATUS_MAX_CHARS]
