"""A runtime that is loaded when the first tenant of its kind asks: most hosts have one kind, not six."""

import threading
from collections.abc import Callable, Mapping

from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Runtime


class Late:
    """Implements ``ports.Runtime``: ``make`` is called once, by whoever asks first."""

    def __init__(self, make: Callable[[], Runtime]) -> None:
        self._make = make
        self._made: Runtime | None = None
        self._lock = threading.Lock()

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        return self._runtime().describe(owner)

    def restart_off(self, target: Target) -> Mapping[str, str]:
        return self._runtime().restart_off(target)

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        self._runtime().restart_back(target, old)

    def stop(self, target: Target, grace_s: float) -> None:
        self._runtime().stop(target, grace_s)

    def restart(self, target: Target, grace_s: float) -> None:
        self._runtime().restart(target, grace_s)

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        return self._runtime().relocate(target, device, index)

    def _runtime(self) -> Runtime:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made
