"""The agent under test: a process of its own, started as the service manager would start it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import gpuwarden
from gpuwarden import interpreter
from gpuwarden.errors import Unavailable
from gpuwarden.sim.host import SimHost

SOURCES = Path(gpuwarden.__file__).resolve().parents[1]
STOP_WITHIN_S = 8.0
TAIL_BYTES = 3000


def with_our_code(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which ``python -m gpuwarden`` is this very program, however it was found."""
    before = environ.get("PYTHONPATH", "")
    return {**environ, "PYTHONPATH": f"{SOURCES}:{before}" if before else str(SOURCES)}


def own_environ(host: SimHost) -> dict[str, str]:
    """For a scene's agent and its clients: nothing of the caller's own agent reaches them."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GPUWARDEN_") and name != "NOTIFY_SOCKET"
    }
    return with_our_code(host.env(ours))


def free_port() -> int:
    """A TCP port of loopback that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


class Daemon:
    """``gpuwarden agent -c FILE``; its log goes to a file."""

    def __init__(self, config: Path, log: Path, environ: Mapping[str, str]) -> None:
        self._config = config
        self._log = log
        self._environ = with_our_code(environ)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is up when its socket answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                interpreter.own("-m", "gpuwarden", "agent", "-c", str(self._config)),
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        if self._process is None:
            raise Unavailable("the agent was not started")
        return self._process.pid

    def check(self) -> None:
        """``Unavailable`` with the end of its log when it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise Unavailable(
                f"the agent ended with status {self._process.returncode}: {self.tail()}"
            )

    def tail(self) -> str:
        """The end of its log."""
        try:
            return self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""

    def stop(self) -> int | None:
        """TERM, and KILL for what does not end; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return process.wait(STOP_WITHIN_S)
