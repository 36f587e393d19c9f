"""The service manager's end of sd_notify: a real datagram socket, read message by message."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from gpuwarden.clock import SystemClock

WITHIN_S = 30.0


class Manager:
    """Reads what is said; each message as its variables."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._clock = SystemClock()
        self.status = ""
        """The newest that was said."""

    def hear(self, timeout_s: float = WITHIN_S) -> dict[str, str] | None:
        """The next message; None when none came in time."""
        self._socket.settimeout(timeout_s)
        try:
            text = self._socket.recv(65536).decode()
        except TimeoutError:
            return None
        said = dict(line.partition("=")[::2] for line in text.split("\n"))
        self.status = said.get("STATUS", self.status)
        return said

    def until(self, wanted: Callable[[dict[str, str]], object]) -> list[dict[str, str]]:
        """Every message up to the first that is wanted; AssertionError shows them when it never comes."""
        heard: list[dict[str, str]] = []
        end = self._clock.now() + WITHIN_S
        while not heard or not wanted(heard[-1]):
            message = self.hear(max(0.01, end - self._clock.now()))
            assert message is not None, f"never said; heard: {heard[-20:]}"
            heard.append(message)
        return heard

    def until_status(self, part: str) -> None:
        """Until the status holds this: now already, or with a message to come."""
        if part not in self.status:
            self.until(lambda said: part in said.get("STATUS", ""))

    def drain(self) -> None:
        """Forget what has been said up to now."""
        while self.hear(0.05) is not None:
            pass

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def managed(folder: Path) -> Iterator[Manager]:
    """A manager that listens in the folder."""
    manager = Manager(folder / "notify")
    try:
        yield manager
    finally:
        manager.close()
