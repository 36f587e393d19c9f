"""The ``Runtime`` port for Docker. What is done is verified by the container's full id.

``docker update`` of the restart policy goes only to containers that are about to be stopped: on hosts
of the systemd cgroup driver it can take the GPU away from a running container
(nvidia-container-toolkit#48).
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.docker_client import Client, DockerDoor
from gpuwarden.adapters.docker_describe import (
    KEPT_POLICIES,
    facts_of,
    init_pid,
    policy_back,
    table,
    text,
)
from gpuwarden.adapters.docker_relocate import Move
from gpuwarden.adapters.tenancy import container_id_of, is_nested, tenant_of_owner
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Cgroups

START_S = 20.0
"""What a start may take beside the stop's grace: mounts, the GPU's own hooks, a busy daemon."""


class Docker:
    """Implements ``ports.Runtime``; any thread may call it, each gets a client of its own.

    ``cgroups`` ends a paused container where it stands; without it Docker would first resume it.
    """

    def __init__(self, door: DockerDoor, cgroups: Cgroups | None, proc: str = "/proc") -> None:
        self._door = door
        self._cgroups = cgroups
        self._proc = proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        """``Refused`` when Docker does not know the id, or knows it at another place."""
        tenant = tenant_of_owner(owner)
        if tenant is None or owner.container_id is None:
            raise Refused("it has no container id")
        if is_nested(tenant):
            raise Refused("it stands inside another owner: the host's Docker does not know it")
        with self._door.call() as client:
            raw = inspect(client, owner.container_id)
            self._compare(raw, owner.cgroup_path)
            return facts_of(raw, tenant)

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """Empty where it had no restart policy: then there is nothing to give back."""
        container_id = container_id_of(target.tenant)
        with self._door.call() as client:
            raw = self._same(client, target, container_id)
            policy = table(raw, "HostConfig", "RestartPolicy")
            name = text(policy, "Name") or "no"
            if name not in KEPT_POLICIES:
                return {}
            count = policy.get("MaximumRetryCount")
            client.update_container(container_id, restart_policy={"Name": "no"})
            now = table(inspect(client, container_id), "HostConfig", "RestartPolicy")
            if text(now, "Name") not in ("no", ""):
                raise Unavailable("Docker took the update but the restart policy stays")
            return {"Name": name, "MaximumRetryCount": str(count if isinstance(count, int) else 0)}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        """Nothing to do when there was no policy, or the container is gone meanwhile."""
        back = policy_back(old)
        if back is None:
            return
        name, count = back
        container_id = container_id_of(target.tenant)
        policy: dict[str, Any] = {"Name": name}
        if name == "on-failure":
            policy["MaximumRetryCount"] = count
        with suppress(Refused), self._door.call() as client:
            client.update_container(container_id, restart_policy=policy)
            now = table(inspect(client, container_id), "HostConfig", "RestartPolicy")
            if text(now, "Name") != name:
                raise Unavailable("Docker took the update but the restart policy is another")

    def stop(self, target: Target, grace_s: float) -> None:
        """Stopped when this returns. A paused container is killed as it stands and never resumed; of
        the grace whole seconds count, rounded up.
        """
        container_id = container_id_of(target.tenant)
        with self._door.call(extra_s=math.ceil(grace_s)) as client:
            raw = self._same(client, target, container_id)
            if not _is_up(raw):
                return
            if table(raw, "State").get("Paused") is True:
                if target.cgroup is not None and self._cgroups is not None:
                    self._cgroups.kill(target.cgroup)
                else:
                    client.kill(container_id, signal="SIGKILL")
                grace_s = 0
            client.stop(container_id, timeout=math.ceil(grace_s))
        with suppress(Refused), self._door.call() as client:  # some are removed when they end
            if _is_up(inspect(client, container_id)):
                raise Unavailable("Docker took the stop but the container still runs")

    def restart(self, target: Target, grace_s: float) -> None:
        """Runs again, as another run, when this returns. ``Refused`` where somebody has stopped or paused
        it: who did that is not overruled."""
        container_id = container_id_of(target.tenant)
        with self._door.call(extra_s=math.ceil(grace_s) + START_S) as client:
            raw = self._same(client, target, container_id)
            state = table(raw, "State")
            if state.get("Running") is not True or state.get("Restarting") is True:
                raise Refused("it does not run")
            if state.get("Paused") is True:
                raise Refused("it is paused")
            client.restart(container_id, timeout=math.ceil(grace_s))
            now = table(inspect(client, container_id), "State")
        if text(now, "StartedAt") == text(state, "StartedAt"):
            raise Unavailable("Docker took the restart but the container is the same run")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        """The new container's id; when anything fails, the old one is put back and started."""
        container_id = container_id_of(target.tenant)
        with self._door.call() as client:
            raw = self._same(client, target, container_id)
        return Move(door=self._door, raw=raw, device=device, index=index).carry_out()

    def _same(self, client: Client, target: Target, container_id: str) -> Mapping[str, Any]:
        """The container as it is now, compared with the target; ``Refused`` when it is another."""
        if is_nested(target.tenant):
            raise Unsupported("it stands inside another owner: the host's Docker does not know it")
        raw = inspect(client, container_id)
        if target.cgroup is not None:
            self._compare(raw, target.cgroup.path)
        return raw

    def _compare(self, raw: Mapping[str, Any], cgroup_path: str | None) -> None:
        pid = init_pid(raw)
        if pid == 0 or cgroup_path is None:
            return
        owner = owner_of_pid(pid, self._proc)
        if owner is not None and owner.cgroup_path != cgroup_path:
            raise Refused(f"Docker runs this id in {owner.cgroup_path}, not in {cgroup_path}")


def inspect(client: Client, container_id: str) -> Mapping[str, Any]:
    """``docker inspect`` by full id; the reply must be about that very container."""
    raw = client.inspect_container(container_id)
    if not isinstance(raw, Mapping) or raw.get("Id") != container_id:
        raise Unavailable("Docker answered about another container")
    return raw


def _is_up(raw: Mapping[str, Any]) -> bool:
    state = table(raw, "State")
    return state.get("Running") is True or state.get("Restarting") is True
