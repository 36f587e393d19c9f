"""The methods of OncallService: the kernel's word on who speaks, and what they say to on-call."""

import pwd
from collections.abc import Callable
from typing import NoReturn, Protocol, TypeVar

import grpc

from gpuwarden.adapters.deadline import Deadlines
from gpuwarden.adapters.peers import Peer
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.model.audit import Caller
from gpuwarden.ports_oncall import Oncall
from gpuwarden.wire.convert import SCHEMA_VERSION
from gpuwarden.wire.convert_oncall import from_matcher, to_silence
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import oncall_pb2 as pb
from gpuwarden.wire.v1.oncall_pb2_grpc import OncallServiceServicer

NAME_WITHIN_S = 1.0
"""A directory of users may be far away."""

_Answer = TypeVar("_Answer")


class PeerOf(Protocol):
    """Who calls; ends the call when that cannot be told, or when they may not."""

    def __call__(self, context: grpc.ServicerContext) -> Peer: ...


class OncallService(OncallServiceServicer):
    """Whoever may open the socket may look; operators may speak."""

    def __init__(self, oncall: Oncall, *, viewer: PeerOf, operator: PeerOf) -> None:
        self._oncall = oncall
        self._viewer = viewer
        self._operator = operator
        self._names = Deadlines("user name")
        self.failures = 0

    def Acknowledge(
        self, request: pb.AcknowledgeRequest, context: grpc.ServicerContext
    ) -> pb.AcknowledgeResponse:
        caller = self._caller(context)
        found = self._guarded(
            context, lambda: self._oncall.ack(request.incident, caller, request.comment)
        )
        return pb.AcknowledgeResponse(
            schema_version=SCHEMA_VERSION, incidents=[text(incident) for incident in found]
        )

    def AddSilence(
        self, request: pb.AddSilenceRequest, context: grpc.ServicerContext
    ) -> pb.AddSilenceResponse:
        caller = self._caller(context)
        matcher = from_matcher(request.matcher)
        silence = self._guarded(
            context, lambda: self._oncall.silence(matcher, caller, request.reason, request.for_s)
        )
        return pb.AddSilenceResponse(schema_version=SCHEMA_VERSION, silence=to_silence(silence))

    def ExpireSilence(
        self, request: pb.ExpireSilenceRequest, context: grpc.ServicerContext
    ) -> pb.ExpireSilenceResponse:
        caller = self._caller(context)
        silence = self._guarded(context, lambda: self._oncall.expire(request.silence, caller))
        return pb.ExpireSilenceResponse(schema_version=SCHEMA_VERSION, silence=to_silence(silence))

    def Silences(
        self, request: pb.SilencesRequest, context: grpc.ServicerContext
    ) -> pb.SilencesResponse:
        self._viewer(context)
        found = self._guarded(context, self._oncall.silences)
        return pb.SilencesResponse(
            schema_version=SCHEMA_VERSION, silences=[to_silence(silence) for silence in found]
        )

    def TestSink(
        self, request: pb.TestSinkRequest, context: grpc.ServicerContext
    ) -> pb.TestSinkResponse:
        caller = self._caller(context)
        receipt = self._guarded(context, lambda: self._oncall.test(request.sink, caller))
        return pb.TestSinkResponse(
            schema_version=SCHEMA_VERSION, text=text(receipt.text), missed=text(receipt.missed)
        )

    def _caller(self, context: grpc.ServicerContext) -> Caller:
        uid = self._operator(context).uid
        try:
            name = self._names.run(lambda: pwd.getpwuid(uid).pw_name, NAME_WITHIN_S)
        except (KeyError, Unavailable):
            name = f"uid {uid}"
        return Caller(uid=uid, name=name)

    def _guarded(self, context: grpc.ServicerContext, produce: Callable[[], _Answer]) -> _Answer:
        """The answer, or the call ends with a status that says why."""
        try:
            return produce()
        except Unavailable as error:
            code, said = grpc.StatusCode.ABORTED, str(error)
        except GpuwardenError as error:
            code, said = grpc.StatusCode.FAILED_PRECONDITION, str(error)
        except Exception as error:  # noqa: BLE001  the boundary: one bad answer ends one call
            self.failures += 1
            code, said = grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"
        return _abort(context, code, said)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, said: str) -> NoReturn:
    context.abort(code, text(said))
    raise AssertionError("abort() returned")
