"""What a kubelet does with a CRI, in small: pods and their containers on the private containerd.

The messages that make a pod are nothing the agent ever sends, so they stand here: tables of field
numbers of runtime.v1 in k8s.io/cri-api, made into messages when this is imported.
"""

from __future__ import annotations

import os
import socket
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.model.action import Target
from gpuwarden.model.owner import CgroupOwner
from tests.adapters.trees import CGROUP_ROOT, remove_empty_groups, soon

IMAGE = "docker.io/library/gpuwarden-test:busybox"
ANSWER_WITHIN_S = 60.0
NODE, OWN = 2, 1
"""Namespaces: the host's, and one of the container's own."""

# message -> field -> (number, type); a type in brackets is repeated, {} is a map of strings.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Namespaces": {"network": (1, "int"), "pid": (2, "int"), "ipc": (3, "int")},
    "PodSecurity": {"namespace_options": (1, "Namespaces")},
    "PodLinux": {"cgroup_parent": (1, "str"), "security_context": (2, "PodSecurity")},
    "PodMetadata": {"name": (1, "str"), "uid": (2, "str"), "namespace": (3, "str"), "attempt": (4, "int")},
    "PodConfig": {
        "metadata": (1, "PodMetadata"),
        "hostname": (2, "str"),
        "log_directory": (3, "str"),
        "labels": (6, "{}"),
        "annotations": (7, "{}"),
        "linux": (8, "PodLinux"),
    },
    "RunPod": {"config": (1, "PodConfig")},
    "Id": {"id": (1, "str")},
    "Image": {"image": (1, "str")},
    "KeyValue": {"key": (1, "str"), "value": (2, "str")},
    "Mount": {"container_path": (1, "str"), "host_path": (2, "str")},
    "Security": {"namespace_options": (3, "Namespaces")},
    "Linux": {"security_context": (2, "Security")},
    "ContainerMetadata": {"name": (1, "str"), "attempt": (2, "int")},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"),
        "image": (2, "Image"),
        "command": (3, "[str]"),
        "envs": (6, "[KeyValue]"),
        "mounts": (7, "[Mount]"),
        "labels": (9, "{}"),
        "annotations": (10, "{}"),
        "linux": (15, "Linux"),
    },
    "CreateContainer": {
        "pod_sandbox_id": (1, "str"),
        "config": (2, "ContainerConfig"),
        "sandbox_config": (3, "PodConfig"),
    },
}  # fmt: skip
_SCALARS = {
    "int": 3,
    "str": 9,
}  # FieldDescriptorProto.Type: TYPE_INT64 (a varint, as enums are), TYPE_STRING
_PACKAGE = "gpuwarden.tests.kubelet"


