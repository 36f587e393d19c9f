"""Limiter back end ``nvml-memory-limits``: the driver's own limit per cgroup (r615 and later).

Its traps, and what is done about them: a limit on a parent never reaches the leaf, so the tenant's own
cgroup is named; a leaf that goes with its soft limit set leaks the reservation, so soft is zeroed
first and by itself; success may be without effect, so every set is read back; MIG slices are refused.
The calls run in the probe child: a driver that hangs does not take the agent with it.
"""

import os
from collections.abc import Sequence
from typing import Protocol

from gpuwarden.adapters.cgroup_tree import UNIFIED, find_layout
from gpuwarden.adapters.probe import layout
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import LimitReading

NAME = "nvml-memory-limits"
_NEVER = frozenset({layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND})


class LimitChannel(Protocol):
    """The probe's way to the driver for limits."""

    def limitable(self) -> Sequence[DeviceId]:
        """Devices that are seen and are no MIG slices."""
        ...

    def ask_limits(
        self, operation: int, device: DeviceId, path: str, soft: int = 0, hard: int = 0
    ) -> tuple[int, int, int, int]:
        """NVML return code, soft, hard, used; ``Unavailable`` without an answer in time."""
        ...


class NvmlMemoryLimits:
    """Limits through nvmlDeviceSetMemoryLimits_v1. Blocks up to the slow deadline: for workers."""

    name = NAME

    def __init__(self, channel: LimitChannel, root: str = "/sys/fs/cgroup") -> None:
        """``Unsupported`` on a host without a cgroup v2 tree."""
        self._channel = channel
        tree = find_layout(root).hierarchies.get(UNIFIED)
        if tree is None:
            raise Unsupported("memory limits need cgroup v2, and no v2 tree is mounted")
        self._tree = tree
        self._denied: set[tuple[str, DeviceId]] = set()
        """(tenant, device) whose last set was refused for want of permission."""

    def check(self) -> None:
        """Returns when the driver has memory limits; ``Unsupported`` never, ``Unavailable`` not yet."""
        devices = self._channel.limitable()
        if not devices:
            raise Unavailable("no device is seen yet")
        code, *_ = self._channel.ask_limits(layout.GET_LIMITS, devices[0], self._tree)
        # NOT_FOUND and the like are about this path; that it was looked at proves the function.
        if code in _NEVER:
            raise Unsupported(f"the driver says {layout.code_name(code)} (it needs r615 or later)")

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None:
        """Set and read back. ``Unavailable`` also when success had no effect: it says so."""
        path = self._leaf(target)
        soft = min(soft_bytes, hard_bytes)
        key = (target.tenant, device)
        code, *_ = self._channel.ask_limits(layout.SET_LIMITS, device, path, soft, hard_bytes)
        self._denied.discard(key)
        if code == layout.NO_PERMISSION:
            self._denied.add(key)
        _check(code, "set")
        code, soft_now, hard_now, _ = self._channel.ask_limits(layout.GET_LIMITS, device, path)
        _check(code, "read back")
        if (soft_now, hard_now) != (soft, hard_bytes):
            raise Unavailable(
                f"the driver took the limit and shows another: hard {_shown(hard_now)} instead of "
                f"{hard_bytes}, soft {_shown(soft_now)} instead of {soft}"
            )

    def clear(self, target: Target, device: DeviceId) -> None:
        """Zero the soft limit, then lift the hard one. ``Refused`` when the cgroup is gone already."""
        path = self._leaf(target)
        code, soft, hard, _ = self._channel.ask_limits(layout.GET_LIMITS, device, path)
        if code == layout.SUCCESS and soft:
            code, *_ = self._channel.ask_limits(layout.SET_LIMITS, device, path, 0, hard)
            _check(code, "zero the soft limit")
        code, *_ = self._channel.ask_limits(layout.SET_LIMITS, device, path, 0, layout.UNLIMITED)
        _check(code, "clear")
        self._denied.discard((target.tenant, device))

    def read(self, target: Target, device: DeviceId) -> LimitReading:
        """What the driver shows. ``Unsupported``: it has no limits; ``Unavailable``: it would not take
        the last one for want of permission, or does not answer; ``hard_bytes`` None: no limit stands."""
        path = self._leaf(target)
        if (target.tenant, device) in self._denied:
            _check(layout.NO_PERMISSION, "set")
        code, _, hard, used = self._channel.ask_limits(layout.GET_LIMITS, device, path)
        _check(code, "read")
        return LimitReading(
            tenant=target.tenant,
            device=device,
            hard_bytes=None if hard == layout.UNLIMITED else hard,
            used_bytes=None if used == layout.NOT_AVAILABLE else used,
            backend=self.name,
        )

    def _leaf(self, target: Target) -> str:
        """Full path of the tenant's own cgroup, if it is still the same directory."""
        cgroup = target.cgroup
        if cgroup is None or cgroup.hierarchy != UNIFIED:
            raise Unsupported("memory limits need the tenant in a cgroup v2 group of its own")
        path = os.path.normpath(self._tree + cgroup.path)
        if path == self._tree or not path.startswith(self._tree + "/"):
            raise Refused(f"{cgroup.path} is no group below the cgroup root")
        try:
            inode = os.lstat(path).st_ino
        except OSError as error:
            raise Refused(f"{path} is gone, and its limit with it") from error
        if inode != cgroup.inode:
            raise Refused(f"{path} is another group now")
        return path


def _check(code: int, what: str) -> None:
    """Raise what a return code means for the caller."""
    if code == layout.SUCCESS:
        return
    said = f"{what}: {layout.code_name(code)}"
    if code in _NEVER:
        raise Unsupported(f"{said}: this driver or device has no memory limits")
    if code == layout.NOT_FOUND:
        raise Refused(f"{said}: the driver does not find the cgroup")
    if code == layout.NO_PERMISSION:
        raise Unavailable(f"{said}: setting limits needs root in the host's namespaces")
    raise Unavailable(said)


def _shown(limit: int) -> str:
    return "none" if limit == layout.UNLIMITED else str(limit)
