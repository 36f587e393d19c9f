"""The ``Runtime`` port for pods (containerd, CRI-O): the CRI tells and stops.

The kubelet starts a stopped container of a pod again by the pod's own policy; only the API server can
change that. What is stopped here stays down for the kubelet's back-off, and is stopped again when it is
back too often (rule ``tombstone``).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cri_describe import facts_of, pid_of
from gpuwarden.adapters.cri_door import CriCalls, CriDoor, is_up
from gpuwarden.adapters.tenancy import container_id_of, is_nested, key_of, tenant_of_owner
from gpuwarden.errors import Gone, GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Cgroups
from gpuwarden.wire.cri_v1 import runtime_pb2 as pb

HEARD_WITHIN_S = 2.0
"""containerd finds a process gone and answers the stop before it has heard that the container ended."""
# 6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e; 7260904bbd08e72e4dff95d9fccd2ee8 of a static pod
_POD_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z|[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One container of a pod, or (``container_id`` is ``None``) a pod as a whole."""

    pod: pb.PodSandbox | None
    container_id: str | None


class Cri:
    """Implements ``ports.Runtime`` over the CRIs of a host, of which there is mostly one.

    A pod's container is stopped alone. A pod is stopped as a whole where its processes live in no
    container's group: those of a virtual machine (Kata) or of a sandbox that runs all of them (gVisor).
    ``cgroups`` ends what is frozen where it stands; without it a runtime would wait for it in vain.
    """

    def __init__(
        self, doors: Sequence[CriDoor], cgroups: Cgroups | None = None, proc: str = "/proc"
    ) -> None:
        self._doors = doors
        self._cgroups = cgroups
        self._proc = proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        """``Refused`` when no CRI here knows it, or one knows it at another place."""
        tenant = tenant_of_owner(owner)
        if tenant is None:
            raise Refused("it has no container id")
        door, found = self._find(tenant)
        with door.call() as calls:
            if found.container_id is None:
                self._compare_pod(calls, found, tenant, owner.cgroup_path)
                return facts_of(tenant, found.pod, None)
            answer = calls.status(found.container_id)
            if answer is None:
                raise Refused("the CRI does not know it any more")
            self._compare(pid_of(answer.info), owner.cgroup_path)
            return facts_of(tenant, found.pod, answer.status)

    def restart_off(self, target: Target) -> Mapping[str, str]:
        raise Unsupported("the kubelet restarts containers by the pod's own policy")

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        """Ended when this returns. The grace is rounded up: the CRI counts whole seconds."""
        door, found = self._find(target.tenant)
        path = target.cgroup.path if target.cgroup is not None else None
        with door.call(extra_s=math.ceil(grace_s)) as calls:
            if found.container_id is None:
                self._compare_pod(calls, found, target.tenant, path)
                self._stop_pod(calls, found, target, grace_s)
                return
            answer = calls.status(found.container_id)
            if answer is None or not is_up(answer.status.state):
                return
            self._compare(pid_of(answer.info), path)
            calls.stop_containers(
                [found.container_id], self._grace_of(target, grace_s), HEARD_WITHIN_S
            )
            container_id = found.container_id
            if not calls.comes_true(lambda: calls.has_ended(container_id), HEARD_WITHIN_S):
                raise Unavailable("the CRI took the stop but the container still runs")

    def restart(self, target: Target, grace_s: float) -> None:
        raise Unsupported("the kubelet restarts containers, by the pod's own probes")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("Kubernetes itself chooses the device of a pod")

    def _stop_pod(self, calls: CriCalls, found: _Found, target: Target, grace_s: float) -> None:
        """As the kubelet does it: its containers with their grace, then the pod."""
        if found.pod is None or found.pod.state != pb.SANDBOX_READY:
            return
        ids = [one.id for one in calls.containers_of(found.pod.id)]
        calls.stop_containers(ids, self._grace_of(target, grace_s), HEARD_WITHIN_S)
        calls.stop_sandbox(found.pod.id)
        pod_id = found.pod.id
        if not calls.comes_true(lambda: _is_over(calls, pod_id), HEARD_WITHIN_S):
            raise Unavailable("the CRI took the stop but the pod is still there")

    def _grace_of(self, target: Target, grace_s: float) -> int:
        """Whole seconds; what is frozen dies as it stands and is never thawed for its TERM."""
        if target.cgroup is not None and self._cgroups is not None:
            with suppress(Gone):
                if self._cgroups.is_frozen(target.cgroup):
                    self._cgroups.kill(target.cgroup)
                    return 0
        return math.ceil(max(0.0, grace_s))

    def _find(self, tenant: TenantId) -> tuple[CriDoor, _Found]:
        """Who knows it. One that does not answer may be the one that does: then ``Unavailable``."""
        if is_nested(tenant):
            raise Refused("it stands inside another owner: the host's CRI does not know it")
        look = _looks_for(tenant)
        troubles: list[GpuwardenError] = []
        for door in self._doors:
            if not door.is_there():
                if door.was_there:
                    troubles.append(Unavailable(f"the CRI at {door.path} is gone"))
                continue
            try:
                with door.call() as calls:
                    found = look(calls)
            except (Unavailable, Unsupported) as error:
                troubles.append(error)
                continue
            if found is not None:
                return door, found
            troubles.append(Refused(f"the CRI at {door.path} does not know it"))
        for kind in (Unavailable, Refused, Unsupported):
            for trouble in troubles:
                if isinstance(trouble, kind):
                    raise trouble
        looked = ", ".join(door.path for door in self._doors)
        raise Unsupported(f"no CRI here (cri.endpoint; looked at {looked})")

    def _compare(self, pid: int, cgroup_path: str | None) -> None:
        owner = owner_of_pid(pid, self._proc) if pid and cgroup_path is not None else None
        if owner is not None and owner.cgroup_path != cgroup_path:
            raise Refused(f"the CRI runs this id in {owner.cgroup_path}, not in {cgroup_path}")

    def _compare_pod(
        self, calls: CriCalls, found: _Found, tenant: TenantId, cgroup_path: str | None
    ) -> None:
        """A pod's first process lives in its sandbox's group, below that of the pod."""
        answer = calls.sandbox_info(found.pod.id) if found.pod is not None else None
        pid = pid_of(answer.info) if answer is not None else 0
        owner = owner_of_pid(pid, self._proc) if pid and cgroup_path is not None else None
        if owner is None or cgroup_path is None or owner.cgroup_path == cgroup_path:
            return
        is_below = (owner.cgroup_path or "").startswith(cgroup_path + "/")
        if not (is_below and owner.pod_uid == key_of(tenant)):
            raise Refused(f"the CRI runs this pod in {owner.cgroup_path}, not in {cgroup_path}")


