"""A status board for tests: holds the newest picture and wakes who waits for it."""

import threading

from gpuwarden.errors import Unavailable
from gpuwarden.model.service import Fitness
from gpuwarden.model.status import View


class Board:
    """``ViewSource`` in memory; with no picture yet it is unavailable."""

    def __init__(self, newest: View | None = None, fit: dict[str, Fitness] | None = None) -> None:
        self.fit = fit or {}
        self._newest = newest
        self._changed = threading.Condition()

    def publish(self, view: View) -> None:
        with self._changed:
            self._newest = view
            self._changed.notify_all()

    def view(self) -> View:
        with self._changed:
            if self._newest is None:
                raise Unavailable("no tick has finished yet")
            return self._newest

    def fitness(self, name: str, now: float) -> Fitness | None:
        self.view()
        return self.fit.get(name)

    def wait_newer(self, serial: int, timeout_s: float) -> View | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._newest is not None and self._newest.serial > serial, timeout_s
            )
            if self._newest is None or self._newest.serial <= serial:
                return None
            return self._newest
