"""Where the commands of a page are run: simulated devices, the real agent on them, tenants, a fleet beside it.

Commands are run as they stand on the page. What a page calls /etc/gpuwarden, or the host of the aggregator, is a
folder, or a port, of this place.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gpuwarden.sim.host import SimHost, SimOptions
from tests.docs.book import ROOT
from tests.e2e.agent import CLOCK, until
from tests.e2e.plain import Plain

COMMAND_S = 60
SHIM = '#!/bin/sh\nexec {python} -m gpuwarden "$@"\n'
AGENT = """
[agent]
state_dir = "{folder}/var/lib/gpuwarden"
run_dir = "{folder}/run"
metrics_listen = "127.0.0.1:{metrics}"
[quota]
warmup_s = "100ms"
[host]
cpu_max_ratio = 1.0
memory_available_min_ratio = 0.0
filesystem_free_min_ratio = 0.0
[docker]
host = "unix://{folder}/no-docker.sock"
[kmsg]
source = "none"
[fleet]
identity_dir = "{folder}/var/lib/gpuwarden/fleet"
"""
CENTRE = """
[aggregator]
listen = "127.0.0.1:{centre}"
enrol_listen = "127.0.0.1:{join}"
metrics_listen = "127.0.0.1:0"
state_dir = "{folder}/var/lib/gpuwarden-aggregator"
[sight]
grace_s = "0s"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Place:
    """One page's. ``kind``: ``shell`` (no agent), ``agent``, or ``fleet`` (an aggregator too)."""

    def __init__(self, folder: Path, kind: str, devices: int) -> None:
        self.folder = folder
        self.etc = folder / "etc" / "gpuwarden"
        self.ports = {name: free_port() for name in ("metrics", "centre", "join")}
        for drop_ins in ("conf.d", "aggregator.d"):
            (self.etc / drop_ins).mkdir(parents=True)
        (folder / "home").mkdir()
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._agent: subprocess.Popen[bytes] | None = None
        self._host = SimHost(SimOptions(devices=devices))
        self._host.start()
        self._plain = Plain(self._host, folder)
        self._shim()
        # Settings of the place, first in order: what a page saves is read after it, and wins.
        self._write(self.etc / "agent.toml", AGENT)
        self._write(self.etc / "aggregator.toml", CENTRE)
        if kind == "fleet":
            words = ("aggregator", "-c", str(self.etc / "aggregator.toml"))
            self._daemons.append(self._daemon("aggregator", *words))
            until("the aggregator answers", self._fleet_answers, story=self.story)
        if kind in ("agent", "fleet"):
            self.start_agent()

    def _shim(self) -> None:
        bin_folder = self.folder / "bin"
        bin_folder.mkdir()
        shim = bin_folder / "gpuwarden"
        shim.write_text(SHIM.format(python=sys.executable))
        shim.chmod(0o755)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text.format(folder=self.folder, **self.ports), encoding="utf-8")

    def _env(self) -> dict[str, str]:
        env = self._host.env()
        return {
            **{k: v for k, v in env.items() if not k.startswith(("DOCKER_", "PODMAN_"))},
            "PATH": f"{self.folder / 'bin'}:{env.get('PATH', os.defpath)}",
            "PYTHONPATH": str(ROOT / "agent"),
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "GPUWARDEN_CONFIG": str(self.etc / "agent.toml"),
            "GPUWARDEN_SOCKET": str(self.folder / "run" / "gpuwarden.sock"),
            "GPUWARDEN_AGGREGATOR": f"127.0.0.1:{self.ports['centre']}",
            "GPUWARDEN_IDENTITY": str(self.folder / "var/lib/gpuwarden-aggregator/admin"),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def here(self, text: str) -> str:
        """What a page says, as it is called in this place."""
        for said, meant in (
            ("/etc/gpuwarden", str(self.etc)),
            ("/var/lib/gpuwarden", f"{self.folder}/var/lib/gpuwarden"),
            ("aggregator.example:9440", f"127.0.0.1:{self.ports['centre']}"),
            ("aggregator.example:9441", f"127.0.0.1:{self.ports['join']}"),
            ("127.0.0.1:9420", f"127.0.0.1:{self.ports['metrics']}"),
        ):
            text = text.replace(said, meant)
        return text

    def run(self, command: str) -> tuple[int, list[str]]:
        """Exit code and lines, errors among them."""
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=self.folder / "home",
            env=self._env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        return done.returncode, done.stdout.splitlines()

    def save(self, name: str, text: str) -> None:
        """A file that a page shows, under /etc/gpuwarden."""
        (self.etc / name).write_text(self.here(text) + "\n", encoding="utf-8")

    def start_tenant(self, name: str, words: Sequence[str]) -> None:
        self._plain.run(name, *words, wait=False)

    # --- what systemd does for a unit ---

    def start_agent(self) -> None:
        self._agent = self._daemon("agent", "agent", "--log-format", "json")
        until("the agent answers", lambda: self.run("gpuwarden gpus")[0] != 3, story=self.story)

    def reload_agent(self) -> None:
        if self._agent is not None:
            self._agent.send_signal(signal.SIGHUP)

    def restart_agent(self) -> None:
        if self._agent is not None:
            _end(self._agent)
            self.start_agent()

    def _daemon(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "gpuwarden", *words],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _fleet_answers(self) -> bool:
        return self.run("gpuwarden fleet nodes")[0] in (0, 1)

    def story(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs)

    def close(self) -> None:
        for process in (self._agent, *self._daemons):
            if process is not None:
                _end(process)
        self._plain.close()
        self._host.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


def repeatedly(
    place: Place, command: str, wanted: object, within_s: float
) -> tuple[str, list[str]]:
    """Runs a command that only looks until ``wanted`` finds nothing to say, or the time is over."""
    assert callable(wanted)
    end = CLOCK.now() + within_s
    while True:
        status, lines = place.run(command)
        fault = wanted(status, lines)
        if not fault or CLOCK.now() >= end:
            return fault, lines
        CLOCK.sleep(0.3)
