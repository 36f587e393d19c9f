"""The door of the node's socket is bounded: connections, idle and deaf readers, floods."""

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.adapters.relay import RelayLimits
from gpuwarden.model.ids import IncidentId
from tests.adapters.node_socket import AS_NOBODY, DEADLINE_S, ROOT, run_folder, serving, socket_of
from tests.adapters.view_board import Board
from tests.sample_view import incident, view


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with run_folder() as folder:
        yield folder


def test_connections_are_bounded_and_those_inside_go_on(run_dir: Path) -> None:
    limits = RelayLimits(connections=3)
    with (
        serving(run_dir, Board(view()), limits=limits) as api,
        NodeClient(socket_of(run_dir)) as client,
    ):
        client.view()
        idle = [socket.socket(socket.AF_UNIX) for _ in range(6)]
        for each in idle:
            each.settimeout(DEADLINE_S)
            each.connect(str(socket_of(run_dir)))
        closed = sum(_is_closed(each) for each in idle[2:])
        assert closed == 4
        assert api.counts()["too_many"] == 4
        assert client.view().serial == 1
        for each in idle:
            each.close()


def _is_closed(connection: socket.socket) -> bool:
    """The door closes what it does not admit; the gRPC server greets what it does."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_an_idle_connection_is_closed(run_dir: Path) -> None:
    limits = RelayLimits(idle_s=0.2)
    with (
        serving(run_dir, Board(view()), limits=limits) as api,
        socket.socket(socket.AF_UNIX) as idle,
    ):
        idle.settimeout(DEADLINE_S)
        idle.connect(str(socket_of(run_dir)))
        while idle.recv(4096):
            pass
        assert api.counts()["idle"] == 1


def test_a_reader_that_does_not_read_is_dropped(run_dir: Path) -> None:
    """It asks for a stream and leaves the answers lying: its worker thread must come back."""
    big = replace(
        view(),
        incidents=tuple(
            replace(incident(), id=IncidentId(f"inc-{number}")) for number in range(400)
        ),
    )
    board = Board(big)
    limits = RelayLimits(stall_s=0.5, buffer_bytes=4096)
    with serving(run_dir, board, limits=limits) as api, _deaf_watcher(run_dir):
        serial = 1
        done = threading.Event()
        while api.counts().get("stalled", 0) == 0:
            serial += 1
            board.publish(replace(big, serial=serial))
            assert serial < 2_000
            done.wait(0.02)


@contextlib.contextmanager
def _deaf_watcher(run_dir: Path) -> Iterator[None]:
    """A process that watches and is then stopped (SIGSTOP): its socket fills up."""
    script = f"""
        import grpc, os, signal
        from gpuwarden.wire.v1 import node_pb2 as pb
        from gpuwarden.wire.v1.node_pb2_grpc import NodeServiceStub
        channel = grpc.insecure_channel(
            "unix:{socket_of(run_dir)}", options=[("grpc.max_receive_message_length", -1)])
        call = NodeServiceStub(channel).Watch(pb.WatchRequest(max_per_s=10))
        next(call)
        print("watching", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    """
    watcher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        yield
    finally:
        watcher.kill()
        watcher.communicate(timeout=30)


@pytest.mark.root
def test_a_viewer_that_floods_is_slowed_and_others_are_served(run_dir: Path) -> None:
    limits = RelayLimits(viewer_bytes_a_second=1024.0, viewer_burst_bytes=12 * 1024.0)
    with serving(run_dir, Board(view()), limits=limits) as api:
        flood = f"""
            import socket
            for _ in range(20):
                with socket.socket(socket.AF_UNIX) as each:
                    each.settimeout(5)
                    each.connect("{socket_of(run_dir)}")
        """
        subprocess.run(
            [
                *AS_NOBODY,
                sys.executable,
                "-c",
                textwrap.dedent(flood),
            ],
            timeout=60,
            check=True,
        )
        with NodeClient(socket_of(run_dir)) as client:
            assert client.view().serial == 1
        counts = api.counts()
        assert counts["too_fast"] >= 10
        assert 1 <= counts["accepted"] <= 8
