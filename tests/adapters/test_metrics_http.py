"""The metrics server over real sockets: two pages, and nothing a stranger does holds it up."""

import contextlib
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gpuwarden.adapters.metrics import PAGE_AGE_S, MetricsPage
from gpuwarden.adapters.metrics_http import HttpLimits, HttpServer
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable
from gpuwarden.model.ids import TenantId
from gpuwarden.model.service import Fitness
from tests.adapters.view_board import Board
from tests.sample_view import AT, view

DEADLINE_S = 20.0


class HandClock:
    """A clock that stands where it was put."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@contextlib.contextmanager
def serving(board: Board, *, at: float = AT, **options: Any) -> Iterator[HttpServer]:
    pages = options.pop("pages", None) or MetricsPage(board, clock=HandClock(at))
    server = HttpServer("127.0.0.1:0", pages, clock=SystemClock(), **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(
    server: HttpServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    try:
        connection.request(
            method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, fields, answer.read()
    finally:
        connection.close()


def raw(server: HttpServer, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as side:
        side.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := side.recv(65536):
                answer += piece
        return answer


def test_the_page_and_its_type() -> None:
    with serving(Board(view())) as server:
        status, fields, body = ask(server, "/metrics")
        assert status == 200
        assert fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"gpuwarden_gpu_memory_used_bytes{" in body
        assert int(fields["content-length"]) == len(body)
        assert ask(server, "/metrics?name[]=x")[2] == body
        assert ask(server, "/metrics", "HEAD")[2] == b""
        assert server.counts()["served"] == 3


def test_a_reader_on_this_host_gets_it_unpacked_another_packed() -> None:
    with serving(Board(view())) as server:
        assert "content-encoding" not in ask(server, "/metrics", Accept_Encoding="gzip")[1]
    with serving(Board(view()), is_local=lambda host: False) as server:
        plain = ask(server, "/metrics")[2]
        status, fields, body = ask(server, "/metrics", Accept_Encoding="deflate, gzip;q=1.0")
        assert status == 200
        assert fields["content-encoding"] == "gzip"
        assert gzip.decompress(body) == plain


def test_health_follows_the_tick() -> None:
    with serving(Board(view())) as server:
        assert ask(server, "/healthz")[::2] == (200, b"ok\n")
    with serving(Board(view()), at=AT + 60) as server:
        assert ask(server, "/healthz")[::2] == (503, b"no tick has finished for 60 s\n")
        assert ask(server, "/metrics")[0] == 200


def test_before_the_first_tick_it_says_so() -> None:
    with serving(Board()) as server:
        assert ask(server, "/metrics")[::2] == (503, b"no tick has finished yet\n")
        assert ask(server, "/healthz")[0] == 503


def test_the_page_is_built_once_a_second_for_any_number_of_readers() -> None:
    clock = HandClock(AT)
    pages = MetricsPage(Board(view()), clock=clock)
    with serving(Board(), pages=pages) as server:
        for _ in range(10):
            ask(server, "/metrics")
        assert pages.counts()["built"] == 1
        clock.at += PAGE_AGE_S
        first = ask(server, "/metrics")[2]
        assert pages.counts()["built"] == 2
    assert b"gpuwarden_tick_age_seconds 1.0" in first


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics/../etc HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405 Method Not Allowed"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"nonsense\n\n", b"400 Bad Request"),
        (b"GET /metrics\r\n\r\n", b"400 Bad Request"),
        (b"\xff\xfe\x00 / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.0\n\n", b"200 OK"),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 3000, b"431 Request Header Fields Too Large"),
    ],
)
def test_whatever_is_asked_gets_an_answer(request_bytes: bytes, status: bytes) -> None:
    with serving(Board(view())) as server:
        answer = raw(server, request_bytes)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert ask(server, "/healthz")[0] == 200


def test_a_load_balancer_is_told_who_is_fit() -> None:
    tenant = TenantId("docker:" + "ab" * 32)
    board = Board(
        view(),
        {
            "risk": Fitness(name="risk", is_fit=True, service="risk", tenant=tenant),
            "risk model/2": Fitness(name="risk model/2", is_fit=False, reasons=("GPU 0 is é",)),
        },
    )
    with serving(board) as server:
        status, headers, body = ask(server, "/ready/risk")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert headers["cache-control"] == "no-store"
        assert body.count(b"\n") == 1
        assert json.loads(body) == {
            "name": "risk",
            "ready": True,
            "service": "risk",
            "tenant": tenant,
            "reasons": [],
        }
        status, _, body = ask(server, "/ready/risk%20model%2F2")
        assert status == 503
        assert json.loads(body)["reasons"] == ["GPU 0 is é"]
        for unknown in ("/ready/nobody", "/ready/", "/ready/%ff%00"):
            assert ask(server, unknown)[0] == 404
        assert ask(server, "/ready")[0] == 404
    with serving(Board()) as server:
        assert ask(server, "/ready/risk")[0] == 503


class BadPages:
    """Something nobody thought of."""

    def page(self, *, is_packed: bool = False) -> bytes:
        raise ZeroDivisionError("secret")

    def health(self) -> str:
        return "ok"

    def ready(self, name: str) -> tuple[bool, bytes] | None:
        return None


def test_one_bad_page_ends_one_request() -> None:
    with serving(Board(), pages=BadPages()) as server:
        assert ask(server, "/metrics")[::2] == (500, b"internal error: ZeroDivisionError\n")
        assert ask(server, "/healthz")[0] == 200
        assert server.counts()["failed"] == 1


def test_a_request_that_comes_byte_by_byte_is_answered() -> None:
    with (
        serving(Board(view())) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as side,
    ):
        for byte in b"GET /healthz HTTP/1.1\r\n\r\n":
            side.sendall(bytes([byte]))
        assert side.recv(4096).startswith(b"HTTP/1.1 200")


def test_readers_that_never_ask_give_way_to_one_that_does() -> None:
    limits = HttpLimits(connections=4, request_s=600.0)
    with serving(Board(view()), limits=limits) as server, contextlib.ExitStack() as held:
        for _ in range(8):
            side = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            side.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        for _ in range(5):
            assert ask(server, "/metrics")[0] == 200
        assert server.counts()["evicted"] >= 5


def test_a_reader_that_never_asks_is_closed_at_its_deadline() -> None:
    limits = HttpLimits(request_s=0.05)
    with (
        serving(Board(view()), limits=limits) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as side,
    ):
        side.sendall(b"GET /metr")
        assert side.recv(1) == b""
        assert server.counts()["timeout"] == 1


class LargePages:
    """More than every socket buffer takes."""

    def page(self, *, is_packed: bool = False) -> bytes:
        return b"x" * 64 * 2**20

    def health(self) -> str:
        return "ok"

    def ready(self, name: str) -> tuple[bool, bytes] | None:
        return None


def test_a_reader_that_does_not_read_is_closed_and_others_are_served() -> None:
    limits = HttpLimits(response_s=0.05)
    with (
        serving(Board(), pages=LargePages(), limits=limits) as server,
        socket.create_connection(("127.0.0.1", server.port)) as side,
    ):
        side.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        pause = threading.Event()
        for _ in range(int(DEADLINE_S / 0.05)):
            assert ask(server, "/healthz")[0] == 200
            if server.counts().get("timeout"):
                return
            pause.wait(0.05)
        pytest.fail("a reader that does not read was kept")


def test_a_large_page_arrives_whole() -> None:
    with serving(Board(), pages=LargePages()) as server:
        assert len(ask(server, "/metrics")[2]) == 64 * 2**20


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:x", "no.such.host.invalid:1"])
def test_an_address_that_cannot_be_had_is_said_with_its_setting(address: str) -> None:
    pages = MetricsPage(Board(), clock=HandClock(0))
    with pytest.raises(Unavailable, match=r"agent\.metrics_listen"):
        HttpServer(address, pages, clock=SystemClock())


def test_a_port_in_use_is_said() -> None:
    with serving(Board(view())) as server:
        pages = MetricsPage(Board(), clock=HandClock(0))
        with pytest.raises(Unavailable, match="Address already in use"):
            HttpServer(f"127.0.0.1:{server.port}", pages, clock=SystemClock())
