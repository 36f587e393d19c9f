"""A network between a node and the aggregator that is slow, loses, or says nothing at all: in user space."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK_BYTES = 16 * 1024
WAIT_S = 0.05


class Proxy:
    """Every connection to ``address`` is led to a target. What is held is not lost: TCP would send it again.

    ``lost``: the share of pieces that come ``late_s`` later, as if they had been lost and sent again.
    """

    def __init__(
        self, target: str, *, lost: float = 0.0, late_s: float = 0.0, seed: int = 7
    ) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._chance = random.Random(seed)
        self._lost, self._late_s = lost, late_s
        self._may_go_up, self._may_go_down = threading.Event(), threading.Event()
        self.heal()
        self._is_closed = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        self.heal()
        self.cut()
        self._listener.close()

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """Nothing more gets through, and nobody is told: a half-open connection."""
        for event, is_held in ((self._may_go_up, up), (self._may_go_down, down)):
            if is_held:
                event.clear()

    def heal(self) -> None:
        self._may_go_up.set()
        self._may_go_down.set()

    def cut(self) -> None:
        """Every connection ends at once; what was held is lost."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(
                    socket.SHUT_RDWR
                )  # who reads from it wakes up: a close alone would wait for that
            end.close()

    def _accept(self) -> None:
        while not self._is_closed.is_set():
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, 10)
            except OSError:
                continue
            far.settimeout(None)
            self.connections += 1
            self._ends += [near, far]
            for source, sink, may_go in (
                (near, far, self._may_go_up),
                (far, near, self._may_go_down),
            ):
                threading.Thread(
                    target=self._lead, args=(source, sink, may_go), daemon=True
                ).start()

    def _lead(self, source: socket.socket, sink: socket.socket, may_go: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if self._chance.random() < self._lost:
                    self._is_closed.wait(self._late_s)
                while not may_go.wait(WAIT_S):
                    if self._is_closed.is_set():
                        return
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
