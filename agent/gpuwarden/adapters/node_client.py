"""A reader of the node's API: what the command line uses to ask the running agent."""

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Withheld
from gpuwarden.model.decision import Incident
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Matcher, Receipt, Silence
from gpuwarden.model.service import Fitness
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Tenant
from gpuwarden.wire.convert import check_schema, from_view
from gpuwarden.wire.convert_node import from_tenant
from gpuwarden.wire.convert_oncall import from_silence, to_matcher
from gpuwarden.wire.convert_service import from_ready
from gpuwarden.wire.convert_work import from_incident, from_withheld
from gpuwarden.wire.fields import known, text
from gpuwarden.wire.v1 import node_pb2 as pb
from gpuwarden.wire.v1 import oncall_pb2 as on
from gpuwarden.wire.v1.node_pb2_grpc import NodeServiceStub
from gpuwarden.wire.v1.oncall_pb2_grpc import OncallServiceStub

ANSWER_MAX_BYTES = 32 * 2**20
_ABSENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One incident, its tenant as it is now (``None``: gone), and what is withheld for it now."""

    incident: Incident
    tenant: Tenant | None
    withheld: tuple[Withheld, ...]


class NodeClient(AbstractContextManager["NodeClient"]):
    """A connection to one agent. Every method raises ``Unavailable`` when it cannot be reached,
    ``Refused`` when it declines, ``Unsupported`` when it speaks a newer schema.
    """

    def __init__(self, socket_path: Path, *, timeout_s: float = 5.0) -> None:
        """Connect, or raise ``Unavailable`` with what to do about it."""
        self.socket_path = socket_path
        self._timeout_s = timeout_s
        _knock(socket_path, timeout_s)
        self._channel = grpc.insecure_channel(
            f"unix:{socket_path.absolute()}",
            options=(
                ("grpc.max_receive_message_length", ANSWER_MAX_BYTES),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
            ),
        )
        self._stub = NodeServiceStub(self._channel)
        self._oncall = OncallServiceStub(self._channel)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def view(self) -> View:
        """The newest picture."""
        try:
            answer = self._stub.Snapshot(pb.SnapshotRequest(), timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        check_schema(answer.schema_version)
        return from_view(answer.view)

    def watch(self, max_per_s: float) -> Iterator[View]:
        """Pictures as they come, until the reader stops or the agent does (``Unavailable``)."""
        call = self._stub.Watch(pb.WatchRequest(max_per_s=max_per_s))
        try:
            for answer in call:
                check_schema(answer.schema_version)
                yield from_view(answer.view)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leaves it untyped
        raise Unavailable("the agent ended the stream: it is stopping")

    def incidents(self, *, is_open_only: bool, limit: int) -> tuple[tuple[Incident, ...], int]:
        """Incidents, newest first, and how many there were beyond ``limit``."""
        request = pb.IncidentsRequest(is_open_only=is_open_only, limit=limit)
        try:
            answer = self._stub.Incidents(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        check_schema(answer.schema_version)
        return tuple(from_incident(incident) for incident in answer.incidents), answer.left_out

    def explain(self, incident: str) -> Explained:
        """One incident by its id, the beginning of it, or ``last``."""
        request = pb.ExplainRequest(incident=incident)
        try:
            answer = self._stub.Explain(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        check_schema(answer.schema_version)
        tenant = known(answer, "tenant")
        return Explained(
            incident=from_incident(answer.incident),
            tenant=None if tenant is None else from_tenant(tenant),
            withheld=tuple(from_withheld(withheld) for withheld in answer.withheld),
        )

    def ready(self, name: str) -> Fitness:
        """Whether an instance may be sent work; ``Refused``: nobody is called so."""
        return from_ready(self._said(self._stub.Ready, pb.ReadyRequest(name=text(name))))

    def acknowledge(self, incident: str, comment: str) -> tuple[IncidentId, ...]:
        """Say that somebody has it in hand; which incidents that were."""
        request = on.AcknowledgeRequest(incident=incident, comment=text(comment))
        answer = self._said(self._oncall.Acknowledge, request)
        return tuple(IncidentId(each) for each in answer.incidents)

    def add_silence(self, matcher: Matcher, reason: str, for_s: float) -> Silence:
        """Have nobody woken by these for so long."""
        request = on.AddSilenceRequest(
            matcher=to_matcher(matcher), reason=text(reason), for_s=for_s
        )
        return from_silence(self._said(self._oncall.AddSilence, request).silence)

    def expire_silence(self, silence: str) -> Silence:
        """End a silence now."""
        request = on.ExpireSilenceRequest(silence=text(silence))
        return from_silence(self._said(self._oncall.ExpireSilence, request).silence)

    def silences(self) -> tuple[Silence, ...]:
        """Those that hold now."""
        answer = self._said(self._oncall.Silences, on.SilencesRequest())
        return tuple(from_silence(silence) for silence in answer.silences)

    def test_sink(self, sink: str, timeout_s: float) -> Receipt:
        """Have a message sent that says that messages arrive."""
        request = on.TestSinkRequest(sink=text(sink))
        answer = self._said(self._oncall.TestSink, request, timeout_s)
        return Receipt(text=answer.text, missed=answer.missed)

    def command(self, verb: str, subject: str, reason: str) -> tuple[str, str]:
        """Ask the agent to do something: what was done, and the incident it is on record in (may be
        empty). ``Refused`` says why it is not done."""
        request = pb.CommandRequest(verb=verb, subject=subject, reason=reason)
        answer = self._said(self._stub.Command, request)
        return answer.text, answer.incident

    def _said(self, call: Any, request: object, timeout_s: float | None = None) -> Any:
        try:
            answer = call(request, timeout=timeout_s or self._timeout_s)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        check_schema(answer.schema_version)
        return answer

    def _translated(self, error: grpc.RpcError) -> Exception:
        code, said = error.code(), error.details() or ""
        if code in _ABSENT:
            return Unavailable(f"the agent at {self.socket_path} does not answer: {said}")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return Unsupported("the agent is older than this command: restart it after an upgrade")
        return Refused(said or str(code))


def _knock(path: Path, timeout_s: float) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        try:
            probe.connect(os.fspath(path))
        except FileNotFoundError as error:
            raise Unavailable(f"no agent at {path}: no such socket") from error
        except ConnectionRefusedError as error:
            raise Unavailable(
                f"no agent at {path}: the one that made the socket is gone"
            ) from error
        except PermissionError as error:
            raise Unavailable(f"{path}: you may not connect to this agent") from error
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror or error}") from error
