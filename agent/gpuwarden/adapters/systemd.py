"""The ``Runtime`` port for units of the host's systemd, nspawn machines among them.

``Restart=`` cannot be changed without a daemon-reload, which can take GPUs away from running
containers (nvidia-container-toolkit#48). A queued stop job does what is needed: of a unit that has one
systemd starts no other, however it dies (systemd.service(5)), and its settings stay as they are.
"""

import re
from collections.abc import Mapping

from gpuwarden.adapters.cgroup_unit import is_infrastructure
from gpuwarden.adapters.tenancy import key_of, tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Cgroups

_UNIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]{0,240}\.(?:service|scope)\Z", re.ASCII)
_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "InvocationID", "Restart", "User", "ControlGroup"),
    "Description",
)
_GONE = ("inactive", "failed")
_POLL_S = 0.1


class Systemd:
    """Implements ``ports.Runtime``. A unit is compared by its control group before it is stopped."""

    def __init__(self, systemctl: Tool, clock: Clock, cgroups: Cgroups | None = None) -> None:
        self._systemctl = systemctl
        self._clock = clock
        self._cgroups = cgroups

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        tenant = tenant_of_owner(owner)
        if tenant is None or owner.unit is None:
            raise Refused("it has no unit")
        shown = self._show(_checked(owner.unit), owner.cgroup_path)
        restart = shown.get("Restart", "no")
        return RuntimeFacts(
            tenant=tenant,
            described=True,
            name=owner.name or owner.unit,
            user=shown.get("User") or None,
            restart_policy=restart if restart else None,
            owner_key=tenant,
        )

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """Queue its stop, which cannot be taken back: whoever gets here is convicted. It hears its TERM
        as soon as it is not frozen any more. ``Refused`` when systemd has started another one since."""
        unit = _stoppable(target)
        if target.cgroup is not None and self._cgroups is not None:
            self._cgroups.is_populated(target.cgroup)
        shown = self._show(unit, target.cgroup.path if target.cgroup is not None else None)
        self._order("stop", "--no-block", "--", unit)
        return {"restart_policy": shown.get("Restart") or "no"}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        """Its settings were never touched: whoever starts it has what was there before."""

    def stop(self, target: Target, grace_s: float) -> None:
        """``systemctl stop``; what is left after ``grace_s`` is killed, also what systemd would leave
        behind (``KillMode=process``). Down and empty when this returns."""
        unit = _stoppable(target)
        cgroup_path = target.cgroup.path if target.cgroup is not None else None
        if _is_unknown(self._properties(unit)):
            return  # a transient unit is forgotten as soon as it is down
        if _is_over(self._show(unit, cgroup_path)):
            return
        self._order("stop", "--no-block", "--", unit)
        if grace_s > 0 and self._is_down(unit, grace_s):
            return
        self._order("kill", "--signal=SIGKILL", "--", unit)
        if not self._is_down(unit, self._systemctl.timeout_s):
            raise Unavailable(f"systemctl stop was taken but {unit} is still up")

    def restart(self, target: Target, grace_s: float) -> None:
        """``systemctl restart``; of its stop what is left after ``grace_s`` is killed. Another run when this
        returns. ``Refused`` where it is not up."""
        unit = _stoppable(target)
        shown = self._show(unit, target.cgroup.path if target.cgroup is not None else None)
        if shown.get("ActiveState") != "active":
            raise Refused(f"{unit} is {shown.get('ActiveState') or 'gone'}")
        before = shown.get("InvocationID", "")
        self._order("restart", "--no-block", "--", unit)
        if not self._is_another(unit, before, grace_s):
            self._order("kill", "--signal=SIGKILL", "--", unit)
            if not self._is_another(unit, before, self._systemctl.timeout_s):
                raise Unavailable(f"systemctl restart was taken but {unit} is the same run")

    def _is_another(self, unit: str, before: str, seconds: float) -> bool:
        """Whether another run of it has begun in time."""
        until = self._clock.now() + seconds
        while True:
            shown = self._properties(unit)
            now = shown.get("InvocationID", "")
            if now not in ("", before) and shown.get("ActiveState") in ("active", "activating"):
                return True
            if self._clock.now() >= until:
                return False
            self._clock.sleep(min(_POLL_S, max(0.01, until - self._clock.now())))

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("a unit's device is set in its own configuration")

    def _show(self, unit: str, cgroup_path: str | None) -> Mapping[str, str]:
        """Properties of the unit; ``Refused`` when it is not loaded or runs in another group."""
        shown = self._properties(unit)
        if _is_unknown(shown):
            raise Refused(f"systemd has no unit {unit}")
        group = shown.get("ControlGroup", "")
        if group and cgroup_path is not None and group != cgroup_path:
            raise Refused(f"systemd runs {unit} in {group}, not in {cgroup_path}")
        return shown

    def _properties(self, unit: str) -> Mapping[str, str]:
        wanted = ",".join(_PROPERTIES)
        answer = self._systemctl.run("show", f"--property={wanted}", "--", unit)
        if answer.status != 0:
            if "not been booted with systemd" in answer.err:
                raise Unsupported("systemd is not the running init")
            raise Unavailable(f"systemctl: {answer.why}")
        shown: dict[str, str] = {}
        for line in answer.out.splitlines():
            key, equals, value = line.partition("=")
            if equals and key in _PROPERTIES and key not in shown:
                shown[key] = value[:512]
        return shown

    def _is_down(self, unit: str, seconds: float) -> bool:
        until = self._clock.now() + seconds
        while not _is_over(self._properties(unit)):
            if self._clock.now() >= until:
                return False
            self._clock.sleep(min(_POLL_S, max(0.01, until - self._clock.now())))
        return True

    def _order(self, *args: str) -> None:
        answer = self._systemctl.run(*args)
        if answer.status != 0 and "not loaded" not in answer.err:
            raise Unavailable(f"systemctl {args[0]}: {answer.why}")


def _is_unknown(shown: Mapping[str, str]) -> bool:
    return shown.get("LoadState") == "not-found" and shown.get("ActiveState") in (None, *_GONE)


def _is_over(shown: Mapping[str, str]) -> bool:
    """Down, and its group removed: systemd does that as soon as the last process has left."""
    return shown.get("ActiveState") in _GONE and not shown.get("ControlGroup")


def _stoppable(target: Target) -> str:
    unit = _unit_of(target)
    if is_infrastructure(unit):
        raise Refused(f"{unit} serves the whole host")
    return unit


def _unit_of(target: Target) -> str:
    """The unit of a target: of a machine, the last part of its group's path."""
    if target.tenant.startswith("unit:"):
        return _checked(key_of(target.tenant))
    if target.tenant.startswith("nspawn:") and "@" not in target.tenant and target.cgroup:
        return _checked(target.cgroup.path.rpartition("/")[2])
    raise Refused(f"{target.tenant} names no unit of this host")


def _checked(unit: str) -> str:
    if not _UNIT.match(unit):
        raise Refused(f"{unit!r} is no unit name")
    return unit