def _messages() -> Mapping[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="gpuwarden_tests_kubelet.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for key, (number, kind) in fields.items():
            one: Any = message.field.add(name=key, number=number, label=1)
            plain = kind.strip("[]")
            if plain != kind:
                one.label = 3
            if kind == "{}":
                entry = message.nested_type.add(name=f"{key.title().replace('_', '')}Entry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=1, type=9)
                entry.field.add(name="value", number=2, label=1, type=9)
                one.label, one.type = 3, 11
                one.type_name = f".{_PACKAGE}.{name}.{entry.name}"
            elif plain in _SCALARS:
                one.type = _SCALARS[plain]
            else:
                one.type, one.type_name = 11, f".{_PACKAGE}.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


MESSAGES = _messages()


def endpoint() -> str:
    return os.environ["CONTAINER_RUNTIME_ENDPOINT"]


def daemon_pid() -> int:
    """Who answers at the private containerd's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(endpoint().removeprefix("unix://"))
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", peer)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A running pod and what a kubelet knows of it."""

    id: str
    uid: str
    name: str
    namespace: str
    config: Any = field(repr=False)


class Kubelet:
    """Makes pods and containers at an endpoint, and removes all of them when it is closed."""

    def __init__(self, address: str = "") -> None:
        self._channel = grpc.insecure_channel(
            address or endpoint(), options=(("grpc.enable_http_proxy", 0),)
        )
        self._pods: list[Pod] = []

    def pod(
        self,
        *,
        name: str = "",
        namespace: str = "shop",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pod:
        """A pod on the host's network, in the control group that the kubelet's cgroupfs driver gives."""
        uid = str(uuid.uuid4())
        name = name or f"web-{uid[:8]}"
        named = {
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        }
        config = MESSAGES["PodConfig"](
            metadata={"name": name, "uid": uid, "namespace": namespace},
            labels={**(labels or {}), **named},
            annotations=dict(annotations or {}),
            linux={
                "cgroup_parent": f"/kubepods/burstable/pod{uid}",
                "security_context": {"namespace_options": {"network": NODE, "pid": OWN}},
            },
        )
        made = self._call("RunPodSandbox", MESSAGES["RunPod"](config=config))
        pod = Pod(id=made, uid=uid, name=name, namespace=namespace, config=config)
        self._pods.append(pod)
        return pod

    def container(
        self,
        pod: Pod,
        *command: str,
        name: str = "app",
        attempt: int = 0,
        mounts: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """A running container of a pod; its full id."""
        config = MESSAGES["ContainerConfig"](
            metadata={"name": name, "attempt": attempt},
            image={"image": IMAGE},
            command=list(command or ("sleep", "300")),
            envs=[{"key": key, "value": value} for key, value in (env or {}).items()],
            mounts=[{"container_path": str(one), "host_path": str(one)} for one in mounts],
            labels={
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.name": pod.name,
                "io.kubernetes.pod.namespace": pod.namespace,
                "io.kubernetes.pod.uid": pod.uid,
            },
            annotations=dict(annotations or {}),
            linux={"security_context": {"namespace_options": {"network": NODE, "pid": OWN}}},
        )
        request = MESSAGES["CreateContainer"](
            pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config
        )
        made = self._call("CreateContainer", request)
        self._call("StartContainer", MESSAGES["Id"](id=made))
        return made

    def remove_container(self, container_id: str) -> None:
        """A container that has just ended is one that runs until the runtime has heard of it."""
        self._call("StopContainer", MESSAGES["Id"](id=container_id))
        assert soon(lambda: self._is_removed(container_id)), container_id

    def _is_removed(self, container_id: str) -> bool:
        try:
            self._call("RemoveContainer", MESSAGES["Id"](id=container_id))
        except grpc.RpcError as error:
            if "still running" in str(error):
                return False
            raise
        return True

    def remove(self, pod: Pod) -> None:
        """Stops and removes a pod with all that is in it; a frozen process obeys no signal on v1."""
        for state in (CGROUP_ROOT / "freezer/kubepods").glob(f"*/pod{pod.uid}/**/freezer.state"):
            with suppress(OSError):
                state.write_text("THAWED")
        with suppress(grpc.RpcError):
            self._call("StopPodSandbox", MESSAGES["Id"](id=pod.id))
            self._call("RemovePodSandbox", MESSAGES["Id"](id=pod.id))
        remove_empty_groups(f"kubepods/burstable/pod{pod.uid}")

    def close(self) -> None:
        for pod in self._pods:
            self.remove(pod)
        self._channel.close()

    def _call(self, method: str, request: Any) -> str:
        """The answer's first field, which is an id where there is any."""
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=MESSAGES["Id"].FromString,
        )
        return str(call(request, timeout=ANSWER_WITHIN_S).id)


@contextmanager
def kubelet() -> Iterator[Kubelet]:
    made = Kubelet()
    try:
        yield made
    finally:
        made.close()


def group_of(pod: Pod, container_id: str = "") -> str:
    """The control group of a container, or of the pod itself."""
    return f"/kubepods/burstable/pod{pod.uid}" + (f"/{container_id}" if container_id else "")


def pids_of(pod: Pod, container_id: str) -> list[int]:
    """Who lives in a container's group; nobody when it is gone."""
    path = group_of(pod, container_id).lstrip("/")
    for hierarchy in ("freezer", "unified", "."):
        with suppress(OSError):
            return [
                int(one)
                for one in (CGROUP_ROOT / hierarchy / path / "cgroup.procs").read_text().split()
            ]
    return []


def owner_of(pod: Pod, container_id: str) -> CgroupOwner:
    owner = owner_of_pid(pids_of(pod, container_id)[0])
    assert owner is not None
    return owner


def target_of(owner: CgroupOwner) -> Target:
    tenant = tenant_of_owner(owner)
    assert tenant is not None
    return Target(tenant=tenant, runtime=owner.runtime, cgroup=CgroupFs().locate(owner))
