"""Several runtimes that may know an owner: the first that does answers (a pod's bare container id)."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from gpuwarden.errors import Refused, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Runtime

Value = TypeVar("Value")


class FirstOf:
    """Implements ``ports.Runtime``. One that refuses or is not here passes the call on; one that does
    not answer ends it (``Unavailable``), because it may be the one that knows.
    """

    def __init__(self, runtimes: Sequence[Runtime]) -> None:
        self._runtimes = runtimes

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        return self._first(lambda runtime: runtime.describe(owner))

    def restart_off(self, target: Target) -> Mapping[str, str]:
        return self._first(lambda runtime: runtime.restart_off(target))

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        self._first(lambda runtime: runtime.restart_back(target, old))

    def stop(self, target: Target, grace_s: float) -> None:
        self._first(lambda runtime: runtime.stop(target, grace_s))

    def restart(self, target: Target, grace_s: float) -> None:
        self._first(lambda runtime: runtime.restart(target, grace_s))

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        return self._first(lambda runtime: runtime.relocate(target, device, index))

    def _first(self, call: Callable[[Runtime], Value]) -> Value:
        reasons = []
        for runtime in self._runtimes:
            try:
                return call(runtime)
            except (Refused, Unsupported) as error:
                reasons.append(str(error))
        raise Refused("; ".join(reasons))


class OnlyWhere:
    """Implements ``ports.Runtime``: a runtime that is ``Unsupported``, for ``why``, while it is not there."""

    def __init__(self, runtime: Runtime, is_there: Callable[[], bool], why: str) -> None:
        self._runtime = runtime
        self._is_there = is_there
        self._why = why

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        return self._there().describe(owner)

    def restart_off(self, target: Target) -> Mapping[str, str]:
        return self._there().restart_off(target)

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        self._there().restart_back(target, old)

    def stop(self, target: Target, grace_s: float) -> None:
        self._there().stop(target, grace_s)

    def restart(self, target: Target, grace_s: float) -> None:
        self._there().restart(target, grace_s)

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        return self._there().relocate(target, device, index)

    def _there(self) -> Runtime:
        if not self._is_there():
            raise Unsupported(self._why)
        return self._runtime
