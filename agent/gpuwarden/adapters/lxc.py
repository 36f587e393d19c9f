"""The ``Runtime`` port for LXC guests: lxc-info tells, lxc-stop stops. LXD and Incus guests carry the
same cgroup names and are refused here, because LXC's own tools do not know them.
"""

import math
import re
from collections.abc import Mapping

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.tenancy import is_nested, key_of, tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z", re.ASCII)


class Lxc:
    """Implements ``ports.Runtime`` for the guests of LXC's own configuration path."""

    def __init__(self, info: Tool, stop: Tool, proc: str = "/proc") -> None:
        self._info = info
        self._stop = stop
        self._proc = proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        tenant = tenant_of_owner(owner)
        if tenant is None:
            raise Refused("it has no name")
        name = _name_of(tenant)
        state, _ = self._ask(name, owner.cgroup_path)
        if self._stop.where() is None:
            raise Unsupported("no lxc-stop here: nobody can stop a guest")
        return RuntimeFacts(
            tenant=tenant,
            described=True,
            name=name,
            is_paused=state == "FROZEN",
            owner_key=f"lxc:{name}",
        )

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """LXC starts a guest at boot only; a guest that ended stays down."""
        return {}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        """The guest's own shutdown, ``grace_s`` (in whole seconds, rounded up), then kill; stopped when
        this returns. A frozen guest dies as it stands: it could not shut down.
        """
        name = _name_of(target.tenant)
        state, _ = self._ask(name, target.cgroup.path if target.cgroup else None)
        if state == "STOPPED":
            return
        grace = 0 if state == "FROZEN" else math.ceil(max(0.0, grace_s))
        how = f"--timeout={grace}" if grace else "--kill"
        answer = self._stop.run(f"--name={name}", how, extra_s=grace)
        state, _ = self._ask(name, None)
        if state != "STOPPED":
            raise Unavailable(f"lxc-stop: {answer.why}; the guest is {state}")

    def restart(self, target: Target, grace_s: float) -> None:
        raise Unsupported("restarting an LXC guest is not offered")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("a guest's device is set in its own configuration")

    def _ask(self, name: str, cgroup_path: str | None) -> tuple[str, int]:
        """The guest's state and the host pid of its init (0: none)."""
        answer = self._info.run(f"--name={name}", "--state", "--pid")
        if answer.status != 0:
            if "doesn't exist" in answer.why:
                raise Refused(f"LXC does not know it: {answer.why}")
            raise Unavailable(f"lxc-info: {answer.why}")
        # State:          RUNNING
        # PID:            4711
        pairs = (line.partition(":") for line in answer.out.splitlines())
        told = {key.strip(): value.strip() for key, _, value in pairs}
        pid = int(told["PID"]) if told.get("PID", "").isdigit() else 0
        owner = owner_of_pid(pid, self._proc) if pid and cgroup_path is not None else None
        if owner is not None and owner.cgroup_path != cgroup_path:
            raise Refused(f"LXC runs {name} in {owner.cgroup_path}, not in {cgroup_path}")
        return told.get("State", "UNKNOWN"), pid


def _name_of(tenant: TenantId) -> str:
    if is_nested(tenant):
        raise Refused("the guest stands inside another owner or belongs to a user")
    name = key_of(tenant)
    if not tenant.startswith("lxc:") or not _NAME.match(name):
        raise Refused(f"{tenant} names no guest")
    return name
