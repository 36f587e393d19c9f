"""What the agent process itself costs, read at most every five seconds (the probe tells its own)."""

import ctypes
import gc
import os
from collections.abc import Mapping
from pathlib import Path

from gpuwarden.clock import Clock

EVERY_S = 5.0


class OwnCost:
    """CPU seconds (``/proc/self/schedstat``, nanoseconds on the CPU) and resident bytes."""

    def __init__(self, clock: Clock, proc: Path = Path("/proc/self")) -> None:
        self._clock = clock
        self._proc = proc
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._last: Mapping[str, float] = {}
        self._at = float("-inf")

    def __call__(self) -> Mapping[str, float]:
        """``cpu_s_total`` and ``rss_bytes``; what cannot be read is left out."""
        now = self._clock.now()
        if now - self._at >= EVERY_S:
            self._at = now
            self._last = {**self._cpu(), **self._rss()}
        return self._last

    def _cpu(self) -> Mapping[str, float]:
        """All threads: schedstat of a process is its main thread's, so each task is added."""
        nanoseconds = 0
        try:
            for task in (self._proc / "task").iterdir():
                nanoseconds += int((task / "schedstat").read_text("ascii").split()[0])
        except (OSError, ValueError, IndexError):
            times = os.times()
            return {"cpu_s_total": times.user + times.system}
        return {"cpu_s_total": nanoseconds / 1e9}

    def _rss(self) -> Mapping[str, float]:
        try:
            pages = int((self._proc / "statm").read_text("ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return {}
        return {"rss_bytes": float(pages * self._page)}


def give_back_start_up_memory() -> None:
    """What reading the configuration and the imports freed goes back to the kernel (glibc only)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def cuda_words(number: int) -> str:
    """13040 is CUDA 13.4; empty: not told."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""
