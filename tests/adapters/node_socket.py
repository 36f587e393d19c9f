"""A served node for tests: its run directory, its socket, a method that needs an operator."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.node_api import NodeApi
from gpuwarden.adapters.run_claim import RunClaim
from gpuwarden.clock import SystemClock
from tests.adapters.view_board import Board
from tests.simulated.oncall import HeapAudit

DEADLINE_S = 20.0
NOBODY = 65534
ROOT = Path(__file__).resolve().parents[2]
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


class Acting:
    """A service whose one method needs an operator, as later ones will."""

    def __init__(self) -> None:
        self.api: NodeApi | None = None
        self.handler = grpc.method_handlers_generic_handler(
            "test.Acting", {"Act": grpc.unary_unary_rpc_method_handler(self.act)}
        )

    def act(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        assert self.api is not None
        peer = self.api.require_operator(context)
        return f"{peer.uid} {peer.pid} {peer.role}".encode()


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """A short path that others may pass through (tmp_path is long and private)."""
    folder = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def serving(run_dir: Path, board: Board, **options: Any) -> Iterator[NodeApi]:
    claim = RunClaim(run_dir)
    acting = Acting()
    clock = SystemClock()
    options = {"commands": CommandQueue(HeapAudit(), clock), **options}
    api = NodeApi(claim, board, clock=clock, handlers=[acting.handler], **options)
    acting.api = api
    api.start()
    try:
        yield api
    finally:
        api.stop()
        claim.release()


def socket_of(run_dir: Path) -> Path:
    return run_dir / "gpuwarden.sock"
