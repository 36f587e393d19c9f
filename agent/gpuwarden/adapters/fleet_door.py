"""The node's API for its aggregator: the same NodeService over mutual TLS, to read only."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.node_api import REQUEST_MAX_BYTES, RESPONSE_MAX_BYTES
from gpuwarden.adapters.node_service import NodeService
from gpuwarden.adapters.peers import Peer, Role
from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.pki.names import identity_of
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Identity
from gpuwarden.wire.v1.node_pb2_grpc import add_NodeServiceServicer_to_server

WORKERS = 12
"""Made when they are needed; a watcher holds one, and there are eight at most."""
CALLS = 16
NOBODY = 65_534

May = Callable[[str, Identity | None], bool]


class _Guard(grpc.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Notes which method is called: the context does not tell."""

    def __init__(self, may: May, domain: str) -> None:
        self._may = may
        self._domain = domain
        self.denied = 0

    def intercept_service(self, continuation, details):  # type: ignore[no-untyped-def]
        handler = continuation(details)
        if handler is None or handler.request_streaming:
            return None
        inner = handler.unary_stream if handler.response_streaming else handler.unary_unary
        method = details.method

        def guarded(request, context):  # type: ignore[no-untyped-def]
            self._check(context, method)
            return inner(request, context)

        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    def _check(self, context: grpc.ServicerContext, method: str) -> None:
        try:
            who: Identity | None = identity_of(context.auth_context(), self._domain)
            why = f"{who.role if who else ''} may not call {method}"
        except Refused as refused:
            who, why = None, str(refused)
        if not self._may(method, who):
            self.denied += 1
            context.abort(grpc.StatusCode.PERMISSION_DENIED, why)


class FleetDoor:
    """Serves ``source`` to whom ``may`` allows; orders come over the node's own stream, not here."""

    def __init__(
        self,
        listen: str,
        source: ViewSource,
        certificate: OwnCertificate,
        clock: Clock,
        may: May,
        commands: CommandQueue,
    ) -> None:
        """``Unavailable`` when it cannot listen there. ``commands`` are what the node's own door takes; none
        comes in here."""
        self._stopping = threading.Event()
        self._guard = _Guard(may, certificate.domain)
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="gpuwarden-door"),
            interceptors=[self._guard],
            maximum_concurrent_rpcs=CALLS,
            options=(
                ("grpc.max_receive_message_length", REQUEST_MAX_BYTES),
                ("grpc.max_send_message_length", RESPONSE_MAX_BYTES),
                ("grpc.max_concurrent_streams", 8),
                ("grpc.max_metadata_size", 8 * 1024),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ),
        )
        service = NodeService(
            source,
            clock=clock,
            peer_of=_peer,
            operator_of=_nobody,
            stopping=self._stopping,
            commands=commands,
        )
        add_NodeServiceServicer_to_server(service, self._server)
        try:
            self.port = self._server.add_secure_port(listen, certificate.serving())
        except RuntimeError as error:
            raise Unavailable(f"fleet.listen {listen}: {error}") from error

    @property
    def denied(self) -> int:
        return self._guard.denied

    def start(self) -> None:
        self._server.start()

    def stop(self, grace_s: float = 1.0) -> None:
        self._stopping.set()
        self._server.stop(grace_s).wait(grace_s + 1.0)


def _peer(context: grpc.ServicerContext) -> Peer:
    """Somebody whom the guard has let in."""
    return Peer(uid=NOBODY, gid=NOBODY, pid=0, role=Role.VIEWER)


def _nobody(context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "orders come over the node's own stream")
    raise AssertionError("abort() returned")
