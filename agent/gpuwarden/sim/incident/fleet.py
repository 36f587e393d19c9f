"""A fleet on one host: an aggregator, quiet nodes on simulated devices, and places for one more node.

All of it over mutual TLS on loopback, with the programs and the verbs that a real fleet has.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from gpuwarden import interpreter
from gpuwarden.errors import Unavailable
from gpuwarden.sim.host import SimHost, SimOptions
from gpuwarden.sim.incident.daemon import Daemon, free_port, with_our_code

READY_S = 30.0
VERB_S = 30.0
STOP_S = 8.0
POLL_S = 0.1
DEVICES = 2


class SimFleet:
    """Holds what it started; ``close`` (or leaving the ``with`` block) takes it all away."""

    def __init__(self, names: Sequence[str], more_settings: str = "") -> None:
        """The aggregator runs and every name has its certificate when this returns. ``more_settings``:
        further tables of the aggregator's configuration."""
        self._stack = contextlib.ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="gpuwarden-fleet-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.address = f"127.0.0.1:{free_port()}"
        self._join_address = f"127.0.0.1:{free_port()}"
        self.admin = self.folder / "aggregator" / "admin"
        self._more_settings = more_settings
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start_aggregator()
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(self._join, names))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """Of the aggregator."""
        assert self._process is not None
        return self._process.pid

    @property
    def environ(self) -> dict[str, str]:
        """For the fleet's programs: nothing of the caller's own reaches them."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith("GPUWARDEN_")}
        return with_our_code(kept)

    def start_again(self) -> None:
        """The aggregator was killed: another on the same state."""
        if self._process is not None:
            self._process.wait(STOP_S)
        self._start_aggregator()

    def _start_aggregator(self) -> None:
        config = self.folder / "aggregator.toml"
        log = self.folder / "aggregator.log"
        log.unlink(missing_ok=True)  # its end is waited for
        config.write_text(
            "[aggregator]\n"
            f"listen = {json.dumps(self.address)}\n"
            'metrics_listen = "none"\n'
            f"enrol_listen = {json.dumps(self._join_address)}\n"
            f"state_dir = {json.dumps(str(self.folder / 'aggregator'))}\n"
            'log_format = "json"\n' + self._more_settings
        )
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                interpreter.own("-m", "gpuwarden", "aggregator", "-c", str(config)),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._stack.callback(self._stop_aggregator)
        end = time.monotonic() + READY_S
        while b"aggregator_started" not in log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > end:
                said = log.read_bytes()[-2000:].decode(errors="replace")
                raise Unavailable(f"the aggregator did not start: {said}")
            time.sleep(POLL_S)

    def _stop_aggregator(self) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def _join(self, name: str) -> None:
        """As an operator would: invite there, enroll here."""
        join = self.verb("fleet", "invite", name).stdout
        done = self._run(
            ("enroll", "--aggregator", self._join_address, "--node", name),
            ("--dir", str(self.identity_of(name))),
            said=join,
        )
        if done.returncode != 0:
            raise Unavailable(f"{name} could not join: {done.stderr.strip()[-1000:]}")

    def identity_of(self, name: str) -> Path:
        return self.folder / "nodes" / name / "identity"

    def settings_of(self, name: str) -> str:
        """What a node's configuration has to say to belong to this fleet."""
        listen = json.dumps(f"127.0.0.1:{free_port()}")
        return (
            "[fleet]\n"
            f"aggregator = {json.dumps(self.address)}\n"
            f"identity_dir = {json.dumps(str(self.identity_of(name)))}\n"
            f"listen = {listen}\n"
            'batch_s = "1s"\n'
        )

    def start_quiet_node(self, name: str, seed: int) -> None:
        """A node on which nothing happens."""
        home = self.folder / "nodes" / name
        options = SimOptions(devices=DEVICES, seed=seed)
        host = self._stack.enter_context(SimHost(options, folder=home / "sim"))
        config = home / "agent.toml"
        config.write_text(
            "[agent]\n"
            f"state_dir = {json.dumps(str(home / 'state'))}\n"
            f"run_dir = {json.dumps(str(home / 'run'))}\n"
            f'metrics_listen = "127.0.0.1:{free_port()}"\n'
            'log_format = "json"\n'
            f"[kmsg]\npath = {json.dumps(str(host.folder / 'kmsg.sock'))}\n"
            '[docker]\nhost = "unix:///nonexistent/docker.sock"\n' + self.settings_of(name)
        )
        daemon = Daemon(config, home / "agent.log", host.env(self.environ))
        self._stack.callback(daemon.stop)
        daemon.start()

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A verb of the command line, under the administrator's certificate."""
        return self._run(words, ())

    def _run(
        self, words: Sequence[str], more: Sequence[str], *, said: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environ = {
            **self.environ,
            "GPUWARDEN_AGGREGATOR": self.address,
            "GPUWARDEN_IDENTITY": str(self.admin),
            "COLUMNS": "120",
        }
        if words[0] == "enroll":
            del environ["GPUWARDEN_AGGREGATOR"]
        try:
            return subprocess.run(
                interpreter.own("-m", "gpuwarden", *words, *more),
                env=environ,
                input=said,
                capture_output=True,
                text=True,
                timeout=VERB_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"gpuwarden {words[0]} did not end") from error

    def data(self, *words: str) -> dict[str, Any]:
        """What a verb of ``fleet`` says as JSON."""
        done = self.verb("fleet", *words, "--json")
        try:
            said: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise Unavailable(f"fleet {words[0]}: {done.stderr.strip()[-1000:]}") from error
        return said

    def wait_connected(self, names: Sequence[str]) -> None:
        """Until the aggregator hears every one of them."""
        end = time.monotonic() + READY_S
        while True:
            nodes = self.data("nodes")["nodes"]
            heard = {n["node"] for n in nodes if n.get("is_connected") and n.get("devices")}
            if heard.issuperset(names):
                return
            if time.monotonic() > end:
                raise Unavailable(f"not heard: {', '.join(sorted(set(names) - heard))}")
            time.sleep(POLL_S)
