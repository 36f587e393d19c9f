"""The child's way to the parent: datagrams that are sent whole or not at all, never waited for."""

from __future__ import annotations

import os
import threading
import time

from gpuwarden.adapters.probe import layout

HELD_S = 1.2
"""Held frames wait for the next message no longer than this; the fast thread's beat is a second."""
HELD_MAX = 1024


class Channel:
    """The frame socket, shared by the child's threads. A full socket drops and says so.

    Each message wakes the agent up. What tells nothing new is held and goes out with the next message:
    at rest that is the fast thread's beat, so the agent is woken once a second, not once a thread.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()
        self._held: list[bytes] = []
        self._held_since = 0.0

    def later(self, frames: list[bytes]) -> bool:
        """Hand over the frames with the next message; False when something was not taken."""
        now = time.monotonic()
        with self._lock:
            if not self._held:
                self._held_since = now
            is_late = now - self._held_since > HELD_S
            if len(self._held) + len(frames) > HELD_MAX and not is_late:
                return False
            if not is_late:
                self._held += frames
                return True
        return self.send(frames)

    def send(self, frames: list[bytes]) -> bool:
        """Hand over the frames in as few messages as fit, what was held first; False when something
        was not taken."""
        with self._lock:
            held, self._held = self._held, []
        if self._send([*held, *frames]):
            return True
        with self._lock:
            self._held = [*held, *self._held][:HELD_MAX]
        return False

    def _send(self, frames: list[bytes]) -> bool:
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
