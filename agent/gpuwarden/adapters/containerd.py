"""The ``Runtime`` port for containers of containerd itself (ctr, nerdctl, pods of one without its CRI)."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cri_describe import owner_of_pod
from gpuwarden.adapters.docker_describe import labels_of, table, text
from gpuwarden.adapters.tenancy import is_nested, key_of, tenant_of_owner
from gpuwarden.adapters.tool import Answer, Tool
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Cgroups

ADDRESS = "/run/containerd/containerd.sock"
_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*\Z", re.ASCII)
_MAX_NAMESPACES = 32
_MOBY = "moby"  # Docker's own namespace: what lives there is Docker's to stop
_UP = ("RUNNING", "PAUSED", "CREATED", "PAUSING")
_POLL_S = 0.05
# nerdctl's --restart: the restart monitor of containerd reads this label
_RESTART = "containerd.io/restart.status"
_SANDBOX = "io.kubernetes.cri.sandbox-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Container:
    namespace: str
    id: str
    raw: Mapping[str, Any]


class Containerd:
    """Implements ``ports.Runtime`` through ``ctr``, over all namespaces but Docker's.

    ``address`` is the path of containerd's socket.
    """

    def __init__(
        self,
        ctr: Tool,
        clock: Clock,
        cgroups: Cgroups | None = None,
        proc: str = "/proc",
        address: str = ADDRESS,
    ) -> None:
        self._ctr = ctr
        self._address = address
        self._was_there = False
        self._clock = clock
        self._cgroups = cgroups
        self._proc = proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        """Labels of the container; of a pod's container also those of its sandbox, which are the pod's."""
        tenant = tenant_of_owner(owner)
        if tenant is None or owner.container_id is None:
            raise Refused("it has no container id")
        found = self._same(tenant, owner.cgroup_path)
        sandbox = table(found.raw, "Spec", "annotations").get(_SANDBOX)
        pod: Mapping[str, Any] = {}
        if isinstance(sandbox, str) and _NAME.match(sandbox) and sandbox != found.id:
            pod = self._info(found.namespace, sandbox) or {}
        labels = {**dict(labels_of(pod)), **dict(labels_of(found.raw))}
        name = labels.get("nerdctl/name") or found.id
        return RuntimeFacts(
            tenant=tenant,
            described=True,
            name=name,
            image=text(found.raw, "Image") or None,
            labels=labels_of({"Labels": labels}),
            is_paused=self._task(found)[1] == "PAUSED",
            owner_key=_pod_key(labels) or f"containerd:{found.namespace}/{name}",
        )

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """Empty where containerd does not restart it."""
        found = self._same(target.tenant, target.cgroup.path if target.cgroup else None)
        old = dict(labels_of(found.raw)).get(_RESTART)
        if old is None or old == "stopped":
            return {}
        self._label(found, "stopped")
        return {_RESTART: old}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        status = old.get(_RESTART)
        if status is None:
            return
        if status not in ("running", "stopped", "created", "paused"):
            raise Refused(f"{status!r} is no restart status")
        self._label(self._same(target.tenant, None), status)

    def stop(self, target: Target, grace_s: float) -> None:
        """TERM to its first process, KILL to all after ``grace_s``; ended when this returns."""
        found = self._same(target.tenant, target.cgroup.path if target.cgroup else None)
        state = self._task(found)[1]
        if state not in _UP:
            return
        if _RESTART in dict(labels_of(found.raw)):
            self._label(found, "stopped")
        if state == "PAUSED" and target.cgroup is not None and self._cgroups is not None:
            self._cgroups.kill(target.cgroup)
        elif grace_s > 0:
            self._kill(found, "--signal=SIGTERM")
            if self._has_ended(found, grace_s):
                return
        self._kill(found, "--signal=SIGKILL", "--all")
        if not self._has_ended(found, self._ctr.timeout_s):
            raise Unavailable("ctr took the kill but the task still runs")

    def restart(self, target: Target, grace_s: float) -> None:
        raise Unsupported(
            "whoever started the task has to start it again: containerd keeps no process of its own"
        )

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("moving a containerd container to another device is not offered")

    def _same(self, tenant: TenantId, cgroup_path: str | None) -> _Container:
        """The container of that id; ``Refused`` when there is none or it runs in another group."""
        found = self._find(_id_of(tenant))
        pid = self._task(found)[0]
        owner = owner_of_pid(pid, self._proc) if pid and cgroup_path is not None else None
        if owner is not None and owner.cgroup_path != cgroup_path:
            raise Refused(f"containerd runs this id in {owner.cgroup_path}, not in {cgroup_path}")
        return found

    def _find(self, container_id: str) -> _Container:
        is_there = os.path.exists(self._address)
        self._was_there = self._was_there or is_there
        if not (is_there or self._was_there):
            raise Unsupported(f"no containerd at {self._address}")
        answer = self._run("namespaces", "list", "--quiet")
        if answer.status != 0:
            raise Unavailable(f"ctr: {answer.why}")
        for namespace in answer.out.split()[:_MAX_NAMESPACES]:
            if namespace == _MOBY or not _NAME.match(namespace):
                continue
            raw = self._info(namespace, container_id)
            if raw is not None:
                return _Container(namespace=namespace, id=container_id, raw=raw)
        raise Refused("containerd does not know it")

    def _info(self, namespace: str, container_id: str) -> Mapping[str, Any] | None:
        answer = self._in(namespace, "containers", "info", container_id)
        if answer is None:
            return None
        try:
            raw = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise Unavailable("ctr answered garbage") from error
        if not isinstance(raw, dict) or raw.get("ID") != container_id:
            raise Unavailable("ctr answered about another container")
        return raw

    def _task(self, found: _Container) -> tuple[int, str]:
        """Host pid and state of its task; (0, "") when it has none."""
        # TASK     PID      STATUS
        # redis    4711     RUNNING
        for line in (self._in(found.namespace, "tasks", "list") or "").splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[0] == found.id and fields[1].isdecimal():
                return int(fields[1]), fields[2]
        return 0, ""

    def _has_ended(self, found: _Container, seconds: float) -> bool:
        until = self._clock.now() + seconds
        while self._task(found)[1] in _UP:
            if self._clock.now() >= until:
                return False
            self._clock.sleep(min(_POLL_S, max(0.01, until - self._clock.now())))
        return True

    def _kill(self, found: _Container, *options: str) -> None:
        self._in(found.namespace, "tasks", "kill", *options, found.id)

    def _label(self, found: _Container, status: str) -> None:
        pair = f"{_RESTART}={status}"
        if self._in(found.namespace, "containers", "label", found.id, pair) is None:
            raise Refused("containerd does not know it any more")

    def _run(self, *args: str) -> Answer:
        return self._ctr.run(f"--address={self._address}", *args)

    def _in(self, namespace: str, *args: str) -> str | None:
        """What ``ctr`` says in a namespace; ``None`` when it knows nothing of that name."""
        answer = self._run(f"--namespace={namespace}", *args)
        if answer.status == 0:
            return answer.out
        if "not found" in answer.err:
            return None
        raise Unavailable(f"ctr {args[0]} {args[1]}: {answer.why}")


def _pod_key(labels: Mapping[str, str]) -> str | None:
    """Across re-creation, as the CRI would name it; ``None`` where it is no pod's."""
    namespace = labels.get("io.kubernetes.pod.namespace", "")
    pod = labels.get("io.kubernetes.pod.name", "")
    return owner_of_pod(namespace, pod, labels.get("io.kubernetes.container.name", ""), labels)


def _id_of(tenant: TenantId) -> str:
    if is_nested(tenant):
        raise Refused("it stands inside another owner: the host's containerd does not know it")
    key = key_of(tenant)
    if not tenant.startswith(("cri:", "pod:")) or not _NAME.match(key) or len(key) > 76:
        raise Refused(f"{tenant} names no container")
    return key
