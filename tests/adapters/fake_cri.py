"""A CRI in memory behind a real socket, for what a real one does not do on demand: ill, hostile, other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc

from gpuwarden.adapters.cri import Cri
from gpuwarden.adapters.cri_door import CriDoor
from gpuwarden.clock import SystemClock
from gpuwarden.wire.cri_v1 import runtime_pb2 as pb
from gpuwarden.wire.cri_v1.runtime_pb2_grpc import (
    RuntimeServiceServicer,
    add_RuntimeServiceServicer_to_server,
)


class FakeCri(RuntimeServiceServicer):
    """Pods and containers by id. ``calls`` is what was asked to change them.

    ``answers_as``: the id every status is about. ``is_deaf``: a stop is taken and does nothing.
    ``loses_shim``: a stop fails, as where the shim dies with its container.
    ``late``: how many times a stopped container is still told to run.
    ``hangs``: cleared, nothing is answered before it is set; ``is_asked`` tells that somebody waits.
    ``padding``: bytes beside each status.
    """

    def __init__(self) -> None:
        self.pods: dict[str, pb.PodSandbox] = {}
        self.containers: dict[str, pb.Container] = {}
        self.pids: dict[str, int] = {}
        self.calls: list[str] = []
        self.answers_as = ""
        self.info: str | None = None
        self.is_deaf = False
        self.loses_shim = False
        self.late = 0
        self.hangs = threading.Event()
        self.hangs.set()
        self.is_asked = threading.Event()
        self.padding = 0

    def pod(self, ident: str, uid: str) -> None:
        metadata = pb.PodSandboxMetadata(name="web", uid=uid, namespace="shop")
        self.pods[ident] = pb.PodSandbox(id=ident, metadata=metadata)

    def container(self, ident: str, pod: str, name: str = "app") -> None:
        self.containers[ident] = pb.Container(
            id=ident,
            pod_sandbox_id=pod,
            metadata=pb.ContainerMetadata(name=name),
            state=pb.CONTAINER_RUNNING,
        )

    # --- the service; a filter's id is the beginning of one, as in containerd ---

    def Version(
        self, request: pb.VersionRequest, context: grpc.ServicerContext
    ) -> pb.VersionResponse:
        return pb.VersionResponse(runtime_name="fake", runtime_version="1")

    def ListContainers(
        self, request: pb.ListContainersRequest, context: grpc.ServicerContext
    ) -> pb.ListContainersResponse:
        self.is_asked.set()
        self.hangs.wait(30)
        wanted = request.filter
        if self.late and self.calls:
            self.late -= 1
            self.containers[wanted.id].state = (
                pb.CONTAINER_RUNNING if self.late else pb.CONTAINER_EXITED
            )
        found = [
            one
            for one in self.containers.values()
            if one.id.startswith(wanted.id) and wanted.pod_sandbox_id in ("", one.pod_sandbox_id)
        ]
        return pb.ListContainersResponse(containers=found)

    def ContainerStatus(
        self, request: pb.ContainerStatusRequest, context: grpc.ServicerContext
    ) -> pb.ContainerStatusResponse:
        one = self.containers[request.container_id]
        status = pb.ContainerStatus(
            id=self.answers_as or one.id,
            metadata=one.metadata,
            state=one.state,
            image=pb.ImageSpec(image="registry/app:1"),
            annotations={"x": "x" * self.padding},
        )
        info = self._info(one.id) if request.verbose else {}
        return pb.ContainerStatusResponse(status=status, info=info)

    def StopContainer(
        self, request: pb.StopContainerRequest, context: grpc.ServicerContext
    ) -> pb.StopContainerResponse:
        self.calls.append(f"stop {request.container_id} {request.timeout}")
        if not (self.is_deaf or self.late):
            self.containers[request.container_id].state = pb.CONTAINER_EXITED
        if self.loses_shim:
            context.abort(
                grpc.StatusCode.UNKNOWN, "failed to stop container: ttrpc: closed: unknown"
            )
        return pb.StopContainerResponse()

    def ListPodSandbox(
        self, request: pb.ListPodSandboxRequest, context: grpc.ServicerContext
    ) -> pb.ListPodSandboxResponse:
        uid = request.filter.label_selector.get("io.kubernetes.pod.uid", "")
        found = [
            one
            for one in self.pods.values()
            if one.id.startswith(request.filter.id) and uid in ("", one.metadata.uid)
        ]
        return pb.ListPodSandboxResponse(items=found)

    def PodSandboxStatus(
        self, request: pb.PodSandboxStatusRequest, context: grpc.ServicerContext
    ) -> pb.PodSandboxStatusResponse:
        status = pb.PodSandboxStatus(id=self.answers_as or request.pod_sandbox_id)
        return pb.PodSandboxStatusResponse(status=status, info=self._info(request.pod_sandbox_id))

    def StopPodSandbox(
        self, request: pb.StopPodSandboxRequest, context: grpc.ServicerContext
    ) -> pb.StopPodSandboxResponse:
        self.calls.append(f"stop pod {request.pod_sandbox_id}")
        if not self.is_deaf:
            self.pods[request.pod_sandbox_id].state = pb.SANDBOX_NOTREADY
        return pb.StopPodSandboxResponse()

    def _info(self, ident: str) -> dict[str, str]:
        return {"info": self.info or json.dumps({"pid": self.pids.get(ident, 0)})}


@contextmanager
def served(folder: Path, cri: RuntimeServiceServicer | None) -> Iterator[str]:
    """The path of a socket where it answers; without it there is a gRPC server that knows no CRI."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    if cri is not None:
        add_RuntimeServiceServicer_to_server(cri, server)
    path = folder / "cri.sock"
    assert server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield str(path)
    finally:
        stopped = server.stop(None)
        if isinstance(cri, FakeCri):
            cri.hangs.set()
        stopped.wait(10)


def runtime_at(*paths: str, timeout_s: float = 5.0, proc: str = "/proc") -> Cri:
    clock = SystemClock()
    return Cri([CriDoor(f"unix://{path}", timeout_s, clock) for path in paths], proc=proc)
