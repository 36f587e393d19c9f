"""The methods of NodeService: pictures, incidents and why, from the newest published view."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NoReturn, Protocol, TypeVar

import grpc

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.peers import Peer
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.model.command import Verb
from gpuwarden.model.decision import Incident
from gpuwarden.model.status import View
from gpuwarden.wire.convert import SCHEMA_VERSION, to_view
from gpuwarden.wire.convert_node import to_tenant
from gpuwarden.wire.convert_service import to_ready
from gpuwarden.wire.convert_work import to_incident, to_withheld
from gpuwarden.wire.v1 import node_pb2 as pb
from gpuwarden.wire.v1.node_pb2_grpc import NodeServiceServicer

INCIDENTS_DEFAULT = 50
INCIDENTS_MAX = 1000
WATCH_MAX_PER_S = 10.0
WATCHERS = 8
WATCHERS_A_USER = 4
COMMAND_S = 10.0
"""How long the loop may take to answer a command; it ticks at least once a second."""
_WAIT_S = 1.0
"""How long a watcher waits before it looks whether its reader is still there."""

_Answer = TypeVar("_Answer")


class PeerOf(Protocol):
    """Who calls; aborts the call when that cannot be told."""

    def __call__(self, context: grpc.ServicerContext) -> Peer: ...


class _Declined(Exception):
    """The caller asked for something it cannot have; becomes a status of the call."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class NodeService(NodeServiceServicer):
    """Answers from ``source``; keeps the newest picture as a message, so that it is made once."""

    def __init__(
        self,
        source: ViewSource,
        *,
        clock: Clock,
        peer_of: PeerOf,
        operator_of: PeerOf,
        stopping: threading.Event,
        commands: CommandQueue,
    ) -> None:
        self._source = source
        self._clock = clock
        self._peer_of = peer_of
        self._operator_of = operator_of
        self._commands = commands
        self._stopping = stopping
        self._lock = threading.Lock()
        self._made: tuple[View, pb.View] | None = None
        self._watchers: Counter[int] = Counter()
        self.failures = 0

    def Snapshot(
        self, request: pb.SnapshotRequest, context: grpc.ServicerContext
    ) -> pb.SnapshotResponse:
        self._peer_of(context)
        view = self._guarded(context, lambda: self._message(self._source.view()))
        return pb.SnapshotResponse(schema_version=SCHEMA_VERSION, view=view)

    def Watch(
        self, request: pb.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchResponse]:
        peer = self._peer_of(context)
        self._guarded(context, lambda: self._join(peer))
        try:
            yield from self._pictures(request.max_per_s, context)
        finally:
            with self._lock:
                self._watchers[peer.uid] -= 1

    def Incidents(
        self, request: pb.IncidentsRequest, context: grpc.ServicerContext
    ) -> pb.IncidentsResponse:
        self._peer_of(context)
        return self._guarded(context, lambda: self._incidents(request))

    def Explain(
        self, request: pb.ExplainRequest, context: grpc.ServicerContext
    ) -> pb.ExplainResponse:
        self._peer_of(context)
        return self._guarded(context, lambda: self._explain(request.incident))

    def Ready(self, request: pb.ReadyRequest, context: grpc.ServicerContext) -> pb.ReadyResponse:
        self._peer_of(context)
        return self._guarded(context, lambda: self._ready(request.name))

    def Command(
        self, request: pb.CommandRequest, context: grpc.ServicerContext
    ) -> pb.CommandResponse:
        peer = self._operator_of(context)
        return self._guarded(context, lambda: self._command(request, peer))

    def _ready(self, name: str) -> pb.ReadyResponse:
        found = self._source.fitness(name, self._clock.now())
        if found is None:
            text = f"no tenant or service is called {name[:80]}"
            raise _Declined(grpc.StatusCode.NOT_FOUND, text)
        return to_ready(found, SCHEMA_VERSION)

    def _command(self, request: pb.CommandRequest, peer: Peer) -> pb.CommandResponse:
        if request.verb not in {verb.value for verb in Verb}:
            text = f"no such command: {request.verb[:40]}"
            raise _Declined(grpc.StatusCode.UNIMPLEMENTED, text)
        try:
            answer = self._commands.ask(
                Verb(request.verb), request.subject, request.reason, peer.uid, COMMAND_S
            )
        except Refused as refused:
            raise _Declined(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refused)) from refused
        if not answer.is_done:
            raise _Declined(grpc.StatusCode.FAILED_PRECONDITION, answer.text)
        return pb.CommandResponse(
            schema_version=SCHEMA_VERSION, text=answer.text, incident=answer.incident or ""
        )

    def _message(self, view: View) -> pb.View:
        made = self._made
        if made is None or made[0] is not view:
            made = self._made = (view, to_view(view))
        return made[1]

    def _pictures(
        self, asked_per_s: float, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchResponse]:
        per_s = asked_per_s if 0 < asked_per_s < WATCH_MAX_PER_S else WATCH_MAX_PER_S
        gap_s = 1.0 if asked_per_s == 0 else 1 / per_s
        sent, seen, due, told = 0, 0, self._clock.now(), None
        while context.is_active() and not self._stopping.is_set():
            early_s = due - self._clock.now()
            known, wait_s = (seen, min(early_s, _WAIT_S)) if early_s > 0 else (sent, _WAIT_S)
            view = self._guarded(context, partial(self._source.wait_newer, known, wait_s))
            if view is None:
                continue
            seen, news = view.serial, _news(view)
            if early_s > 0 and news == told:
                continue
            message = self._guarded(context, partial(self._message, view))
            yield pb.WatchResponse(schema_version=SCHEMA_VERSION, view=message)
            sent, told, due = seen, news, self._clock.now() + gap_s

    def _join(self, peer: Peer) -> None:
        with self._lock:
            if self._watchers.total() >= WATCHERS or self._watchers[peer.uid] >= WATCHERS_A_USER:
                raise _Declined(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many are watching already")
            self._watchers[peer.uid] += 1

    def _incidents(self, request: pb.IncidentsRequest) -> pb.IncidentsResponse:
        limit = min(request.limit or INCIDENTS_DEFAULT, INCIDENTS_MAX)
        found = [
            incident
            for incident in self._source.view().incidents
            if incident.closed_at is None or not request.is_open_only
        ]
        return pb.IncidentsResponse(
            schema_version=SCHEMA_VERSION,
            incidents=[to_incident(incident) for incident in found[:limit]],
            left_out=max(0, len(found) - limit),
        )

    def _explain(self, wanted: str) -> pb.ExplainResponse:
        view = self._source.view()
        try:
            incident = only(view.incidents, wanted)
        except Refused as refused:
            raise _Declined(grpc.StatusCode.NOT_FOUND, str(refused)) from refused
        tenants = [tenant for tenant in view.snapshot.tenants if tenant.id == incident.tenant]
        return pb.ExplainResponse(
            schema_version=SCHEMA_VERSION,
            incident=to_incident(incident),
            tenant=to_tenant(tenants[0]) if tenants else None,
            withheld=[
                to_withheld(withheld)
                for withheld in view.withheld
                if withheld.incident == incident.id
            ],
        )

    def _guarded(self, context: grpc.ServicerContext, produce: Callable[[], _Answer]) -> _Answer:
        """The answer, or the call ends with a status that says why."""
        try:
            return produce()
        except _Declined as declined:
            code, text = declined.code, str(declined)
        except GpuwardenError as error:
            code, text = grpc.StatusCode.UNAVAILABLE, str(error)
        except Exception as error:  # noqa: BLE001  the boundary: one bad answer ends one call
            self.failures += 1
            code, text = grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"
        return _abort(context, code, text)


def _news(view: View) -> tuple[object, ...]:
    """What of a picture a watcher should not have to wait for."""
    return (
        tuple((finding.key, finding.is_confirmed) for finding in view.findings),
        tuple((case.tenant, case.rung) for case in view.cases),
        tuple((i.id, i.closed_at) for i in view.incidents),
    )


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort() returned")


def matching(incidents: Sequence[Incident], wanted: str) -> list[Incident]:
    """The incident of that id, those whose id begins so, or the newest for ``last``."""
    if wanted == "last" and incidents:
        return [max(incidents, key=lambda incident: incident.opened_wall)]
    exact = [incident for incident in incidents if incident.id == wanted]
    return exact or [each for each in incidents if wanted and each.id.startswith(wanted)]


def only(incidents: Sequence[Incident], wanted: str) -> Incident:
    """The one that ``wanted`` names; ``Refused`` says which it fits, or that there is none."""
    found = matching(incidents, wanted)
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(incident.id for incident in found[:5])
        raise Refused(f"{wanted} fits {len(found)} incidents: {some}")
    raise Refused(f"no incident {wanted[:80]}" if incidents else "no incident is on record")
