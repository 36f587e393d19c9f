"""The same for programs that speak gRPC: ``ObservationService`` on a unix socket of its own.

As at the node's own door the kernel says who is at the other end (``relay``), once for each connection; whoever carries
no service is refused, and whoever does speaks for his own. Nothing else is served here, and nothing of it from afar.
"""

import os
import socket
import stat
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc

from gpuwarden.adapters.observe_keeper import Heard, ObserveKeeper, tenants_of_pid
from gpuwarden.adapters.relay import Relay, RelayLimits
from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable
from gpuwarden.wire.convert_observation import from_observation
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1.evaluation_pb2_grpc import (
    ObservationServiceServicer,
    add_ObservationServiceServicer_to_server,
)

REQUEST_MAX_BYTES = 512 * 1024
OBSERVATIONS_MAX = 2000
"""Of one message."""
LIMITS = RelayLimits(
    connections=32,
    connections_a_user=24,
    viewer_bytes_a_second=2**20,
    viewer_burst_bytes=2.0 * 2**20,
)
"""A MiB a second is some 10,000 observations of ordinary size."""
_WORKERS = 2
_CALLS = 16
_KNOWN_MAX = 256
_PREFIX = "unix-abstract:"
_CODES = {
    Heard.STRANGER: (
        grpc.StatusCode.PERMISSION_DENIED,
        "this process carries no service here (label gpuwarden.service)",
    ),
    Heard.MALFORMED: (grpc.StatusCode.INVALID_ARGUMENT, "not what observations are"),
    Heard.TOO_MANY: (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many observations a second"),
}


class ObserveGrpc(ObservationServiceServicer):
    """Listens from ``start`` to ``close``."""

    def __init__(self, path: Path, inner_dir: Path, clock: Clock, keeper: ObserveKeeper) -> None:
        """``Unavailable`` when a socket cannot be made. ``inner_dir``: where nobody else may go."""
        self._path, self._keeper = path, keeper
        self._inner = inner_dir / "observe.sock"
        self._known: OrderedDict[str, list[str]] = OrderedDict()
        self._lock = threading.Lock()
        self.refused = 0
        """Calls that were not taken."""
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="gpuwarden-observe"),
            maximum_concurrent_rpcs=_CALLS,
            options=(
                ("grpc.max_receive_message_length", REQUEST_MAX_BYTES),
                ("grpc.max_concurrent_streams", 4),
                ("grpc.max_metadata_size", 8 * 1024),
                ("grpc.so_reuseport", 0),
            ),
        )
        add_ObservationServiceServicer_to_server(self, self._server)
        try:
            for socket_path in (path, self._inner):
                with suppress(FileNotFoundError):
                    if stat.S_ISSOCK(socket_path.lstat().st_mode):
                        socket_path.unlink()
            self._server.add_insecure_port(f"unix:{self._inner}")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listener.bind(os.fspath(path))
                path.chmod(0o666)  # who may say what is decided by who it is
                listener.listen(16)
            except OSError:
                listener.close()
                raise
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"{path}: {error}") from error
        self._relay = Relay(
            listener, os.fspath(self._inner), clock=clock, operator_gids=(), limits=LIMITS
        )

    def start(self) -> None:
        self._server.start()
        self._relay.start()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server.stop(0.5).wait(2.0)
        self._relay.stop()
        self._inner.unlink(missing_ok=True)

    def Observe(
        self, request: pb.ObserveRequest, context: grpc.ServicerContext
    ) -> pb.ObserveResponse:
        """One message; what is not an observation in it is left out and counted with what was lost."""
        tenants, said = self._tenants(context.peer()), request.observations
        became = Heard.MALFORMED
        if len(said) <= OBSERVATIONS_MAX:
            became = self._keeper.heard(
                tenants, len(said), lambda: [from_observation(each) for each in said], request.lost
            )
        if became is not Heard.TAKEN:
            self.refused += 1
            context.abort(*_CODES[became])
        return pb.ObserveResponse(taken=len(said))

    def _tenants(self, name: str) -> Sequence[str]:
        """Whose a connection is. Asked when it first says something: its process may hand it on, or end, and its
        pid may be another's by then."""
        with self._lock:
            known = self._known.get(name)
            if known:
                return known
            peer = None
            if name.startswith(_PREFIX):
                peer = self._relay.peer_named(name.removeprefix(_PREFIX))
            if peer is None:
                return ()
            self._known[name] = found = tenants_of_pid(peer.pid)
            while len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
            return found
