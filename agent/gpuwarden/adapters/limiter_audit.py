"""Reads back what the limiter was told: success without effect is otherwise never noticed."""

import threading

from gpuwarden.errors import GpuwardenError
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.snapshot import LimitReading
from gpuwarden.ports import Limiter

EVERY_S = 5.0
MAX_PAIRS = 1024


class AuditedLimiter:
    """A limiter whose limits are read back by a thread of its own, a few seconds after each was set and
    every few seconds from then on. The thread exists only once a limit has been set."""

    def __init__(self, limiter: Limiter, every_s: float = EVERY_S) -> None:
        self._limiter = limiter
        self._every_s = every_s
        self._lock = threading.Lock()
        self._pairs: dict[tuple[TenantId, DeviceId], Target] = {}
        self._readings: dict[tuple[TenantId, DeviceId], LimitReading] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.failures = 0

    @property
    def name(self) -> str:
        return self._limiter.name

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None:
        """Set it, and audit it from now on."""
        self._limiter.set(target, device, soft_bytes, hard_bytes)
        key = target.tenant, device
        with self._lock:
            self._readings.pop(key, None)  # what was read before is of the old limit
            if len(self._pairs) < MAX_PAIRS:
                self._pairs[key] = target
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limit-audit", daemon=True)
                self._thread.start()

    def clear(self, target: Target, device: DeviceId) -> None:
        """Clear it; it is audited no more."""
        with self._lock:
            self._pairs.pop((target.tenant, device), None)
            self._readings.pop((target.tenant, device), None)
        self._limiter.clear(target, device)

    def read(self, target: Target, device: DeviceId) -> LimitReading:
        """Ask now; blocks up to the deadline."""
        return self._limiter.read(target, device)

    def readings(self) -> tuple[LimitReading, ...]:
        """The newest reading of every limit; never blocks."""
        with self._lock:
            return tuple(self._readings.values())

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            with self._lock:
                pairs = list(self._pairs.items())
            for key, target in pairs:
                try:
                    reading = self._limiter.read(target, key[1])
                except GpuwardenError:
                    self.failures += 1
                    with self._lock:
                        self._readings.pop(key, None)  # not known is not the last known
                    continue
                with self._lock:
                    if key in self._pairs:
                        self._readings[key] = reading
