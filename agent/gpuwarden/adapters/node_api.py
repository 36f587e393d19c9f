"""The node's own API: gRPC on a unix socket, with the kernel's word on who is calling.

Readers connect to ``<run_dir>/gpuwarden.sock``. Behind it the relay asks for peer credentials and passes
bytes to the gRPC server, which listens where only this user may go. A call that did not come through
the relay has no peer and is refused.
"""

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.node_service import NodeService
from gpuwarden.adapters.oncall_service import OncallService
from gpuwarden.adapters.peers import Peer, Role
from gpuwarden.adapters.relay import Relay, RelayLimits
from gpuwarden.adapters.run_claim import SOCKET_NAME, RunClaim
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable
from gpuwarden.ports_oncall import Oncall
from gpuwarden.wire.v1.node_pb2_grpc import add_NodeServiceServicer_to_server
from gpuwarden.wire.v1.oncall_pb2_grpc import add_OncallServiceServicer_to_server

REQUEST_MAX_BYTES = 64 * 1024
RESPONSE_MAX_BYTES = 32 * 2**20
_WORKERS = 12
"""Threads: every watcher holds one (eight at most), so four are left for short calls."""
_CALLS = 32
_BACKLOG = 64
_PEER_PREFIX = "unix-abstract:"


class NodeApi:
    """Serves ``source`` to readers, and ``oncall`` to operators. ``handlers`` are further services."""

    def __init__(
        self,
        claim: RunClaim,
        source: ViewSource,
        *,
        clock: Clock,
        operator_gids: tuple[int, ...] = (),
        commands: CommandQueue,
        socket_mode: int = 0o666,
        limits: RelayLimits | None = None,
        oncall: Oncall | None = None,
        handlers: "Sequence[grpc.GenericRpcHandler[Any, Any]]" = (),
    ) -> None:
        """Bind both sockets; nothing is accepted before ``start``.

        ``claim`` says that the run directory is ours. ``socket_mode`` decides who may connect at
        all, credentials decide who may act. Raises ``Unavailable`` when a socket cannot be made.
        """
        self._stopping = threading.Event()
        self._public = claim.socket_path
        inner = claim.inner_dir / SOCKET_NAME
        self._inner = inner
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="gpuwarden-api"),
            handlers=list(handlers),
            maximum_concurrent_rpcs=_CALLS,
            options=(
                ("grpc.max_receive_message_length", REQUEST_MAX_BYTES),
                ("grpc.max_send_message_length", RESPONSE_MAX_BYTES),
                ("grpc.max_concurrent_streams", 16),
                ("grpc.max_metadata_size", 8 * 1024),
                ("grpc.so_reuseport", 0),
            ),
        )
        self._service = NodeService(
            source,
            clock=clock,
            peer_of=self.peer_of,
            operator_of=self.require_operator,
            stopping=self._stopping,
            commands=commands,
        )
        add_NodeServiceServicer_to_server(self._service, self._server)
        self._oncall: OncallService | None = None
        if oncall is not None:
            self._oncall = OncallService(
                oncall, viewer=self.peer_of, operator=self.require_operator
            )
            add_OncallServiceServicer_to_server(self._oncall, self._server)
        try:
            self._server.add_insecure_port(f"unix:{inner}")
            listener = _listen(self._public, claim.inner_dir / "door.sock", socket_mode)
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"{self._public}: {error}") from error
        self._relay = Relay(
            listener, os.fspath(inner), clock=clock, operator_gids=operator_gids, limits=limits
        )

    def start(self) -> None:
        self._server.start()
        self._relay.start()

    def stop(self, grace_s: float = 1.0) -> None:
        """End every stream and call within ``grace_s``; remove the sockets."""
        self._stopping.set()
        self._public.unlink(missing_ok=True)
        self._server.stop(grace_s).wait(grace_s + 1.0)
        self._relay.stop()
        self._inner.unlink(missing_ok=True)

    def peer_of(self, context: grpc.ServicerContext) -> Peer:
        """Who calls. Ends the call with PERMISSION_DENIED when it did not come through the door."""
        name = context.peer()
        peer = (
            self._relay.peer_named(name.removeprefix(_PEER_PREFIX))
            if name.startswith(_PEER_PREFIX)
            else None
        )
        if peer is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no peer credentials")
            raise AssertionError("abort() returned")
        return peer

    def require_operator(self, context: grpc.ServicerContext) -> Peer:
        """Who calls, if they may act; ends the call with PERMISSION_DENIED otherwise."""
        peer = self.peer_of(context)
        if peer.role is not Role.OPERATOR:
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"uid {peer.uid} may look but not act: be root or in a group of agent.operator_gids",
            )
            raise AssertionError("abort() returned")
        return peer

    def counts(self) -> Mapping[str, int]:
        """What the door let in and refused, and ``failed`` answers."""
        failed = self._service.failures + (self._oncall.failures if self._oncall else 0)
        return {**self._relay.counts(), "failed": failed}


def _listen(path: Path, draft: Path, mode: int) -> socket.socket:
    """A listening socket that appears at ``path`` with its mode already set."""
    draft.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(draft))
        draft.chmod(mode)
        listener.listen(_BACKLOG)
        draft.rename(path)
    except OSError:
        listener.close()
        raise
    return listener
