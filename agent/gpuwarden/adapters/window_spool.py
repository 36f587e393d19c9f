"""Windows for the aggregator in memory until they are acknowledged, and the verdicts that stand.

Bounded in bytes; the oldest go first and are counted. Windows are not kept over a restart: they are what a minute
looked like, and the events that follow from them are kept on disk.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from gpuwarden.model.evaluation import Cohort, Missing, Verdict, Window
from gpuwarden.wire.convert_window import to_verdict, to_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

BYTES_MAX = 4 * 2**20
"""About an hour of one service that tells all it has, at 10 KiB a window; less of several."""
VERDICTS_MAX = 256
WINDOW_MAX_BYTES = 48 * 1024
"""What is larger loses its largest distributions: values that are spread over 20 powers of ten."""


class WindowSpool:
    """Implements ``ports_evaluation.WindowSource``. Numbers go on over restarts: they begin at the milliseconds of
    the wall clock."""

    def __init__(self, wall: float, bytes_max: int = BYTES_MAX) -> None:
        self._lock = threading.Lock()
        self._last = int(wall * 1000)
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._verdicts: dict[tuple[str, Cohort], Verdict] = {}
        self._version = 0
        self.dropped = 0
        """Windows lost for want of room."""
        self.stir: Callable[[], None] = lambda: None
        """Told that there is something to send."""

    def put(self, window: Window, tenant: str, devices: Sequence[str]) -> None:
        """Keep a window until it is acknowledged."""
        message = to_window(window)
        message.tenant = tenant
        message.devices.extend(devices)
        with self._lock:
            self._last += 1
            message.sequence = self._last
            payload = _fitted(message).SerializeToString()
            self._waiting.append((self._last, payload))
            self._bytes += len(payload)
            while self._bytes > self._bytes_max and len(self._waiting) > 1:
                self._bytes -= len(self._waiting.popleft()[1])
                self.dropped += 1
        self.stir()

    def say(self, verdicts: Sequence[Verdict]) -> bool:
        """These stand now; whether one of them is news: its colour, or why there is none."""
        with self._lock:
            is_news = False
            for verdict in verdicts:
                key = (verdict.guardrail, verdict.cohort)
                before = self._verdicts.get(key)
                if before is None and len(self._verdicts) >= VERDICTS_MAX:
                    continue
                said = (verdict.colour, verdict.missing)
                is_news |= before is None or (before.colour, before.missing) != said
                self._verdicts[key] = verdict
            if is_news:
                self._version += 1
        if is_news:
            self.stir()
        return is_news

    def forget(self, cohorts: Sequence[Cohort]) -> None:
        """Nobody carries these any more."""
        with self._lock:
            for key in [key for key in self._verdicts if key[1] in cohorts]:
                del self._verdicts[key]

    def standing(self) -> list[Verdict]:
        with self._lock:
            return list(self._verdicts.values())

    def take(self, after: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        with self._lock:
            for number, payload in self._waiting:
                if number <= after:
                    continue
                size += len(payload)
                if len(found) >= count or size > max_bytes:
                    break
                found.append((number, payload))
        return found

    def acknowledge(self, upto: int) -> None:
        with self._lock:
            while self._waiting and self._waiting[0][0] <= upto:
                self._bytes -= len(self._waiting.popleft()[1])

    def verdicts(self, after: int) -> tuple[int, Sequence[bytes]]:
        with self._lock:
            if self._version == after:
                return after, ()
            told = [to_verdict(each).SerializeToString() for each in self._verdicts.values()]
            return self._version, told


def _fitted(message: pb.ServiceWindow) -> pb.ServiceWindow:
    """A window that fits a message."""
    while message.ByteSize() > WINDOW_MAX_BYTES and (message.sketches or message.categories):
        series = message.sketches or message.categories
        sizes = [each.ByteSize() for each in series]
        largest = sizes.index(max(sizes))
        name = series[largest].name
        del series[largest]
        message.lacks.add(series=name, why=Missing.UNREADABLE.value, detail="too large to be sent")
    return message
