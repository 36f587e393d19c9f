"""The service manager's side channel: sd_notify(3) without a library."""

import os
import socket
import time
from collections.abc import Mapping

STATUS_MAX_CHARS = 300


class SdNotify:
    """Says READY, RELOADING, STOPPING and STATUS; feeds the watchdog with finished ticks only.

    Whoever is starting or reloading is ready with the tick that finishes next: READY is never said of something
    that has not worked once. Without ``NOTIFY_SOCKET`` every call does nothing. A manager that does not listen
    is not waited for: the message is lost and counted.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._status = ""
        self._note = ""
        self._is_ready = False
        self.lost = 0
        if self._path.startswith(("/", "@")) and len(self._path) < 108:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def starting(self, status: str) -> None:
        """What is being done before the first tick."""
        self._send(f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """A new configuration is being read."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._is_ready = False
        self._send(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def reloaded(self, note: str = "") -> None:
        """The new configuration is in force, or the old one stays: then ``note`` says so, and stands before the
        status until the next reload."""
        self._note = note

    def stopping(self) -> None:
        """The agent is on its way out."""
        self._send("STOPPING=1")

    def pet(self, status: str) -> None:
        """A tick has finished."""
        line = _line(f"{self._note}; {status}" if self._note else status)
        words = ["WATCHDOG=1"]
        if not self._is_ready:
            words = ["READY=1", *words, f"MAINPID={os.getpid()}"]
        if line != self._status or not self._is_ready:
            words.append(f"STATUS={line}")
        self._status, self._is_ready = line, True
        self._send("\n".join(words))

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
