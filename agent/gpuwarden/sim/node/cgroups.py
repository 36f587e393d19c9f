"""The Cgroups port of a simulated node, with what v1 and v2 do differently."""

import signal
from collections.abc import Callable, Mapping, Sequence

from gpuwarden.errors import Gone, Refused, Unavailable, Unsupported
from gpuwarden.model.ids import CgroupId, TenantId
from gpuwarden.model.owner import CgroupOwner
from gpuwarden.model.tenant import HostLimits
from gpuwarden.sim.node.kernel import Kernel
from gpuwarden.sim.node.process import Group


class SimCgroups:
    """Implements ``ports.Cgroups`` over the kernel's groups."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.failing: dict[str, int] = {}
        """Operation -> how many of its next calls fail."""
        self.held_since: dict[str, float] = {}
        """Path of a group the agent froze -> since when."""
        self.holds: list[tuple[str, float, float]] = []
        """Past holds of the agent: path, from, to."""

    def locate(self, owner: CgroupOwner) -> CgroupId | None:
        group = self._kernel.groups.get(owner.cgroup_path or "")
        return None if group is None else _id(group)

    def is_same(self, cgroup: CgroupId) -> bool:
        group = self._kernel.groups.get(cgroup.path)
        return group is not None and group.inode == cgroup.inode

    def members(self, cgroup: CgroupId) -> Sequence[int]:
        return [p.pid.pid for p in self._kernel.members(self._same(cgroup))]

    def is_populated(self, cgroup: CgroupId) -> bool:
        try:
            return bool(self._kernel.members(self._same(cgroup)))
        except Gone:
            return False

    def is_frozen(self, cgroup: CgroupId) -> bool:
        return self._same(cgroup).is_frozen

    def freeze(self, cgroup: CgroupId) -> None:
        group = self._act("freeze", cgroup)
        self._note("freeze", group)
        group.is_frozen = True
        self.held_since.setdefault(group.path, self._kernel.clock.now())

    def thaw(self, cgroup: CgroupId) -> None:
        group = self._act("thaw", cgroup)
        self._note("thaw", group)
        self._release(group)

    def kill(self, cgroup: CgroupId) -> int:
        group = self._act("kill", cgroup)
        members = self._kernel.members(group)
        by_tenant: dict[TenantId, list[int]] = {}
        for process in members:
            by_tenant.setdefault(process.tenant, []).append(process.pid.pid)
        for tenant in by_tenant:
            hit = tuple(p.pid for p in members if p.tenant == tenant)
            self._kernel.ledger.note("kill", tenant, pids=hit)
        for process in members:
            self._kernel.deliver(process, signal.SIGKILL)
        if self._kernel.version == 1 and group.is_frozen:
            self._release(group)  # what is frozen dies only when it runs again
        return len(members)

    def throttle(
        self,
        cgroup: CgroupId,
        *,
        cpu_cores: float | None,
        memory_high_bytes: int | None,
        keep: Callable[[Mapping[str, str]], None],
    ) -> Mapping[str, str]:
        group = self._act("throttle", cgroup)
        wanted = {}
        if cpu_cores is not None:
            wanted["cpu.max"] = f"{int(cpu_cores * 100_000)} 100000"
        if memory_high_bytes is not None:
            wanted["memory.high"] = str(memory_high_bytes)
        keep(_different(group, wanted))
        self._note("throttle", group)
        return _put(group, wanted)

    def limit(self, cgroup: CgroupId, limits: HostLimits) -> Mapping[str, str]:
        group = self._act("limit", cgroup)
        wanted = {}
        if limits.memory_bytes is not None:
            wanted["memory.max"] = str(limits.memory_bytes)
        if limits.cpu_cores is not None:
            wanted["cpu.max"] = f"{int(limits.cpu_cores * 100_000)} 100000"
        self._note("set-host-limits", group)
        return _put(group, wanted)

    def restore(self, cgroup: CgroupId, old: Mapping[str, str]) -> None:
        group = self._act("restore", cgroup)
        self._note("restore", group, text=" ".join(f"{k}={v}" for k, v in old.items()))
        for name, value in old.items():
            if value:
                group.settings[name] = value
            else:
                group.settings.pop(name, None)

    def pressure(self, cgroup: CgroupId) -> Mapping[str, float]:
        return dict(self._same(cgroup).pressure)

    def _release(self, group: Group) -> None:
        group.is_frozen = False
        since = self.held_since.pop(group.path, None)
        if since is not None:
            self.holds.append((group.path, since, self._kernel.clock.now()))
        self._kernel.thawed(group)

    def forget(self, group: Group) -> None:
        """The group was removed: nothing is held in it any more."""
        since = self.held_since.pop(group.path, None)
        if since is not None:
            self.holds.append((group.path, since, self._kernel.clock.now()))

    def _same(self, cgroup: CgroupId) -> Group:
        group = self._kernel.groups.get(cgroup.path)
        if group is None:
            raise Gone(f"cgroup {cgroup.path} is not there any more")
        if group.inode != cgroup.inode:
            raise Refused(f"cgroup {cgroup.path} is another one now (its inode changed)")
        return group

    def _act(self, what: str, cgroup: CgroupId) -> Group:
        if cgroup.path == "/":
            raise Unsupported("the root group is never acted on")
        left = self.failing.get(what, 0)
        if left > 0:
            self.failing[what] = left - 1
            raise Unavailable(f"cannot write {what} of {cgroup.path}: input/output error")
        return self._same(cgroup)

    def _note(self, kind: str, group: Group, text: str = "") -> None:
        members = self._kernel.members(group)
        tenants = {p.tenant for p in members}
        for tenant in sorted(tenants):
            pids = tuple(p.pid for p in members if p.tenant == tenant)
            self._kernel.ledger.note(kind, tenant, pids=pids, text=text)
        if not tenants:
            self._kernel.ledger.note(kind, None, text=f"{group.path} {text}".rstrip())


def _id(group: Group) -> CgroupId:
    return CgroupId(path=group.path, inode=group.inode, hierarchy=group.hierarchy)


def _put(group: Group, wanted: Mapping[str, str]) -> dict[str, str]:
    """Write what differs; how it was."""
    old = _different(group, wanted)
    group.settings.update(wanted)
    return old


def _different(group: Group, wanted: Mapping[str, str]) -> dict[str, str]:
    """What is set otherwise, as it is now ("" : not set)."""
    return {k: group.settings.get(k, "") for k, v in wanted.items() if group.settings.get(k) != v}
