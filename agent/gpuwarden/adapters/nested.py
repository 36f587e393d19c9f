"""Owners inside other owners: a user's own container, a pod in a kind node, a container in a guest.

The host's runtime does not know them, and whoever runs the outer one may have named them as he liked.
So nothing is asked and no label counts; what is theirs is their cgroup, and only that is acted on: the
outer owner lives on, and so does whoever's name was borrowed.
"""

import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

from gpuwarden.adapters.cgroup_path import nested_in
from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.tenancy import is_nested, key_of, tenant_of_owner
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import CgroupId, DeviceId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Cgroups, Runtime

_POLL_S = 0.05


class ByCgroup:
    """Implements ``ports.Runtime`` for an owner of which only the cgroup is known."""

    def __init__(
        self,
        cgroups: Cgroups,
        clock: Clock,
        timeout_s: float,
        open_proc: Callable[[], ProcFs],
    ) -> None:
        self._cgroups = cgroups
        self._clock = clock
        self._timeout_s = timeout_s
        self._open_proc = open_proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        """Described, without labels: the operator's default counts for it."""
        tenant = tenant_of_owner(owner)
        if tenant is None or nested_in(owner.cgroup_path or "") is None:
            raise Refused("it has no name, or stands inside nothing")
        name = key_of(tenant)[:12] if owner.container_id else key_of(tenant)
        outer = tenant.rpartition("@")[2]
        return RuntimeFacts(
            tenant=tenant, described=True, name=f"{name} in {outer[:12]}", owner_key=tenant
        )

    def restart_off(self, target: Target) -> Mapping[str, str]:
        raise Unsupported("whoever runs it inside the outer owner may start it again")

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        """TERM to every member, the whole group killed after ``grace_s``; empty when this returns."""
        group = target.cgroup
        if group is None:
            raise Refused(f"{target.tenant} has no cgroup to act on")
        with suppress(_Emptied):
            if grace_s > 0:
                self._term(group)
                self._wait(group, grace_s)
            self._cgroups.kill(group)
            self._wait(group, self._timeout_s)
            raise Unavailable(f"cgroup {group.path} was killed but is not empty")

    def restart(self, target: Target, grace_s: float) -> None:
        raise Unsupported("what stands inside another owner cannot be started again from here")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("what stands inside another owner cannot be started again from here")

    def _term(self, group: CgroupId) -> None:
        processes = self._open_proc()
        try:
            for raw_pid in self._cgroups.members(group):
                facts = processes.facts(raw_pid)
                if facts is not None and facts.cgroup == group:
                    with suppress(Refused):
                        processes.signal(facts.pid, signal.SIGTERM)
        finally:
            processes.close()

    def _wait(self, group: CgroupId, seconds: float) -> None:
        """Until the time is up; ``_Emptied`` as soon as the group is empty or gone."""
        until = self._clock.now() + seconds
        while True:
            if not self._cgroups.is_same(group) or not self._cgroups.is_populated(group):
                raise _Emptied
            if self._clock.now() >= until:
                return
            self._clock.sleep(min(_POLL_S, max(0.001, until - self._clock.now())))


class _Emptied(Exception):
    """The group has no members any more."""


class ByPlace:
    """Implements ``ports.Runtime``: the host's runtime for what it runs itself, else ``inside``."""

    def __init__(self, host: Runtime, inside: Runtime) -> None:
        self._host = host
        self._inside = inside

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        tenant = tenant_of_owner(owner)
        runtime = self._inside if tenant is not None and is_nested(tenant) else self._host
        return runtime.describe(owner)

    def restart_off(self, target: Target) -> Mapping[str, str]:
        return self._of(target).restart_off(target)

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        self._of(target).restart_back(target, old)

    def stop(self, target: Target, grace_s: float) -> None:
        self._of(target).stop(target, grace_s)

    def restart(self, target: Target, grace_s: float) -> None:
        self._of(target).restart(target, grace_s)

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        return self._of(target).relocate(target, device, index)

    def _of(self, target: Target) -> Runtime:
        return self._inside if is_nested(target.tenant) else self._host
