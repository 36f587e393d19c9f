"""The ``Runtime`` port for pods' containers (containerd, CRI-O): crictl tells and stops.

The kubelet starts a stopped container of a pod again by the pod's own policy; only the API server can
change that. What is stopped here stays down for the kubelet's back-off.
"""

import json
from collections.abc import Mapping
from typing import Any

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.docker_describe import MAX_LABELS, table, text
from gpuwarden.adapters.tenancy import container_id_of, is_nested, tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts

_OURS = "gpuwarden."
_CONTAINER = "io.kubernetes.container.name"
_UP = ("CONTAINER_RUNNING", "CONTAINER_CREATED")


class Cri:
    """Implements ``ports.Runtime`` through ``crictl`` and its own configuration file."""

    def __init__(self, crictl: Tool, proc: str = "/proc") -> None:
        self._crictl = crictl
        self._proc = proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        """Labels and annotations of the pod count (``gpuwarden.*``), then those of the container."""
        tenant = tenant_of_owner(owner)
        if tenant is None or owner.container_id is None:
            raise Refused("it has no container id")
        raw = self._inspect(_id_of(tenant), owner.cgroup_path)
        status = table(raw, "status")
        sandbox = text(table(raw, "info"), "sandboxID")
        pod = self._pod(sandbox) if sandbox else {}
        labels = {**_strings(pod, "annotations"), **_strings(pod, "labels")}
        labels = {**labels, **_strings(status, "annotations"), **_strings(status, "labels")}
        ordered = sorted(labels.items(), key=lambda pair: (not pair[0].startswith(_OURS), pair))
        namespace = labels.get("io.kubernetes.pod.namespace", "")
        name = labels.get("io.kubernetes.pod.name", "")
        container = text(table(status, "metadata"), "name") or ""
        return RuntimeFacts(
            tenant=tenant,
            described=True,
            name="/".join(part for part in (namespace, name, container) if part) or None,
            image=text(table(status, "image"), "image"),
            labels=tuple(ordered[:MAX_LABELS]),
            owner_key=owner_of_pod({**labels, _CONTAINER: container}),
        )

    def restart_off(self, target: Target) -> Mapping[str, str]:
        raise Unsupported("the kubelet restarts containers by the pod's own policy")

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        container_id = _id_of(target.tenant)
        raw = self._inspect(container_id, target.cgroup.path if target.cgroup else None)
        if text(table(raw, "status"), "state") not in _UP:
            return
        answer = self._crictl.run(
            "stop", f"--timeout={round(grace_s)}", container_id, extra_s=grace_s
        )
        if answer.status != 0:
            raise Unavailable(f"crictl stop: {answer.why}")
        if text(table(self._inspect(container_id, None), "status"), "state") in _UP:
            raise Unavailable("crictl stop was taken but the container still runs")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("Kubernetes itself chooses the device of a pod")

    def _inspect(self, container_id: str, cgroup_path: str | None) -> Mapping[str, Any]:
        raw = self._ask("inspect", container_id)
        if text(table(raw, "status"), "id") != container_id:
            raise Unavailable("crictl answered about another container")
        pid = table(raw, "info").get("pid")
        if not isinstance(pid, int) or pid <= 0 or cgroup_path is None:
            return raw
        owner = owner_of_pid(pid, self._proc)
        if owner is not None and owner.cgroup_path != cgroup_path:
            raise Refused(f"CRI runs this id in {owner.cgroup_path}, not in {cgroup_path}")
        return raw

    def _pod(self, sandbox: str) -> Mapping[str, Any]:
        return table(self._ask("inspectp", container_id_of(TenantId(f"cri:{sandbox}"))), "status")

    def _ask(self, verb: str, container_id: str) -> Mapping[str, Any]:
        answer = self._crictl.run(verb, "--output=json", container_id)
        if answer.status != 0:
            if "not found" in answer.err.lower() or "notfound" in answer.err.lower():
                raise Refused(f"CRI does not know it: {answer.why}")
            raise Unavailable(f"crictl {verb}: {answer.why}")
        try:
            raw = json.loads(answer.out)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"crictl {verb} answered garbage") from error
        return raw if isinstance(raw, dict) else {}


def _strings(raw: Mapping[str, Any], key: str) -> dict[str, str]:
    return {
        str(name)[:256]: value[:2048]
        for name, value in table(raw, key).items()
        if isinstance(value, str)
    }


def owner_of_pod(labels: Mapping[str, str]) -> str | None:
    """Names a pod's container across re-creation; ``None`` where the labels name no pod.

    The pod's name counts without what a deployment adds to each copy: ``web-5d9c7b-x2x9z`` -> ``web``.
    """
    namespace = labels.get("io.kubernetes.pod.namespace")
    pod = labels.get("io.kubernetes.pod.name")
    if not namespace or not pod:
        return None
    template = labels.get("pod-template-hash")
    head, found, _ = pod.partition(f"-{template}-") if template else (pod, "", "")
    return f"kubernetes:{namespace}/{head if found else pod}/{labels.get(_CONTAINER, '')}"


def _id_of(tenant: TenantId) -> str:
    if is_nested(tenant):
        raise Refused("it stands inside another owner: the host's CRI does not know it")
    return container_id_of(tenant)
