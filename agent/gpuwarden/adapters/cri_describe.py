"""A pod and its container as a CRI tells them -> facts. Pure; every field may be missing or garbage."""

import json
import re
from collections.abc import Mapping

from gpuwarden.adapters.docker_describe import labels_of
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import RuntimeFacts
from gpuwarden.wire.cri_v1 import runtime_pb2 as pb

_MAX_NAME = 256
_MAX_IMAGE = 2048
# web-5d9c7b-x2x9z, ingest-4h7dk: the five letters that a controller adds to each copy's name
_COPY = re.compile(r"(?P<stem>.+)-[bcdfghjklmnpqrstvwxz2456789]{5}\Z")


def facts_of(
    tenant: TenantId, pod: pb.PodSandbox | None, container: pb.ContainerStatus | None
) -> RuntimeFacts:
    """A container of a pod, or (without one) the pod itself. Of what is said twice, the container's own
    word counts before the pod's, and a label before an annotation. Labels stay untrusted, bounded.
    """
    said: dict[str, str] = {}
    for one in (pod, container):
        if one is not None:
            said |= {**one.annotations, **one.labels}
    name = container.metadata.name if container is not None else ""
    where = (_of_pod("namespace", pod, said), _of_pod("name", pod, said), name)
    started = container.started_at if container is not None else pod.created_at if pod else 0
    image = (container.image.image or container.image.user_specified_image) if container else ""
    return RuntimeFacts(
        tenant=tenant,
        described=True,
        name="/".join(part[:_MAX_NAME] for part in where if part) or None,
        image=image[:_MAX_IMAGE] or None,
        labels=labels_of({"Labels": said}),
        owner_key=owner_of_pod(*where, said),
        started_wall=started / 1e9 if started > 0 else None,
    )


def owner_of_pod(namespace: str, pod: str, container: str, labels: Mapping[str, str]) -> str | None:
    """Names a pod's container across re-creation; ``None`` where the pod has no name.

    A pod that a kubelet restarts keeps its name. Of one that a controller makes anew the name counts
    without what is added to each copy: ``web-5d9c7b-x2x9z`` -> ``web``.
    """
    if not namespace or not pod:
        return None
    return f"kubernetes:{namespace}/{_stem(pod, labels)}/{container}"[: 3 * _MAX_NAME]


def pid_of(info: Mapping[str, str]) -> int:
    """The host pid of the first process out of a verbose status; 0 where the runtime does not tell."""
    try:
        told = json.loads(info.get("info", ""))
    except (ValueError, RecursionError):
        return 0
    pid = told.get("pid") if isinstance(told, dict) else None
    return pid if isinstance(pid, int) and not isinstance(pid, bool) and pid > 0 else 0


def _of_pod(key: str, pod: pb.PodSandbox | None, said: Mapping[str, str]) -> str:
    told: str = getattr(pod.metadata, key) if pod is not None else ""
    return told or said.get(f"io.kubernetes.pod.{key}", "")


def _stem(pod: str, labels: Mapping[str, str]) -> str:
    """A controller's part of its copy's name, as far as labels and name agree."""
    template = labels.get("pod-template-hash")  # ReplicaSets of a Deployment
    if template:
        head, found, _ = pod.rpartition(f"-{template}-")
        return head if found and head else pod
    job = labels.get("batch.kubernetes.io/job-name") or labels.get("job-name")
    if job and pod.startswith(f"{job}-"):
        return job
    copy = _COPY.match(pod)
    if (
        copy and "controller-revision-hash" in labels
    ):  # a DaemonSet; a StatefulSet numbers its copies
        return copy["stem"]
    return pod
