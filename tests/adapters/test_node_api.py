"""The node's socket, for real: what it tells, who may connect and who may act."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.adapters.node_service import WATCHERS_A_USER
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.ids import IncidentId
from gpuwarden.wire.v1 import node_pb2 as pb
from gpuwarden.wire.v1.node_pb2_grpc import NodeServiceStub
from tests.adapters.node_socket import AS_NOBODY, DEADLINE_S, NOBODY, run_folder, serving, socket_of
from tests.adapters.view_board import Board
from tests.sample_view import INCIDENT, device_id, incident, view


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with run_folder() as folder:
        yield folder


def act_as(uid: int | None, run_dir: Path, *gids: int) -> subprocess.CompletedProcess[str]:
    """Call the acting method from a process of that user; prints the answer or the status."""
    script = f"""
        import grpc
        channel = grpc.insecure_channel("unix:{socket_of(run_dir)}")
        try:
            print(channel.unary_unary("/test.Acting/Act")(b"", timeout={DEADLINE_S}).decode())
        except grpc.RpcError as error:
            print(error.code().name, error.details())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    if uid is not None:
        groups = ["--groups", ",".join(str(gid) for gid in gids)] if gids else ["--clear-groups"]
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", *groups, *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_snapshot_is_the_published_picture(run_dir: Path) -> None:
    with serving(run_dir, Board(view())), NodeClient(socket_of(run_dir)) as client:
        assert client.view() == view()


def test_before_the_first_tick_it_is_unavailable_and_says_so(run_dir: Path) -> None:
    with (
        serving(run_dir, Board()),
        NodeClient(socket_of(run_dir)) as client,
        pytest.raises(Unavailable, match="no tick has finished"),
    ):
        client.view()


def test_watch_gives_each_picture_to_a_reader_that_keeps_up(run_dir: Path) -> None:
    board = Board(view(1))
    with serving(run_dir, board), NodeClient(socket_of(run_dir)) as client:
        pictures = client.watch(10.0)
        for serial in (1, 2, 3):
            board.publish(view(serial))
            assert next(pictures).serial == serial


def test_watch_gives_the_newest_and_skips_what_came_between(run_dir: Path) -> None:
    board = Board(view(1))
    with serving(run_dir, board), NodeClient(socket_of(run_dir)) as client:
        pictures = client.watch(5.0)
        assert next(pictures).serial == 1
        for serial in range(2, 400):
            board.publish(view(serial))
        seen = [next(pictures).serial]
        while seen[-1] < 399:
            seen.append(next(pictures).serial)
        assert len(seen) < 20


def test_news_does_not_wait_for_its_turn(run_dir: Path) -> None:
    """A watcher that asked for one picture an hour hears of another incident at once, and only then."""
    board = Board(view(1))
    with serving(run_dir, board), NodeClient(socket_of(run_dir)) as client:
        pictures = client.watch(1 / 3600)
        assert next(pictures).serial == 1
        board.publish(view(2))
        more = (*view(3).incidents, replace(incident(), id=IncidentId("inc-new")))
        board.publish(replace(view(3), incidents=more))
        assert next(pictures).serial == 3


def test_watchers_are_bounded_a_user_and_leave_room_when_they_go(run_dir: Path) -> None:
    board = Board(view(1))
    with serving(run_dir, board), NodeClient(socket_of(run_dir)) as client:
        watchers = [client.watch(1.0) for _ in range(WATCHERS_A_USER)]
        for watcher in watchers:
            next(watcher)
        with pytest.raises(Refused, match="too many are watching"):
            next(client.watch(1.0))
        assert client.view().serial == 1
        watchers[0].close()  # type: ignore[attr-defined]  # a generator
        pause = threading.Event()
        for _ in range(int(DEADLINE_S / 0.05)):
            with contextlib.suppress(Refused):
                assert next(client.watch(1.0)).serial == 1
                break
            pause.wait(0.05)
        else:
            pytest.fail("the place of a watcher that left was never given again")


def test_stop_ends_streams_and_removes_the_socket(run_dir: Path) -> None:
    ended = threading.Event()
    with serving(run_dir, Board(view(1))), NodeClient(socket_of(run_dir)) as client:
        pictures = client.watch(1.0)
        next(pictures)

        def rest() -> None:
            with contextlib.suppress(Unavailable, Refused):
                next(pictures)
            ended.set()

        threading.Thread(target=rest, daemon=True).start()
    assert ended.wait(DEADLINE_S)
    assert not socket_of(run_dir).exists()
    with pytest.raises(Unavailable, match="no such socket"):
        NodeClient(socket_of(run_dir))


def test_incidents_open_only_limit_and_left_out(run_dir: Path) -> None:
    with serving(run_dir, Board(view())), NodeClient(socket_of(run_dir)) as client:
        found, left_out = client.incidents(is_open_only=False, limit=1)
        assert [entry.id for entry in found] == [INCIDENT]
        assert left_out == 1
        found, left_out = client.incidents(is_open_only=True, limit=50)
        assert [entry.id for entry in found] == ["inc-0b1f3c2a-9"]
        assert left_out == 0


def test_explain_by_id_beginning_or_last(run_dir: Path) -> None:
    with serving(run_dir, Board(view())), NodeClient(socket_of(run_dir)) as client:
        explained = client.explain(INCIDENT)
        assert explained.incident == incident()
        assert explained.tenant is not None
        assert explained.tenant.name == "batch-embed-nightly"
        assert [entry.budget for entry in explained.withheld] == ["one_per_device"]
        assert client.explain("last").incident.id == INCIDENT
        with pytest.raises(Refused, match="fits 2 incidents: inc-0b1f3c2a-7, inc-0b1f3c2a-9"):
            client.explain("inc-0b1f")
        with pytest.raises(Refused, match="no incident nonsense"):
            client.explain("nonsense")


