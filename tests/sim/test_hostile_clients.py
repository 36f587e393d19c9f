"""Clients of the driver are hostile: whatever they send, the driver lives and nobody else loses."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwarden.errors import Unsupported
from gpuwarden.sim.driver.build import Built, build
from gpuwarden.sim.host import SimHost, SimOptions
from tests.sim.sight import GIB, until

MAGIC = 0x47575032
HELLO, RESOLVE, ALLOC, FREE, LOAD, LAUNCH, LOCKUP, EVENTS = range(1, 9)
LIMIT_SET, LIMIT_GET, LIMIT_MINE, SET_MODE = range(10, 14)
WORKLOAD, LIBRARY, LISTENER = 1, 2, 3
MAX_TEXT = 4096

SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


@pytest.fixture(scope="module")
def sanitized(built: Built) -> Built:
    """A driver that ends at its first bad access, leak or undefined arithmetic."""
    try:
        return build(driver_flags=SANITIZERS)
    except Unsupported:
        return built  # this compiler has no sanitizers: the same tests without them


@pytest.fixture
def host(sanitized: Built) -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=2), built=sanitized) as running:
        yield running
    assert (running.driver_status, running.driver_said) == (0, "")


QUIET = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _request(
    op: int, *, device: int = 0, a: int = 0, b: int = 0, text: bytes = b"", tag: int = 1
) -> bytes:
    return struct.pack("<IIQIIQQ", MAGIC, op, tag, device, len(text), a, b) + text


@contextmanager
def _client(host: SimHost, role: int | None = WORKLOAD) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(10)
        connection.connect(str(host.folder / "driver.sock"))
        if role is not None:
            assert _call(connection, _request(HELLO, a=role))[0] == 0
        yield connection


def _call(connection: socket.socket, request: bytes) -> tuple[int, int]:
    """Status and first value of the answer."""
    connection.send(request)
    magic, _op, _tag, status, _device, a, _b, _c = struct.unpack("<IIQIIQQQ", connection.recv(4096))
    assert magic == MAGIC
    return status, a


def _is_dropped(connection: socket.socket) -> bool:
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


def _well(host: SimHost) -> None:
    """The driver answers, and serves a well-behaved client."""
    assert host.control("ping")["pid"] == host.driver_pid
    with _client(host) as good:
        assert _call(good, _request(ALLOC, a=GIB)) == (0, GIB)
        assert _call(good, _request(FREE, a=GIB)) == (0, 0)


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        b"\0" * 40,
        _request(HELLO, a=WORKLOAD)[:-1],
        _request(HELLO, a=WORKLOAD) + b"tail",
        _request(99),
        _request(0),
        _request(HELLO, a=0),
        _request(HELLO, a=9),
        _request(ALLOC, a=GIB),  # before it said hello
        struct.pack("<IIQIIQQ", MAGIC, RESOLVE, 1, 0, 4_000_000_000, 0, 0),
        _request(RESOLVE, text=b"GPU\0x"),
        _request(RESOLVE, text=b"x" * (MAX_TEXT + 1)),
        b"y" * 100_000,
    ],
)
def test_a_malformed_first_message_ends_the_connection(host: SimHost, message: bytes) -> None:
    with _client(host, role=None) as bad:
        bad.send(message)
        assert _is_dropped(bad)
    assert host.control("info")["malformed"] == 1
    _well(host)


@pytest.mark.parametrize(
    "message",
    [
        _request(HELLO, a=WORKLOAD),  # twice
        _request(ALLOC, a=2**63),
        _request(LOAD, a=10**9),
        _request(LOCKUP, a=7),
        _request(LOCKUP, b=10**6),
        _request(EVENTS, a=8),  # not a listener
        _request(RESOLVE, text=b"GPU\0x"),
        _request(RESOLVE, text=b"x" * (MAX_TEXT + 1)),
        _request(RESOLVE, text=b"0")[:-1],
        _request(99),
    ],
)
def test_a_workload_that_breaks_the_protocol_loses_what_it_has(
    host: SimHost, message: bytes
) -> None:
    with _client(host) as bad:
        assert _call(bad, _request(ALLOC, a=GIB))[0] == 0
        bad.send(message)
        assert _is_dropped(bad)
    assert host.control("processes", device=0)["processes"] == []
    _well(host)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (_request(ALLOC, a=2**62), 20),
        (_request(ALLOC, a=41 * GIB), 20),
        (_request(FREE, a=1), 2),
        (_request(ALLOC, a=0), 0),
        (_request(ALLOC, device=7, a=1), 2),
        (_request(ALLOC, device=0xFFFFFFFF, a=1), 2),
        (_request(ALLOC, device=0x100, a=1), 2),  # an instance of a whole device
        (_request(LAUNCH, a=0, b=1), 2),
        (_request(LAUNCH, a=1, b=0), 2),
        (_request(LAUNCH, a=2**60, b=1), 2),
        (_request(LAUNCH, a=1, b=2**60), 2),
        (_request(RESOLVE, text=b"99999999999999999999"), 6),
        (_request(RESOLVE, text=b""), 6),
        (_request(LIMIT_SET, a=2, b=1, text=b"/"), 2),
        (_request(LIMIT_GET, text=b"../../etc"), 2),
        (_request(SET_MODE, a=99, b=1), 2),
        (_request(SET_MODE, a=4, b=77), 2),
    ],
)
def test_impossible_wishes_are_refused_with_a_code(
    host: SimHost, message: bytes, status: int
) -> None:
    with _client(host) as client:
        assert _call(client, message)[0] == status
        assert _call(client, _request(ALLOC, a=GIB)) == (0, GIB)  # and the connection stays
    assert until(lambda: host.control("info")["devices"][0]["used"] == 0)


@QUIET
@given(messages=st.lists(st.binary(max_size=200), max_size=8))
def test_any_bytes(host: SimHost, messages: list[bytes]) -> None:
    with _client(host, role=None) as bad:
        for message in messages:
            try:
                bad.send(message)
            except (BrokenPipeError, ConnectionResetError):
                break
    assert host.control("ping")["pid"] == host.driver_pid


@QUIET
@given(
    role=st.sampled_from([WORKLOAD, LIBRARY, LISTENER]),
    wishes=st.lists(
        st.tuples(
            st.integers(0, 15),
            st.sampled_from([0, 1, 2, 15, 0x101, 0x701, 0x801, 2**32 - 1]),
            st.one_of(st.integers(0, 2**36), st.integers(0, 2**64 - 1)),
            st.integers(0, 2**64 - 1),
            st.binary(max_size=40),
        ),
        max_size=12,
    ),
)
def test_any_well_formed_messages(
    host: SimHost, role: int, wishes: list[tuple[int, int, int, int, bytes]]
) -> None:
    with _client(host, role) as bad:
        for op, device, a, b, text in wishes:
            try:
                bad.send(_request(op, device=device, a=a, b=b, text=text))
            except (BrokenPipeError, ConnectionResetError):
                break
    assert host.control("ping")["pid"] == host.driver_pid
    assert until(lambda: host.control("info")["devices"][0]["used"] == 0)
    for index in (0, 1):
        host.control("unlock", device=index)


def test_alloc_and_free_never_lose_a_byte(host: SimHost) -> None:
    chance = random.Random(11)
    held = 0
    with _client(host) as client:
        for _ in range(2000):
            size = chance.randint(1, 2 * GIB)
            if chance.random() < 0.5:
                status, now = _call(client, _request(ALLOC, a=size))
                held += size if status == 0 else 0
            else:
                status, now = _call(client, _request(FREE, a=size))
                held -= size if status == 0 else 0
            assert now == held
        assert host.control("info")["devices"][0]["used"] == held
    assert until(lambda: host.control("info")["devices"][0]["used"] == 0)


def test_launches_are_bounded(host: SimHost) -> None:
    host.control("lock_up", device=0)
    with _client(host) as client:
        for tag in range(128):
            client.send(_request(LAUNCH, a=1000, b=1, tag=tag))
        client.send(_request(LAUNCH, a=1000, b=1, tag=999))
        _m, op, tag, status, *_ = struct.unpack("<IIQIIQQQ", client.recv(4096))
        assert (op, tag, status) == (LAUNCH, 999, 23)
        host.control("unlock", device=0)
        tags = {struct.unpack("<IIQIIQQQ", client.recv(4096))[2] for _ in range(128)}
        assert tags == set(range(128))
    assert host.control("info")["launches_refused"] == 1


def test_a_client_that_never_reads_is_dropped_not_waited_for(host: SimHost) -> None:
    with _client(host) as greedy:
        greedy.setblocking(False)
        try:
            for _ in range(100_000):
                greedy.send(_request(ALLOC, a=0))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        _well(host)


def test_many_connections_at_once(host: SimHost) -> None:
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(300)]
    for client in clients:
        client.connect(str(host.folder / "driver.sock"))
        client.send(_request(HELLO, a=WORKLOAD))
        client.send(_request(ALLOC, a=1 << 20))
    assert until(lambda: host.control("info")["devices"][0]["used"] == 300 << 20)
    listed = host.control("processes", device=0)["processes"]
    assert [(entry["pid"], entry["bytes"]) for entry in listed] == [(os.getpid(), 300 << 20)]
    for client in clients:
        client.close()
    assert until(lambda: host.control("info")["devices"][0]["used"] == 0)
    _well(host)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"cmd":\n',
        b'{"cmd":"ping"} x\n',
        b'{"cmd":{"a":1}}\n',
        b'{"cmd":"\\u0000"}\n',
        b'{"cmd":"\\ud800"}\n',
        b'{"id":-1,"cmd":"ping"}\n',
        b'{"id":1e400,"cmd":"ping"}\n',
        b"{" + b'"a":1,' * 30 + b'"cmd":"ping"}\n',
        b'{"cmd":"' + b"x" * 3000 + b'"}\n',
        b'{"cmd":"xid","device":0.5,"xid":1}\n',
        b"\xff\xfe\n",
    ],
)
def test_control_lines_that_are_nonsense_get_an_error(host: SimHost, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(host.folder / "control.sock"))
        connection.sendall(line + b'{"id":7,"cmd":"ping"}\n')
        answer = b""
        while answer.count(b"\n") < 2:
            part = connection.recv(65536)
            assert part
            answer += part
        first, second = answer.splitlines()
        assert b'"ok":false,"error":"' in first
        assert b'{"id":7,' in second
        assert b'"ok":true' in second


@pytest.mark.parametrize("line", [b"x" * 20_000, b'{"cmd":"ping"\0}\n'])
def test_control_lines_beyond_reason_end_the_connection(host: SimHost, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(host.folder / "control.sock"))
        try:
            connection.sendall(line)
            assert connection.recv(100) == b""
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert host.control("ping")


@QUIET
@given(line=st.binary(max_size=300))
def test_any_control_line(host: SimHost, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(host.folder / "control.sock"))
        connection.sendall(line + b"\n")
    assert host.control("ping")["pid"] == host.driver_pid
