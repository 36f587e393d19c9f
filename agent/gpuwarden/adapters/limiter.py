"""The preventive limiter: which back end this host has, found by asking, never by version string.

Asking needs a probe child that sees a device, so the answer comes after the start; until then, and
where nothing answers, the name is ``none``.
"""

import threading
from collections.abc import Callable

from gpuwarden.adapters.limiter_mps import MpsPinned
from gpuwarden.adapters.limiter_nvml import LimitChannel, NvmlMemoryLimits
from gpuwarden.config import Config
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import LimitReading
from gpuwarden.ports import Limiter

ASK_EVERY_S = 10.0
"""How often the host is asked again while it has not answered for certain."""


class NoLimiter:
    """Nothing prevents; the reactive engine is alone. ``reason`` says why."""

    name = "none"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None:
        raise Unsupported(f"no preventive limiter: {self.reason}")

    def clear(self, target: Target, device: DeviceId) -> None:
        raise Unsupported(f"no preventive limiter: {self.reason}")

    def read(self, target: Target, device: DeviceId) -> LimitReading:
        raise Unsupported(f"no preventive limiter: {self.reason}")


class ProbedLimiter:
    """The first back end that answers. Asked on a thread of its own: an answer may take seconds."""

    def __init__(self, candidates: tuple[tuple[Limiter, Callable[[], None]], ...]) -> None:
        """``candidates``: back end and its check, which returns when it works and raises why not."""
        self._candidates = candidates
        self._chosen: Limiter = NoLimiter("it has not been asked yet")
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="limiter", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._chosen.name

    @property
    def reason(self) -> str:
        """Why there is none, as far as it is known; empty where there is one."""
        return self._chosen.reason if isinstance(self._chosen, NoLimiter) else ""

    def wait_settled(self, timeout_s: float) -> bool:
        """Whether every candidate has said yes or never."""
        return self._settled.wait(timeout_s)

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None:
        self._chosen.set(target, device, soft_bytes, hard_bytes)

    def clear(self, target: Target, device: DeviceId) -> None:
        self._chosen.clear(target, device)

    def read(self, target: Target, device: DeviceId) -> LimitReading:
        return self._chosen.read(target, device)

    def _ask(self) -> None:
        waiting = list(self._candidates)
        wait_s = 0.25
        reasons: dict[str, str] = {}
        while waiting:
            for candidate in list(waiting):
                backend, check = candidate
                try:
                    check()
                except Unavailable as error:
                    reasons[backend.name] = str(error)
                    break  # a better one may still answer: the lesser ones wait for its word
                except GpuwardenError as error:
                    reasons[backend.name] = str(error)
                    waiting.remove(candidate)
                    continue
                self._chosen = backend
                self._settled.set()
                return
            said = "; ".join(f"{name}: {why}" for name, why in reasons.items())
            self._chosen = NoLimiter(said or "none is configured")
            if not waiting:
                break
            self._settled.wait(wait_s)  # never set before the end: a pause that needs no clock
            wait_s = min(wait_s * 2, ASK_EVERY_S)
        self._settled.set()


def choose_limiter(cfg: Config, channel: LimitChannel) -> Limiter:
    """The back end of the configuration, or with ``auto`` the first that works on this host."""
    wanted = cfg.nvml.limiter
    if wanted == "none":
        return NoLimiter("switched off by nvml.limiter")
    candidates: list[tuple[Limiter, Callable[[], None]]] = []
    reasons: list[str] = []
    if wanted in ("auto", "nvml-memory-limits"):
        try:
            nvml = NvmlMemoryLimits(channel)
            candidates.append((nvml, nvml.check))
        except (Unsupported, Refused) as error:
            reasons.append(f"nvml-memory-limits: {error}")
    if wanted in ("auto", "mps-pinned"):
        mps = MpsPinned()
        candidates.append((mps, mps.check))
    if not candidates:
        return NoLimiter("; ".join(reasons))
    return ProbedLimiter(tuple(candidates))
