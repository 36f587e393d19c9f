"""The CRI of this host (containerd, CRI-O) behind one door: the socket, a deadline for all calls together,
a bound on replies, our errors. No ``crictl`` is needed: the agent speaks the kubelet's own protocol.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc

from gpuwarden.clock import Clock
from gpuwarden.config import CriConfig
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.wire.cri_v1 import runtime_pb2 as pb
from gpuwarden.wire.cri_v1.runtime_pb2_grpc import RuntimeServiceStub

KNOWN_ENDPOINTS = (
    "unix:///run/containerd/containerd.sock",
    "unix:///run/crio/crio.sock",
    "unix:///run/k3s/containerd/containerd.sock",  # k3s and RKE2
    "unix:///run/k0s/containerd.sock",
    "unix:///var/snap/microk8s/common/run/containerd.sock",
    "unix:///run/cri-dockerd.sock",
)
"""Where runtimes listen by default; none of them is asked before it is there."""
MAX_REPLY_BYTES = 16 * 2**20
"""The kubelet's own bound: what is larger has never run a pod."""
_POLL_S = 0.05
_NO_ANSWER = frozenset(
    {
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)
"""Of a runtime that has said nothing of the container itself."""
_UID_LABEL = "io.kubernetes.pod.uid"


class CriDoor:
    """Calls to the CRI at ``endpoint`` (``unix:///...``). Each ``call`` has a connection of its own: none is
    kept that a restarted runtime would have forgotten, and any thread may call."""

    def __init__(self, endpoint: str, timeout_s: float, clock: Clock) -> None:
        self.path = endpoint.removeprefix("unix://")
        self._timeout_s = timeout_s
        self._clock = clock
        self.was_there = False
        """Whether a socket has been seen: without it now the runtime is down, and not another one's place."""

    def is_there(self) -> bool:
        """Whether there is a socket at all; costs one stat."""
        is_there = os.path.exists(self.path)
        self.was_there = self.was_there or is_there
        return is_there

    def may_be_asked(self) -> bool:
        """Whether this process may open the socket, or there is none."""
        return not os.path.exists(self.path) or os.access(self.path, os.R_OK | os.W_OK)

    @contextmanager
    def call(self, extra_s: float = 0.0) -> Iterator["CriCalls"]:
        """Calls that have to fit into ``timeout_s`` (+ ``extra_s``) seconds together.

        ``Unsupported``: no permission, or no CRI v1 behind the socket. Else ``Unavailable``.
        """
        if not self.may_be_asked():
            raise Unsupported(f"no permission for the CRI at {self.path}")
        channel = grpc.insecure_channel(
            f"unix:{self.path}",
            options=(
                ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )
        try:
            until = self._clock.now() + self._timeout_s + extra_s
            yield CriCalls(
                RuntimeServiceStub(channel), self.path, self._clock, until, self._timeout_s
            )
        finally:
            channel.close()


def doors(cfg: CriConfig, clock: Clock) -> Sequence[CriDoor]:
    """Where to ask on this host: where the operator says, else wherever runtimes listen by default."""
    endpoints = KNOWN_ENDPOINTS if cfg.endpoint is None else (cfg.endpoint,)
    return tuple(CriDoor(endpoint, cfg.timeout_s, clock) for endpoint in endpoints)


class CriCalls:
    """What the agent asks of a CRI, until a deadline. What is not there is ``None`` or absent."""

    def __init__(self, stub: Any, path: str, clock: Clock, until: float, timeout_s: float) -> None:
        """``timeout_s``: of a call by itself, beside what it is asked to wait for."""
        self._timeout_s = timeout_s
        self._stub = stub
        self._path = path
        self._clock = clock
        self._until = until

    def version(self) -> str:
        """Name and version of the runtime: ``containerd 1.6.20``."""
        answer = self._ask("Version", pb.VersionRequest(version="v1"))
        return f"{answer.runtime_name} {answer.runtime_version}"

    def container(self, container_id: str) -> pb.Container | None:
        """The container of that very id; a runtime takes the beginning of one for all of it."""
        request = pb.ListContainersRequest(filter=pb.ContainerFilter(id=container_id))
        found = self._ask("ListContainers", request).containers
        return next((one for one in found if one.id == container_id), None)

    def containers_of(self, sandbox_id: str) -> Sequence[pb.Container]:
        """The containers of a pod that have not ended."""
        wanted = pb.ContainerFilter(pod_sandbox_id=sandbox_id)
        found = self._ask("ListContainers", pb.ListContainersRequest(filter=wanted)).containers
        return [one for one in found if one.pod_sandbox_id == sandbox_id and is_up(one.state)]

    def status(self, container_id: str) -> pb.ContainerStatusResponse | None:
        request = pb.ContainerStatusRequest(container_id=container_id, verbose=True)
        answer = self._known("ContainerStatus", request)
        if answer is not None and answer.status.id != container_id:
            raise Unavailable(f"the CRI at {self._path} answered about another container")
        return answer if isinstance(answer, pb.ContainerStatusResponse) else None

    def sandbox(self, sandbox_id: str) -> pb.PodSandbox | None:
        found = self._sandboxes(pb.PodSandboxFilter(id=sandbox_id))
        return next((one for one in found if one.id == sandbox_id), None)

    def sandboxes_of(self, pod_uid: str) -> Sequence[pb.PodSandbox]:
        """The sandboxes of a pod that are ready: one, unless something is very wrong."""
        wanted = pb.PodSandboxFilter(label_selector={_UID_LABEL: pod_uid})
        return [
            one
            for one in self._sandboxes(wanted)
            if one.metadata.uid == pod_uid and one.state == pb.SANDBOX_READY
        ]

    def sandbox_info(self, sandbox_id: str) -> pb.PodSandboxStatusResponse | None:
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=True)
        answer = self._known("PodSandboxStatus", request)
        if answer is not None and answer.status.id != sandbox_id:
            raise Unavailable(f"the CRI at {self._path} answered about another pod")
        return answer if isinstance(answer, pb.PodSandboxStatusResponse) else None

    def stop_containers(self, container_ids: Sequence[str], grace_s: int, heard_s: float) -> None:
        """Stop all of them side by side; each has ended, or was not there, when this returns. One that dies while it is
        being stopped may take its shim along, and the stop fails though nothing stands any more: so a failure
        counts only where the container is still up after ``heard_s``."""
        requests = [
            pb.StopContainerRequest(container_id=one, timeout=grace_s) for one in container_ids
        ]
        # What is frozen is killed and given no grace: nobody waits for its stop as long as a grace would have been.
        within_s = min(self._left_s(), grace_s + self._timeout_s)
        begun = [self._stub.StopContainer.future(one, timeout=within_s) for one in requests]
        for container_id, call in zip(container_ids, begun, strict=True):
            try:
                call.result()
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    continue
                if error.code() in _NO_ANSWER or not self._ends(container_id, heard_s):
                    raise self._translated("StopContainer", error) from error

    def _ends(self, container_id: str, within_s: float) -> bool:
        try:
            return self.comes_true(partial(self.has_ended, container_id), within_s)
        except Unavailable:
            return False

    def has_ended(self, container_id: str) -> bool:
        left = self.container(container_id)
        return left is None or not is_up(left.state)

    def stop_sandbox(self, sandbox_id: str) -> None:
        self._known("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    def comes_true(self, is_so: Callable[[], bool], within_s: float) -> bool:
        """Whether it does within the time, and before the deadline of all calls."""
        until = min(self._until, self._clock.now() + within_s)
        while not is_so():
            left = until - self._clock.now()
            if left <= _POLL_S:  # a last look would come too late to be answered
                return False
            self._clock.sleep(_POLL_S)
        return True

    def _sandboxes(self, wanted: pb.PodSandboxFilter) -> Sequence[pb.PodSandbox]:
        found: Sequence[pb.PodSandbox] = self._ask(
            "ListPodSandbox", pb.ListPodSandboxRequest(filter=wanted)
        ).items
        return found

    def _known(self, method: str, request: object) -> Any:
        """The answer; ``None`` where the runtime knows nothing of that id."""
        try:
            return self._ask(method, request)
        except Refused:
            return None

    def _ask(self, method: str, request: object) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=self._left_s())
        except grpc.RpcError as error:
            raise self._translated(method, error) from error

    def _left_s(self) -> float:
        left = self._until - self._clock.now()
        if left <= 0:
            raise Unavailable(f"the CRI at {self._path} took too long")
        return left

    def _translated(self, method: str, error: Any) -> Exception:
        code, said = error.code(), " ".join(str(error.details())[:1000].split())[:300]
        if code is grpc.StatusCode.NOT_FOUND:
            return Refused(f"the CRI at {self._path} does not know it")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return Unsupported(f"no CRI v1 at {self._path}: {said}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"the CRI at {self._path} did not answer {method} in time")
        return Unavailable(f"the CRI at {self._path}: {method}: {said}")


def is_up(state: int) -> bool:
    """Whether a container may still have processes: what the runtime cannot tell may."""
    return state != pb.CONTAINER_EXITED
