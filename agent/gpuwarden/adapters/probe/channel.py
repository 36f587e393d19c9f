"""The child's way to the parent: datagrams that are sent whole or not at all, never waited for."""

from __future__ import annotations

import os
import threading
import time

from gpuwarden.adapters.probe import layout


class Channel:
    """The frame socket, shared by the child's threads. A full socket drops and says so."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()

    def send(self, frames: list[bytes]) -> bool:
        """Hand over the frames in as few messages as fit; False when something was not taken."""
        message: list[bytes] = []
        size = 0
        for frame in frames:
            if message and size + len(frame) > layout.MESSAGE_MAX:
                if not self._write(b"".join(message)):
                    return False
                message, size = [], 0
            message.append(frame)
            size += len(frame)
        return self._write(b"".join(message)) if message else True

    def _write(self, message: bytes) -> bool:
        try:
            with self._lock:
                os.write(self.fd, message)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return (
                False  # full: the caller sends it again; broken: the main thread sees the hang-up
            )
        return True

    def receive(self) -> bytes | None:
        """The next message of the parent; None when there is none, empty when it hung up."""
        try:
            return os.read(self.fd, layout.MESSAGE_MAX)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""


def frame(
    kind: int, payload: bytes, *, part: int = 0, ordinal: int = layout.NO_DEVICE, at: float = 0.0
) -> bytes:
    """One frame; ``at`` 0: now."""
    header = layout.HEADER.pack(len(payload), kind, part, ordinal, at or time.monotonic())
    return header + payload
