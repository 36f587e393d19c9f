"""The ``Runtime`` port for Podman, through its command line: it needs no service that runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.docker_describe import (
    KEPT_POLICIES,
    facts_of,
    init_pid,
    policy_back,
    table,
    text,
)
from gpuwarden.adapters.tenancy import container_id_of, is_nested, tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Cgroups

COMES_BACK_WITHIN_S = 1.5
"""What Podman's clean-up of one container takes on a busy host, several times over."""
_POLL_S = 0.3
START_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run of a container. Podman counts the runs that its restart policy began, from 0 on since a
    person's."""

    started: str | None
    restarts: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "_Run":
        count = raw.get("RestartCount")
        return cls(
            started=text(table(raw, "State"), "StartedAt"),
            restarts=count if isinstance(count, int) else 0,
        )


class Podman:
    """Implements ``ports.Runtime`` for containers of the system's own Podman (not of a user's)."""

    def __init__(self, podman: Tool, cgroups: Cgroups | None = None, proc: str = "/proc") -> None:
        self._podman = podman
        self._cgroups = cgroups
        self._proc = proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        tenant = tenant_of_owner(owner)
        if tenant is None or owner.container_id is None:
            raise Refused("it has no container id")
        raw = self._inspect(_id_of(tenant), owner.cgroup_path)
        return facts_of({**raw, "Config": _config(raw)}, tenant)

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """``Unsupported`` before Podman 5, which alone can change the policy of a container."""
        container_id = _id_of(target.tenant)
        raw = self._inspect(container_id, target.cgroup.path if target.cgroup else None)
        policy = table(raw, "HostConfig", "RestartPolicy")
        name, count = text(policy, "Name") or "no", policy.get("MaximumRetryCount")
        if name not in KEPT_POLICIES:
            return {}
        self._update(container_id, "no")
        return {"Name": name, "MaximumRetryCount": str(count if isinstance(count, int) else 0)}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        back = policy_back(old)
        if back is None:
            return
        name, count = back
        policy = f"{name}:{count}" if name == "on-failure" and count else name
        self._update(_id_of(target.tenant), policy)

    def stop(self, target: Target, grace_s: float) -> None:
        """Stopped when this returns. A paused container is killed as it stands and never resumed; of
        the grace whole seconds count, rounded up.

        A container that ends by itself while it is to be stopped is not stopped for Podman, and is
        started again by its restart policy: so it is watched for a moment, and stopped once more. Whom
        somebody starts meanwhile is left alone: that is another run, judged anew.
        """
        clock, said = self._podman.clock, ""
        until = clock.now() + self._podman.timeout_s + grace_s
        watched_until = clock.now() + COMES_BACK_WITHIN_S
        run: _Run | None = None
        while (raw := self._look(target, was_stopped=bool(said))) is not None:
            now = _Run.of(raw)
            is_another = run is not None and now.started != run.started
            if is_another and run is not None and now.restarts <= run.restarts:
                return
            run = now
            if not _is_up(raw):
                if not _may_come_back(raw) or clock.now() >= watched_until:
                    return
                clock.sleep(_POLL_S)
            elif clock.now() >= until:
                raise Unavailable(f"podman stop: {said}")
            else:
                said = self._stop_once(raw, target, grace_s)
                watched_until, grace_s = clock.now() + COMES_BACK_WITHIN_S, 0.0

    def restart(self, target: Target, grace_s: float) -> None:
        """``Refused`` where it does not run, or is paused."""
        container_id, grace = _id_of(target.tenant), math.ceil(max(0.0, grace_s))
        raw = self._inspect(container_id, target.cgroup.path if target.cgroup else None)
        state = text(table(raw, "State"), "Status")
        if state != "running":
            raise Refused(f"it is {state or 'gone'}")
        answer = self._podman.run(
            "restart", f"--time={grace}", "--", container_id, extra_s=grace + START_S
        )
        if answer.status != 0:
            raise Unavailable(f"podman restart: {answer.why}")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("moving a Podman container to another device is not offered")

    def _look(self, target: Target, *, was_stopped: bool) -> Mapping[str, Any] | None:
        """``None``: it has been removed, as some are when they end."""
        try:
            path = target.cgroup.path if target.cgroup else None
            return self._inspect(_id_of(target.tenant), path)
        except Refused:
            if was_stopped:
                return None
            raise

    def _stop_once(self, raw: Mapping[str, Any], target: Target, grace_s: float) -> str:
        """What Podman says to it."""
        is_paused = table(raw, "State").get("Paused") is True
        if is_paused and target.cgroup is not None and self._cgroups is not None:
            self._cgroups.kill(target.cgroup)
            grace_s = 0.0
        grace = math.ceil(max(0.0, grace_s))
        ident = _id_of(target.tenant)
        return self._podman.run("stop", f"--time={grace}", ident, extra_s=grace).why

    def _inspect(self, container_id: str, cgroup_path: str | None) -> Mapping[str, Any]:
        answer = self._podman.run("inspect", "--type=container", "--format=json", container_id)
        if answer.status != 0:
            if "no such" in answer.err.lower():
                raise Refused(f"Podman does not know it: {answer.why}")
            raise Unavailable(f"podman inspect: {answer.why}")
        try:
            raw = json.loads(answer.out)[0]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise Unavailable("podman inspect answered garbage") from error
        if not isinstance(raw, dict) or raw.get("Id") != container_id:
            raise Unavailable("Podman answered about another container")
        pid = init_pid(raw)
        owner = owner_of_pid(pid, self._proc) if pid and cgroup_path is not None else None
        if owner is not None and owner.cgroup_path != cgroup_path:
            raise Refused(f"Podman runs this id in {owner.cgroup_path}, not in {cgroup_path}")
        return raw

    def _update(self, container_id: str, policy: str) -> None:
        answer = self._podman.run("update", f"--restart={policy}", container_id)
        if answer.status == 0:
            return
        if "unknown flag" in answer.err:
            raise Unsupported("this Podman cannot change a restart policy (needs 5.1)")
        raise Unavailable(f"podman update: {answer.why}")


def _config(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Podman names the image at the top; its ``Config.Image`` is the same where it is there."""
    config = dict(table(raw, "Config"))
    image = text(raw, "ImageName")
    return {**config, "Image": image} if image else config


def _may_come_back(raw: Mapping[str, Any]) -> bool:
    """Whether a restart policy stands that no stop of Podman's own has overruled."""
    policy = text(table(raw, "HostConfig", "RestartPolicy"), "Name")
    return policy in KEPT_POLICIES and table(raw, "State").get("StoppedByUser") is not True


def _is_up(raw: Mapping[str, Any]) -> bool:
    state = table(raw, "State")
    return state.get("Running") is True or text(state, "Status") in (
        "running",
        "paused",
        "stopping",
    )


def _id_of(tenant: TenantId) -> str:
    if is_nested(tenant):
        raise Refused("it belongs to a user's own Podman or stands inside another owner")
    return container_id_of(tenant)
