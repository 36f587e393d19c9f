"""The client: nothing of it reaches the caller, whatever the agent does; what is lost is counted."""

import ast
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import gpuwarden.client
from gpuwarden.client import Client, sender

ROOT = Path(gpuwarden.client.__file__).parents[1]


class Agent:
    """A socket that takes what it is sent, and answers as it is told."""

    def __init__(self, path: Path, status: int = 202) -> None:
        self.status = status
        self.heard: list[dict[str, object]] = []
        self.messages: list[dict[str, Any]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                side, _ = self._listener.accept()
            except OSError:
                return
            with side, side.makefile("rb") as file:
                length = 0
                while (line := file.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                message = json.loads(file.read(length))
                self.messages.append(message)
                if self.status == 202:
                    self.heard += message["observations"]
                side.sendall(b"HTTP/1.1 %d X\r\n\r\n" % self.status)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def client(path: Path, capacity: int = 100) -> Client:
    """One whose thread never comes round: the test sends."""
    return Client(str(path), capacity=capacity, every_s=3600.0)


def test_what_was_observed_arrives_as_it_was_said(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s")
    told = client(tmp_path / "s")
    told.observe(latency=0.12, ok=True, features={"age": 41, "income": None}, prediction=1)
    told.observe(prediction_id="r-1", label=0, segment="old", arm="b", unit_id="u")
    assert told.flush()
    assert agent.heard == [
        {"latency": 0.12, "ok": True, "features": {"age": 41, "income": None}, "prediction": 1},
        {"label": 0, "segment": "old", "arm": "b", "unit_id": "u", "prediction_id": "r-1"},
    ]
    assert (told.sent, told.lost) == (2, 0)
    agent.close()


def test_without_an_agent_the_buffer_fills_and_the_rest_is_counted(tmp_path: Path) -> None:
    told = client(tmp_path / "nobody")
    for _ in range(250):
        told.observe(latency=0.1)
    assert not told.flush()
    assert told.lost == 250 - 100
    assert len(told._buffer) + len(told._waiting) <= 100
    agent = Agent(tmp_path / "nobody")
    assert told.flush()
    assert len(agent.heard) == 100
    assert agent.messages[0]["lost"] == 150
    told.observe(latency=0.1)
    assert told.flush()
    assert agent.messages[-1]["lost"] == 0  # told once
    agent.close()


@pytest.mark.parametrize(
    ("status", "is_kept"), [(429, True), (503, True), (403, True), (400, False)]
)
def test_a_refusal_is_final_and_a_trouble_is_not(
    tmp_path: Path, status: int, is_kept: bool
) -> None:
    agent = Agent(tmp_path / "s", status)
    told = client(tmp_path / "s")
    told.observe(latency=0.1)
    told.flush(0.2)
    assert (len(told._waiting) == 1) is is_kept
    assert (told.lost == 0) is is_kept
    agent.close()


class _Nasty:
    def __len__(self) -> int:
        raise RuntimeError("no")

    def __float__(self) -> float:
        raise RuntimeError("no")


def test_what_cannot_be_said_costs_itself_alone(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s")
    told = client(tmp_path / "s")
    loop: list[object] = []
    loop.append(loop)
    for bad in (float("nan"), _Nasty(), loop, {1: {2: _Nasty()}}, "\ud800"):
        told.observe(latency=bad, features=bad, label=bad)
    told.observe(latency=0.5)
    assert told.flush()
    assert agent.heard[-1] == {"latency": 0.5}
    assert agent.messages[0]["lost"] >= 4
    agent.close()


def test_a_child_after_a_fork_has_a_buffer_of_its_own(tmp_path: Path) -> None:
    told = client(tmp_path / "s")
    told.observe(latency=0.1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"%d" % len(told._buffer))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"0"
    assert len(told._buffer) == 1


def test_it_is_imported_without_the_agent_and_writes_python_3_9() -> None:
    code = "import sys, gpuwarden.client; print([m for m in sys.modules if 'gpuwarden' in m])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(ROOT.parent), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ast.literal_eval(done.stdout) == [
        "gpuwarden",
        "gpuwarden.client.sender",
        "gpuwarden.client",
    ] or set(ast.literal_eval(done.stdout)) == {
        "gpuwarden",
        "gpuwarden.client",
        "gpuwarden.client.sender",
    }
    for file in (ROOT / "__init__.py", *Path(sender.__file__).parent.glob("*.py")):
        ast.parse(file.read_text(), feature_version=(3, 9))


def test_a_program_that_ends_says_what_it_still_had(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s")
    subprocess.run(
        [sys.executable, "-c", "from gpuwarden.client import observe; observe(latency=0.25)"],
        env={
            "PYTHONPATH": str(ROOT.parent),
            "PATH": os.environ["PATH"],
            sender.SOCKET_VARIABLE: str(tmp_path / "s"),
        },
        check=True,
        timeout=30,
    )
    assert agent.heard == [{"latency": 0.25}]
    agent.close()
