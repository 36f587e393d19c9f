"""Calls that heed no timeout of their own, waited for no longer than they may take."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from gpuwarden.errors import Unavailable

LEFT_BEHIND_MAX = 4
"""Calls that outlived their deadline (a name server or a peer that never ends): no more than these."""

Answer = TypeVar("Answer")


class Pending(Generic[Answer]):
    """A call under way."""

    def __init__(self, call: Callable[[], Answer], places: threading.Semaphore) -> None:
        self._call = call
        self._places = places
        self._is_done = threading.Event()
        self._answer: list[Answer] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """On a thread of its own."""
        try:
            self._answer.append(self._call())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            self._error = error
        finally:
            self._is_done.set()
            self._places.release()

    def wait(self, timeout_s: float) -> Answer:
        """What it returned or raised; ``Unavailable`` when it did neither in time."""
        if not self._is_done.wait(timeout_s):
            raise Unavailable(f"no answer within {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        return self._answer[0]


class Deadlines:
    """Runs calls on threads of their own, a bounded number of which may be left behind."""

    def __init__(self, name: str, most: int = LEFT_BEHIND_MAX) -> None:
        self._name = name
        self._most = most
        self._places = threading.Semaphore(most)

    def begin(self, call: Callable[[], Answer]) -> Pending[Answer]:
        """Start it; ``Unavailable`` while too many before it have not ended yet."""
        if not self._places.acquire(blocking=False):
            raise Unavailable(f"{self._most} calls before this one have not ended yet")
        pending = Pending(call, self._places)
        threading.Thread(target=pending.run, name=self._name, daemon=True).start()
        return pending

    def run(self, call: Callable[[], Answer], timeout_s: float) -> Answer:
        """Start it and wait for it."""
        return self.begin(call).wait(timeout_s)
