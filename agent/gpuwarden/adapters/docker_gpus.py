"""Containers that were given a GPU, from the moment they start: long before one of them holds any of its memory.

Docker's start event names a container; a thread of its own asks Docker what that one was given. Nobody is asked
before somebody wants to know: a node without a cordon pays for a set of ids.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.docker_describe import given_devices, init_pid
from gpuwarden.adapters.dockerd import inspect
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.model.owner import GpuContainer

MAX_RUNNING = 4096
QUEUE = 256
RETRY_S = 1.0


@dataclass(slots=True)
class _Known:
    ask_again_at: float = 0.0
    is_settled: bool = False
    given: GpuContainer | None = None


class GpuContainers:
    """``heard`` is called on the thread of events, ``given`` on the loop's. ``told`` is called when something
    is known that was not. ``dropped`` counts containers that were too many to follow."""

    def __init__(self, door: DockerDoor, clock: Clock, told: Callable[[], None]) -> None:
        self._door = door
        self._clock = clock
        self._told = told
        self._lock = threading.Lock()
        self._running: dict[str, _Known] = {}
        self._asked: queue.Queue[str | None] = queue.Queue(maxsize=QUEUE)
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def heard(self, action: str, container_id: str) -> None:
        """A container started, or is no more."""
        with self._lock:
            if action == "start":
                if len(self._running) >= MAX_RUNNING:
                    self.dropped += 1
                    return
                self._running[container_id] = _Known()
            elif action in ("die", "destroy"):
                self._running.pop(container_id, None)

    def given(self) -> Sequence[GpuContainer]:
        """Those that run and were given a GPU, as far as is known; asks on. Never blocks."""
        now = self._clock.now()
        found = []
        with self._lock:
            for container_id, known in self._running.items():
                if known.given is not None:
                    found.append(known.given)
                elif not known.is_settled and now >= known.ask_again_at:
                    self._ask(container_id, known, now)
        return found

    def close(self, wait_s: float) -> None:
        """Ask the thread to end, and wait for it at most so long; it is a daemon thread."""
        if self._thread is None:
            return
        try:
            self._asked.put(None, timeout=wait_s)
        except queue.Full:
            return
        self._thread.join(wait_s)

    def _ask(self, container_id: str, known: _Known, now: float) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="docker-gpus", daemon=True)
            self._thread.start()
        try:
            self._asked.put_nowait(container_id)
        except queue.Full:
            return  # the next look asks again
        known.ask_again_at = now + self._door.timeout_s + RETRY_S

    def _work(self) -> None:
        while (container_id := self._asked.get()) is not None:
            try:
                with self._door.call() as client:
                    raw = inspect(client, container_id)
                pid, devices = init_pid(raw), given_devices(raw)
            except Refused:
                pid, devices = 0, ()
            except GpuwardenError:
                continue
            with self._lock:
                known = self._running.get(container_id)
                if known is None:
                    continue
                known.is_settled = True
                if pid > 0 and devices:
                    known.given = GpuContainer(pid=pid, devices=devices)
            if devices:
                self._told()
