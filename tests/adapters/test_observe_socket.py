"""The socket of the services' clients: hostile messages, slow ones, and who may speak for whom."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gpuwarden.adapters.observe_keeper import (
    OBSERVATIONS_A_SECOND,
    ObserveKeeper,
    tenants_of_pid,
)
from gpuwarden.adapters.observe_socket import BODY_MAX_BYTES, CONNECTIONS_MAX, ObserveSocket
from gpuwarden.client import Client
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable


class Heard:
    """What the socket passed on."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, list[object], int]] = []
        self.carries: str | None = "risk"
        self.asked: set[str] = set()

    def service_of(self, tenant: str) -> str | None:
        self.asked.add(tenant)
        return self.carries

    def take(self, service: str, rows: Sequence[object], lost: int) -> None:
        self.rows.append((service, list(rows), lost))

    def keeper(self) -> ObserveKeeper:
        return ObserveKeeper(SystemClock(), self.service_of, self.take)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def door(tmp_path: Path, heard: Heard) -> Iterator[ObserveSocket]:
    made = ObserveSocket(tmp_path / "observe.sock", SystemClock(), heard.keeper())
    made.start()
    yield made
    made.close()


def send(path: Path, data: bytes, *, ends: bool = True) -> bytes:
    with socket.socket(socket.AF_UNIX) as side:
        side.settimeout(10)
        side.connect(str(path))
        side.sendall(data)
        if ends:
            side.shutdown(socket.SHUT_WR)
        return side.recv(1000)


def post(path: Path, body: bytes, *, head: str = "POST /v1/observations HTTP/1.1") -> int:
    answer = send(path, f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return int(answer.split()[1])


def test_the_client_and_the_socket_understand_each_other(
    tmp_path: Path, door: ObserveSocket, heard: Heard
) -> None:
    client = Client(str(tmp_path / "observe.sock"), every_s=3600.0)
    client.observe(latency=0.1, ok=True)
    assert client.flush()
    assert heard.rows == [("risk", [{"latency": 0.1, "ok": True}], 0)]


def test_who_it_is_the_kernel_says(tmp_path: Path, door: ObserveSocket, heard: Heard) -> None:
    assert post(tmp_path / "observe.sock", b'{"observations": [], "service": "other"}') == 202
    assert heard.asked == set(tenants_of_pid(os.getpid()))
    heard.carries = None
    assert post(tmp_path / "observe.sock", b'{"observations": [{}]}') == 403
    assert len(heard.rows) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"observations": 7}', 400),
        (b'{"observations": [], "lost": -1}', 400),
        (b'{"observations": [], "lost": 1e400}', 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe{}", 400),
        (b'{"observations": [NaN, "x", null, []]}', 202),
    ],
)
def test_hostile_bodies(
    tmp_path: Path, door: ObserveSocket, heard: Heard, body: bytes, status: int
) -> None:
    assert post(tmp_path / "observe.sock", body) == status


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /v1/observations HTTP/1.1\r\n\r\n", 404),
        (b"POST /other HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 404),
        (b"POST /v1/observations HTTP/1.1\r\n\r\n", 411),
        (b"POST /v1/observations HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 411),
        (b"POST /v1/observations HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"POST /v1/observations HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}", 400),
        (b"x" * 9000, 431),
        (b"\x00\x01", 400),
    ],
)
def test_hostile_requests(
    tmp_path: Path, door: ObserveSocket, heard: Heard, data: bytes, status: int
) -> None:
    assert int(send(tmp_path / "observe.sock", data).split()[1]) == status
    assert not heard.rows
    assert door.refused == 1


def test_those_who_say_nothing_keep_nobody_out(
    tmp_path: Path, door: ObserveSocket, heard: Heard
) -> None:
    silent = []
    for _ in range(CONNECTIONS_MAX + 5):
        side = socket.socket(socket.AF_UNIX)
        side.connect(str(tmp_path / "observe.sock"))
        silent.append(side)
    assert post(tmp_path / "observe.sock", b'{"observations": [{"ok": true}]}') == 202
    for side in silent:
        side.close()


def test_a_service_may_say_so_much_a_second(
    tmp_path: Path, door: ObserveSocket, heard: Heard
) -> None:
    body = json.dumps({"observations": [{}] * (OBSERVATIONS_A_SECOND // 2)}).encode()
    assert len(body) < BODY_MAX_BYTES
    answers = [post(tmp_path / "observe.sock", body) for _ in range(30)]
    assert 429 in answers
    assert answers[0] == 202


def test_a_socket_that_is_left_over_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "a"))
    left.close()
    heard = Heard()
    ObserveSocket(tmp_path / "a", SystemClock(), heard.keeper()).close()
    (tmp_path / "b").write_text("mine")
    with pytest.raises(Unavailable):
        ObserveSocket(tmp_path / "b", SystemClock(), heard.keeper())
    assert (tmp_path / "b").read_text() == "mine"
