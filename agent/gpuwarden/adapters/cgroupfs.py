"""The ``Cgroups`` port on cgroupfs: v1, v2 and hybrid.

A group's identity is its directory in one hierarchy: the v2 tree, or on v1 the freezer (what freezes
must be what is killed), else the first hierarchy that holds it. Limits of v1 live in the directory of
the same path in another hierarchy; that one must hold processes of the group, or nothing is written.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from gpuwarden.adapters.cgroup_limits import (
    RESTORABLE,
    SAFE_VALUE,
    Plan,
    is_as_written,
    limit_plan,
    parse_pressure,
    throttle_plan,
)
from gpuwarden.adapters.cgroup_members import has_monitors, tenant_members
from gpuwarden.adapters.cgroup_tree import (
    UNIFIED,
    Group,
    find_layout,
    has_members,
    is_actable,
    members,
    opened,
    same,
)
from gpuwarden.errors import Gone, GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.model.ids import CgroupId
from gpuwarden.model.owner import CgroupOwner
from gpuwarden.model.tenant import HostLimits

_IDENTITY_ORDER = ("freezer", UNIFIED, "pids", "memory", "cpu", "devices", "systemd")
_KILL_PASSES = 100
_PRESSURES = ("memory", "cpu", "io")


def _own_cgroups() -> str:
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


class CgroupFs:
    """Implements ``ports.Cgroups``. ``root`` is where cgroupfs is mounted; a recorded tree will do.

    ``own_cgroups`` gives the agent's own ``/proc/self/cgroup``: its groups and all above them are
    refused, as is every group that holds the agent or pid 1.
    """

    def __init__(
        self, root: str = "/sys/fs/cgroup", own_cgroups: Callable[[], str] = _own_cgroups
    ) -> None:
        self._layout = find_layout(root)
        self._own_cgroups = own_cgroups
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def locate(self, owner: CgroupOwner) -> CgroupId | None:
        """The directory to act on; the first hierarchy where the group has members, else any."""
        path = owner.cgroup_path
        if path is None or not is_actable(path):
            return None
        empty: CgroupId | None = None
        known = self._layout.hierarchies
        for hierarchy in (*_IDENTITY_ORDER, *sorted(set(known) - set(_IDENTITY_ORDER))):
            if hierarchy not in known:
                continue
            with suppress(GpuwardenError), opened(self._layout, hierarchy, path) as group:
                cgroup = CgroupId(path=path, inode=group.inode, hierarchy=hierarchy)
                if self._layout.is_unified or has_members(group):
                    return cgroup
                empty = empty or cgroup
        return empty

    def is_same(self, cgroup: CgroupId) -> bool:
        try:
            with same(self._layout, cgroup):
                return True
        except Refused:
            return False

    def members(self, cgroup: CgroupId) -> Sequence[int]:
        """Without monitors that live in the same group (slurmstepd, nspawn's supervisor)."""
        with same(self._layout, cgroup) as group:
            return sorted(tenant_members(group))

    def is_populated(self, cgroup: CgroupId) -> bool:
        try:
            with same(self._layout, cgroup) as group:
                if cgroup.hierarchy == UNIFIED:
                    return _event(group, "populated")
                return bool(members(group))
        except Gone:
            return False

    def is_frozen(self, cgroup: CgroupId) -> bool:
        with same(self._layout, cgroup) as group:
            if cgroup.hierarchy == UNIFIED:
                return _event(group, "frozen")
            return cgroup.hierarchy == "freezer" and group.read("freezer.state") == "FROZEN"

    def freeze(self, cgroup: CgroupId) -> None:
        """Ask for the freeze; it is done when ``is_frozen`` says so."""
        with self._harmed(cgroup) as group:
            self._set_frozen(group, True)

    def thaw(self, cgroup: CgroupId) -> None:
        with same(self._layout, cgroup) as group:
            self._set_frozen(group, False)

    def kill(self, cgroup: CgroupId) -> int:
        """Monitors are spared; where there are any, the others are killed one by one."""
        with self._harmed(cgroup) as group:
            is_atomic = cgroup.hierarchy == UNIFIED and not has_monitors(group)
            if is_atomic and group.has("cgroup.kill"):
                count = len(members(group))
                group.write("cgroup.kill", "1")
                return count
            return self._kill_one_by_one(group)

    def throttle(
        self,
        cgroup: CgroupId,
        *,
        cpu_cores: float | None,
        memory_high_bytes: int | None,
        keep: Callable[[Mapping[str, str]], None],
    ) -> Mapping[str, str]:
        """``Unsupported`` only when none of what was asked can be done here; never loosens a limit."""
        with self._harmed(cgroup) as group, self._files(group) as read_write:
            plan = throttle_plan(
                read_write.read, cpu_cores=cpu_cores, memory_high_bytes=memory_high_bytes
            )
            asked = (cpu_cores is not None) + (memory_high_bytes is not None)
            if plan.missing and len(plan.missing) == asked:
                raise _missing(plan, cgroup)
            keep({write.name: write.old for write in plan.writes})
            return self._carry_out(plan, read_write)

    def limit(self, cgroup: CgroupId, limits: HostLimits) -> Mapping[str, str]:
        """All or nothing (``Unsupported`` names the controller); never loosens: ``restore`` first.

        A group that already uses more than the limit gets ``memory.high`` alone: the returned mapping
        then has no ``memory.max``.
        """
        with self._harmed(cgroup) as group, self._files(group) as read_write:
            plan = limit_plan(
                read_write.read, cpu_cores=limits.cpu_cores, memory_bytes=limits.memory_bytes
            )
            if plan.missing:
                raise _missing(plan, cgroup)
            return self._carry_out(plan, read_write)

    def restore(self, cgroup: CgroupId, old: Mapping[str, str]) -> None:
        """Every file is tried; the first error is raised afterwards."""
        first: GpuwardenError | None = None
        with same(self._layout, cgroup) as group, self._files(group) as files:
            # hard limits first: v1 refuses a soft value above the hard one on some kernels
            for name in sorted(old, key=lambda one: "soft" in one or "high" in one):
                if not RESTORABLE.match(name) or not SAFE_VALUE.match(old[name]):
                    first = first or Refused(
                        f"{name}={old[name]!r} is nothing this agent would set"
                    )
                    continue
                try:
                    files.write(name, old[name])
                except GpuwardenError as error:
                    first = first or error
        if first is not None:
            raise first

    def pressure(self, cgroup: CgroupId) -> Mapping[str, float]:
        """``Unsupported`` where the kernel keeps no PSI of groups (v1)."""
        values: dict[str, float] = {}
        with same(self._layout, cgroup) as group, self._files(group) as files:
            for resource in _PRESSURES:
                text = files.read(f"{resource}.pressure")
                if text is not None:
                    values.update(parse_pressure(resource, text))
        if not values:
            raise Unsupported(f"no pressure is kept of cgroup {cgroup.path}")
        return values

    @contextmanager
    def _harmed(self, cgroup: CgroupId) -> Iterator[Group]:
        """The group, checked: it is the same one and not one the agent lives in or below."""
        for line in self._own_cgroups().splitlines():
            own = line.split(":", 2)[-1]
            if own == cgroup.path or own.startswith(cgroup.path + "/"):
                raise Refused(f"cgroup {cgroup.path} holds the agent itself")
        with same(self._layout, cgroup) as group:
            if members(group) & {1, os.getpid()}:
                raise Refused(f"cgroup {cgroup.path} holds the agent itself or init")
            yield group

    def _set_frozen(self, group: Group, is_frozen: bool) -> None:
        if group.hierarchy == UNIFIED:
            name, value = "cgroup.freeze", "1" if is_frozen else "0"
        elif group.hierarchy == "freezer":
            name, value = "freezer.state", "FROZEN" if is_frozen else "THAWED"
        else:
            raise Unsupported(f"cgroup {group.path} has no freezer")
        group.write(name, value)
        found = group.read(name)
        if found != value and not (is_frozen and found == "FREEZING"):
            raise Unavailable(f"{name} of cgroup {group.path} reads {found!r}, not {value}")

    def _kill_one_by_one(self, group: Group) -> int:
        """Freeze, SIGKILL every member until no new one shows, thaw (v1; v2 before Linux 5.14).

        Members cannot fork while frozen and die of the pending signal when thawed; where there is no
        freezer the passes alone must outrun the forks, so they are bounded.
        """
        hit: set[int] = set()
        is_freezable = group.hierarchy in (UNIFIED, "freezer")
        if is_freezable:
            self._set_frozen(group, True)
        try:
            self._signal_until_quiet(group, hit)
        finally:
            if is_freezable:
                with suppress(Gone):  # its manager removes it as soon as its last member is gone
                    self._set_frozen(group, False)
        with suppress(Refused):
            self._signal_until_quiet(group, hit)
        return len(hit)

    def _signal_until_quiet(self, group: Group, hit: set[int]) -> None:
        for _ in range(_KILL_PASSES):
            new = tenant_members(group) - hit
            if not new:
                return
            hit |= _kill_members(group, new)
        raise Unavailable(f"cgroup {group.path} grows faster than it can be killed")

    @contextmanager
    def _files(self, group: Group) -> Iterator["_Files"]:
        """Files of the group in all hierarchies."""
        files = _Files(group)
        try:
            if group.hierarchy != UNIFIED or not self._layout.is_unified:
                mine = members(group)
                for controller in ("memory", "cpu", UNIFIED):
                    if controller == group.hierarchy or controller not in self._layout.hierarchies:
                        continue
                    with suppress(Refused):
                        files.add(controller, self._sibling(group, controller, mine))
            yield files
        finally:
            files.close()

    def _sibling(self, identity: Group, controller: str, mine: set[int]) -> Group:
        """The same path in another hierarchy; ``Refused`` unless it holds the group's processes alone."""
        path = identity.path
        with opened(self._layout, controller, path) as group:
            theirs = members(group)
            foreign = theirs - mine
            if foreign:  # or forked, or gone, since they were listed
                foreign = (foreign - members(identity)) & members(group)
            if foreign or (mine and not theirs):
                raise Refused(f"cgroup {path} of {controller} holds other processes")
            return Group(fd=os.dup(group.fd), path=path, hierarchy=controller)

    def _carry_out(self, plan: Plan, files: "_Files") -> Mapping[str, str]:
        old: dict[str, str] = {}
        try:
            for write in plan.writes:
                old[write.name] = write.old
                files.write(write.name, write.value)
                found = files.read(write.name) or ""
                if not is_as_written(write.name, write.value, found, self._page_bytes):
                    raise Unavailable(f"{write.name} reads {found!r} after writing {write.value}")
        except GpuwardenError:
            for name, value in reversed(old.items()):
                with suppress(GpuwardenError):
                    files.write(name, value)
            raise
        return old


class _Files:
    """Limit files of one group, wherever their controller is mounted."""

    def __init__(self, group: Group) -> None:
        self._groups = [group]
        self._borrowed: list[Group] = []

    def add(self, controller: str, group: Group) -> None:
        self._groups.append(group)
        self._borrowed.append(group)

    def read(self, name: str) -> str | None:
        for group in self._groups:
            if group.has(name):
                return group.read(name)
        return None

    def write(self, name: str, value: str) -> None:
        for group in self._groups:
            if group.has(name):
                group.write(name, value)
                return
        raise Unsupported(f"no {name} for cgroup {self._groups[0].path}")

    def close(self) -> None:
        for group in self._borrowed:
            os.close(group.fd)


def _missing(plan: Plan, cgroup: CgroupId) -> Unsupported:
    names = " and ".join(plan.missing)
    return Unsupported(f"cgroup {cgroup.path} has no {names} controller")


def _event(group: Group, key: str) -> bool:
    # cgroup.events: "populated 1\nfrozen 0"
    for line in group.read("cgroup.events").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return value == "1"
    raise Unsupported(f"cgroup.events of {group.path} does not tell {key}")


def _kill_members(group: Group, pids: set[int]) -> set[int]:
    """SIGKILL through pidfds, each opened before the membership is read once more; those hit."""
    fds: dict[int, int] = {}
    hit: set[int] = set()
    try:
        for pid in sorted(pids)[:512]:  # bounded: descriptors are finite
            with suppress(ProcessLookupError):
                fds[pid] = os.pidfd_open(pid)
        still = tenant_members(group)
        for pid, fd in fds.items():
            if pid in still:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    hit.add(pid)
    except OSError as error:
        raise Unavailable(f"killing members of cgroup {group.path}: {error.strerror}") from error
    finally:
        for fd in fds.values():
            os.close(fd)
    return hit
