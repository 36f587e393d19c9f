"""A Docker daemon that is absent, ill or hostile: an error in time, memory bounded, nothing hangs."""

import gzip
import itertools
import json
import socket
import threading
import tracemalloc
from pathlib import Path

import pytest

from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.docker_events import DockerEvents
from gpuwarden.adapters.dockerd import Docker
from gpuwarden.clock import SystemClock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from tests.adapters.ill_daemon import VERSION, Answer, daemon, reply

A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"
OWNER = CgroupOwner(
    runtime="docker", cgroup_path=f"/docker/{A}", leaf_path=f"/docker/{A}", container_id=A
)
MIB = 2**20


def after_version(answer: Answer) -> Answer:
    def chosen(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
        if b"/version" in line:
            connection.sendall(VERSION)
        else:
            answer(connection, line, stopped)

    return chosen


def says(raw: bytes) -> Answer:
    return lambda connection, line, stopped: connection.sendall(raw)


def hang(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
    stopped.wait(60)


def close_at_once(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def drip_headers(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        connection.sendall(b"X-%d: y\r\n" % number)
        if stopped.wait(0.02):
            return


def drip_body(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not stopped.wait(0.02):
        connection.sendall(b"[")


def chunks_for_ever(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not stopped.is_set():
        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def ask(address: str, timeout_s: float = 0.4) -> RuntimeFacts:
    door = DockerDoor(address, timeout_s, SystemClock())
    try:
        return Docker(door, None, proc="/nonexistent").describe(OWNER)
    finally:
        door.close()


def close_in_the_middle(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
    connection.sendall(reply(b"x" * 100)[:-60])
    connection.shutdown(socket.SHUT_RDWR)


ILL: dict[str, Answer] = {
    "hangs after accept": hang,
    "hangs after version": after_version(hang),
    "closes at once": close_at_once,
    "drips headers": drip_headers,
    "drips a body": after_version(drip_body),
    "no http": says(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "half json": after_version(says(reply(b'{"Id": "'))),
    "closes in the middle": after_version(close_in_the_middle),
    "empty": after_version(says(reply(b""))),
    "null": after_version(says(reply(b"null"))),
    "a list": after_version(says(reply(b"[]"))),
    "deep": after_version(says(reply(b"[" * 200_000))),
    "server error": after_version(says(reply(b'{"message": "boom"}', "500 Internal Server Error"))),
    "server error of no json": after_version(says(reply(b"<html>", "503 Service Unavailable"))),
    "another container": after_version(says(reply(json.dumps({"Id": "0" * 64}).encode()))),
    "odd version": says(reply(b'{"ApiVersion": "../../x"}')),
    "no version": says(reply(b"{}")),
    "redirect": after_version(
        says(reply(b"", "301 Moved", "Location: http://127.0.0.1:9/containers/x/json"))
    ),
    "chunks for ever": after_version(chunks_for_ever),
    "no utf-8": after_version(says(reply(b'{"Id": "\xff\xfe"}'))),
}


@pytest.mark.parametrize("answer", ILL.values(), ids=ILL.keys())
def test_ill_daemon_is_unavailable_in_time(tmp_path: Path, answer: Answer) -> None:
    with daemon(tmp_path / "s", answer) as address, pytest.raises(Unavailable):
        ask(address)


def test_socket_missing_or_dead(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no Docker"):
        ask(f"unix://{tmp_path}/absent")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(Unavailable):
        ask(f"unix://{tmp_path}/dead")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        ask(f"unix://{tmp_path}/file")


@pytest.mark.parametrize("is_compressed", [False, True])
def test_huge_reply_is_not_kept(tmp_path: Path, is_compressed: bool) -> None:
    sent = [0]
    bomb = gzip.compress(b"[" + b" " * (200 * MIB) + b"]", 9) if is_compressed else b""

    def huge(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
        if is_compressed:
            connection.sendall(reply(bomb, "200 OK", "Content-Encoding: gzip"))
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        block = b" " * 65536
        while sent[0] < 100 * MIB and not stopped.is_set():
            connection.sendall(block)
            sent[0] += len(block)

    with daemon(tmp_path / "s", after_version(huge)) as address:
        with pytest.raises(Unavailable):  # docker-py itself is loaded by this first call
            ask(address, timeout_s=20)
        sent[0] = 0
        tracemalloc.start()
        try:
            with pytest.raises(Unavailable):
                ask(address, timeout_s=20)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 20 * MIB
    assert sent[0] < 20 * MIB


def test_no_such_container_is_refused(tmp_path: Path) -> None:
    gone = after_version(says(reply(b'{"message": "No such container: x"}', "404 Not Found")))
    with daemon(tmp_path / "s", gone) as address, pytest.raises(Refused, match="No such container"):
        ask(address)


GARBAGE: list[object] = [
    {},
    {"Config": None, "State": [], "HostConfig": 7, "Name": 3},
    {"Config": {"Labels": {"a": 1, "gpuwarden.memory": None}, "Env": "x", "Image": []}},
    {"Config": {"Labels": [], "Env": [1, None, "NVIDIA_VISIBLE_DEVICES"]}},
    {"HostConfig": {"RestartPolicy": {"Name": 1}, "DeviceRequests": [1, None, {"Driver": []}]}},
    {"HostConfig": {"DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": [1], "Count": "x"}]}},
    {"State": {"Pid": True, "StartedAt": "yesterday", "Paused": "no"}},
    {"State": {"Pid": -1, "StartedAt": "2026-02-14T03:14:07.Z"}},
    {"State": {"Pid": 10**30, "StartedAt": "0001-01-01T00:00:00Z"}},
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_fields_of_the_wrong_kind_are_left_out(tmp_path: Path, garbage: dict[str, object]) -> None:
    body = reply(json.dumps({"Id": A, **garbage}).encode())
    with daemon(tmp_path / "s", after_version(says(body))) as address:
        facts = ask(address)
    assert facts.described
    assert facts.labels == ()
    assert facts.started_wall in (None, 1771038847.0)
    assert not facts.is_paused


def test_a_flood_of_labels_does_not_hide_ours(tmp_path: Path) -> None:
    labels = {f"a{number:05}": "x" * 40 for number in range(20_000)} | {"gpuwarden.class": "low"}
    body = reply(json.dumps({"Id": A, "Config": {"Labels": labels}}).encode())
    with daemon(tmp_path / "s", after_version(says(body))) as address:
        facts = ask(address, timeout_s=10)
    assert facts.labels[0] == ("gpuwarden.class", "low")
    assert len(facts.labels) == 128


def test_a_door_works_again_when_the_daemon_does(tmp_path: Path) -> None:
    door = DockerDoor(f"unix://{tmp_path}/s", 0.4, SystemClock())
    runtime = Docker(door, None, proc="/nonexistent")
    good = after_version(says(reply(json.dumps({"Id": A, "Name": "/x"}).encode())))
    for answer in (hang, good, after_version(hang), good):
        with daemon(tmp_path / "s", answer):
            try:
                facts = runtime.describe(OWNER)
            except GpuwardenError:
                assert answer is not good
            else:
                assert answer is good
                assert facts.name == "x"
        (tmp_path / "s").unlink()
    door.close()


EVENT = {
    "Type": "container",
    "Action": "start",
    "Actor": {"ID": A},
    "timeNano": 1771038847000000001,
}


def test_events_resume_after_a_break_and_skip_garbage(tmp_path: Path) -> None:
    requests: list[bytes] = []
    heard: list[tuple[str, str]] = []
    enough = threading.Event()

    def answer(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
        if b"/containers/json" in line:
            connection.sendall(reply(b"[]"))
            return
        requests.append(line)
        lines = [b"{", b"[]", b'{"Action": 1}', json.dumps(EVENT).encode(), b"{" * 5000]
        body = b"\n".join(lines) + b"\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    def tell(action: str, container_id: str) -> None:
        heard.append((action, container_id))
        if len(heard) >= 3:
            enough.set()

    with daemon(tmp_path / "s", after_version(answer)) as address:
        events = DockerEvents(address, 1.0, SystemClock(), tell)
        events.start()
        assert enough.wait(30)
        events.close()
    assert heard[:3] == [("start", A), ("die", A), ("start", A)], "the list said it was gone"
    assert events.garbage >= 4
    assert events.reconnects >= 1
    assert b"since=1771038847.000000001" in requests[1]


@pytest.mark.parametrize("answer", [hang, after_version(hang), after_version(drip_body)])
def test_events_close_while_the_daemon_hangs(tmp_path: Path, answer: Answer) -> None:
    with daemon(tmp_path / "s", answer) as address:
        events = DockerEvents(address, 30.0, SystemClock(), lambda action, container_id: None)
        events.start()
        events.close()
        assert not events._thread.is_alive()


def test_an_event_without_end_is_not_kept(tmp_path: Path) -> None:
    broken = threading.Event()

    def answer(connection: socket.socket, line: bytes, stopped: threading.Event) -> None:
        if b"/containers/json" in line:
            connection.sendall(reply(b"[]"))
            return
        try:
            chunks_for_ever(connection, line, stopped)
        except OSError:
            broken.set()
            raise

    with daemon(tmp_path / "s", after_version(answer)) as address:
        events = DockerEvents(address, 5.0, SystemClock(), lambda action, container_id: None)
        tracemalloc.start()
        events.start()
        assert broken.wait(30)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        events.close()
    assert peak_bytes < 20 * MIB
    assert events.trouble is not None