def test_a_gone_tenant_is_absent_not_empty(run_dir: Path) -> None:
    gone = replace(view(), snapshot=replace(view().snapshot, tenants=()))
    with serving(run_dir, Board(gone)), NodeClient(socket_of(run_dir)) as client:
        assert client.explain(INCIDENT).tenant is None


def test_the_caller_is_who_the_kernel_says(run_dir: Path) -> None:
    with serving(run_dir, Board(view())):
        answer = act_as(None, run_dir).stdout.split()
    assert answer[0] == str(os.geteuid())
    assert int(answer[1]) not in (0, os.getpid())
    assert answer[2] == "operator"


@pytest.mark.root
def test_nobody_may_look_but_not_act(run_dir: Path) -> None:
    with serving(run_dir, Board(view())) as api:
        assert act_as(NOBODY, run_dir).stdout.startswith(
            f"PERMISSION_DENIED uid {NOBODY} may look but not act"
        )
        assert api.counts()["accepted"] == 1


@pytest.mark.root
@pytest.mark.parametrize(
    ("mine", "may_act"), [((4711,), True), ((1, 4711, 5), True), ((4712,), False)]
)
def test_a_member_of_an_operators_group_may_act(
    run_dir: Path, mine: tuple[int, ...], may_act: bool
) -> None:
    with serving(run_dir, Board(view()), operator_gids=(4711,)):
        answer = act_as(NOBODY, run_dir, *mine).stdout
    assert answer.startswith(f"{NOBODY} " if may_act else "PERMISSION_DENIED")


@pytest.mark.root
def test_a_socket_for_the_group_keeps_others_out(run_dir: Path) -> None:
    with serving(run_dir, Board(view()), socket_mode=0o660):
        assert stat.S_IMODE(socket_of(run_dir).stat().st_mode) == 0o660
        answer = act_as(NOBODY, run_dir).stdout
    assert answer.startswith("UNAVAILABLE")


@pytest.mark.root
def test_nobody_cannot_reach_the_server_behind_the_door(run_dir: Path) -> None:
    with serving(run_dir, Board(view())):
        inner = run_dir / "inner" / "gpuwarden.sock"
        assert inner.exists()
        asked = subprocess.run(
            [
                *AS_NOBODY,
                sys.executable,
                "-c",
                f"import socket; socket.socket(socket.AF_UNIX).connect({str(inner)!r})",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "PermissionError" in asked.stderr


def test_who_comes_past_the_door_is_refused(run_dir: Path) -> None:
    """Root may open the inner socket, but carries no credentials the door has read."""
    with serving(run_dir, Board(view())):
        for name in (None, "\0gpuwarden-0-1"):
            with socket.socket(socket.AF_UNIX) as door, relay_to(run_dir, door, name) as path:
                with (
                    grpc.insecure_channel(f"unix:{path}") as channel,
                    pytest.raises(grpc.RpcError) as raised,
                ):
                    NodeServiceStub(channel).Snapshot(pb.SnapshotRequest(), timeout=DEADLINE_S)
                assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


@contextlib.contextmanager
def relay_to(run_dir: Path, door: socket.socket, name: str | None) -> Iterator[str]:
    """One connection, passed to the inner socket under a name of our own choice."""
    path = f"{run_dir}/forged{'' if name is None else '-named'}.sock"
    door.bind(path)
    door.listen()
    inner = socket.socket(socket.AF_UNIX)
    if name is not None:
        inner.bind(name)
    inner.connect(f"{run_dir}/inner/gpuwarden.sock")

    def shuttle() -> None:
        client, _ = door.accept()

        def copy(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(4096):
                    sink.sendall(data)

        with client:
            threading.Thread(target=copy, args=(client, inner), daemon=True).start()
            copy(inner, client)

    shuttling = threading.Thread(target=shuttle, daemon=True)
    shuttling.start()
    yield path
    inner.shutdown(socket.SHUT_RDWR)
    shuttling.join(DEADLINE_S)
    inner.close()


def test_a_message_that_is_too_large_ends_that_call_only(run_dir: Path) -> None:
    with serving(run_dir, Board(view())), NodeClient(socket_of(run_dir)) as client:
        with pytest.raises(Refused, match="larger than max"):
            client.explain("x" * 100_000)
        assert client.view().serial == 1


def test_garbage_on_the_socket_does_not_disturb_others(run_dir: Path) -> None:
    with serving(run_dir, Board(view())), NodeClient(socket_of(run_dir)) as client:
        for garbage in (b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(100_000)):
            with socket.socket(socket.AF_UNIX) as each:
                each.settimeout(DEADLINE_S)
                each.connect(str(socket_of(run_dir)))
                with contextlib.suppress(OSError):
                    each.sendall(garbage)
        assert client.view().agent.mode == "enforce"


def test_one_bad_picture_fails_one_call_and_is_counted(run_dir: Path) -> None:
    bad = replace(view(), serial=-1)
    board = Board(bad)
    with serving(run_dir, board) as api, NodeClient(socket_of(run_dir)) as client:
        with pytest.raises(Refused, match="internal error: ValueError"):
            client.view()
        assert api.counts()["failed"] == 1
        board.publish(view(2))
        assert client.view().snapshot.devices[0].id == device_id(0)
