"""What the agent itself costs, read at most every five seconds: CPU and memory of it and its children."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuwarden.clock import Clock

EVERY_S = 5.0


class OwnCost:
    """CPU seconds (``/proc/<pid>/schedstat``, nanoseconds on the CPU) and resident bytes."""

    def __init__(self, clock: Clock, proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._proc = proc
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._last: Mapping[str, float] = {}
        self._at = float("-inf")

    def __call__(self, children: Sequence[int]) -> Mapping[str, float]:
        """``cpu_s_total``, ``rss_bytes``, ``probe_cpu_s_total``, ``probe_rss_bytes``."""
        now = self._clock.now()
        if now - self._at >= EVERY_S:
            self._at = now
            cpu, rss = self._of(os.getpid())
            probe = [self._of(pid) for pid in children]
            self._last = {
                "cpu_s_total": cpu,
                "rss_bytes": rss,
                "probe_cpu_s_total": sum(c for c, _ in probe),
                "probe_rss_bytes": sum(r for _, r in probe),
            }
        return self._last

    def _of(self, pid: int) -> tuple[float, float]:
        """CPU seconds and resident bytes; zeros for a process that has just gone."""
        folder = self._proc / str(pid)
        try:
            nanoseconds = int((folder / "schedstat").read_text("ascii").split()[0])
            pages = int((folder / "statm").read_text("ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return 0.0, 0.0
        return nanoseconds / 1e9, float(pages * self._page)