def _looks_for(tenant: TenantId) -> Callable[[CriCalls], _Found | None]:
    """How to find it; ``Refused`` where its name is that of no container and no pod."""
    key = key_of(tenant)
    if tenant == f"pod:{key}":
        if not _POD_UID.match(key):
            raise Refused(f"{tenant} names no pod")
        return lambda calls: _pod(calls, key)
    container_id = container_id_of(tenant)
    return lambda calls: _container(calls, container_id)


def _container(calls: CriCalls, container_id: str) -> _Found | None:
    """The container of that id, else the pod whose sandbox has it (gVisor runs its pods there)."""
    container = calls.container(container_id)
    if container is not None:
        return _Found(pod=calls.sandbox(container.pod_sandbox_id), container_id=container_id)
    pod = calls.sandbox(container_id)
    return _Found(pod=pod, container_id=None) if pod is not None else None


def _is_over(calls: CriCalls, sandbox_id: str) -> bool:
    left = calls.sandbox(sandbox_id)
    return left is None or left.state != pb.SANDBOX_READY


def _pod(calls: CriCalls, uid: str) -> _Found | None:
    pods = calls.sandboxes_of(uid)
    if len(pods) > 1:
        raise Refused(f"{len(pods)} sandboxes say that they are pod {uid}")
    return _Found(pod=pods[0], container_id=None) if pods else None
