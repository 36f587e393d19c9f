"""An aggregator, an agent and a service, each a process of its own, over mutual TLS on loopback; whoever trains is a
receiver in this process. The service's device is a simulated one; all else is what runs on a real host."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from gpuwarden import interpreter
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.sim.drift.receiver import Receiver
from gpuwarden.sim.drift.service import COMM, TOLD
from gpuwarden.sim.drift.stream import FEATURES, SEGMENTS, request
from gpuwarden.sim.host import SimHost, SimOptions, read_until
from gpuwarden.sim.incident.daemon import Daemon, free_port, own_environ
from gpuwarden.sim.incident.fleet import SimFleet

SERVICE, NODE = "reader", "reader-node"
SECRET = "a-secret-of-the-scene"
REFERENCE_ROWS = 5000
REVIEW_PER_MIN = 240
LABELS_MIN = 400
ACCURACY_LIMIT = 0.9
WAIT_S = 60.0
POLL_S = 0.5
READY_S = 30.0
TELL_S = 300.0


class DriftScene:
    """Holds what one run started; leaving the ``with`` block takes it all away."""

    def __init__(self, seed: int) -> None:
        self._stack = contextlib.ExitStack()
        self.seed = seed
        self._lost = -1
        self.begun_wall = time.time()
        self.next = 0
        """Number of the next request."""
        self.shifts: list[tuple[int, float]] = [(-1, 0.0)]
        """From which request on, by how much."""
        try:
            places = self._stack.enter_context(TemporaryDirectory(prefix="gpuwarden-drift-"))
            self.secret = Path(places) / "retrain.secret"
            self.secret.touch(mode=0o600)
            self.secret.write_text(SECRET, encoding="ascii")
            self.receiver = self._stack.enter_context(Receiver(SECRET))
            self.fleet = self._stack.enter_context(SimFleet((NODE,), self._settings()))
            self.folder = self.fleet.folder
            self.host = self._stack.enter_context(
                SimHost(SimOptions(devices=1, seed=seed % 2**31), folder=self.folder / "sim")
            )
            self._agent()
            self._service()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _settings(self) -> str:
        """Time is compressed by these alone: bounds of a day's labels and windows become those of minutes."""
        return f"""
[evaluation]
review_times = 4.0
[[guardrail]]
name = "accuracy-of-labels"
expression = "correct / labels"
side = "below"
limit = {ACCURACY_LIMIT}
over_s = "30m"
enter_s = 0
min_support = 100
then = "tell"
[[retrain]]
service = "{SERVICE}"
drifted_share = 0.3
accuracy_drop = 0.05
labels_min = {LABELS_MIN}
baseline_labels = 150
accuracy_over_s = "1h"
cooldown_s = "1h"
[retrain.webhook]
url = {json.dumps(self.receiver.url)}
secret = {json.dumps(f"file:{self.secret}")}
"""

    def _agent(self) -> None:
        home = self.folder / "node"
        self.observe = home / "run" / "observe.sock"
        home.mkdir()
        config = home / "agent.toml"
        config.write_text(
            f"""
[agent]
state_dir = {json.dumps(str(home / "state"))}
run_dir = {json.dumps(str(home / "run"))}
metrics_listen = "127.0.0.1:{free_port()}"
log_format = "json"
[kmsg]
source = "none"
[docker]
host = "unix:///nonexistent/docker.sock"
[[tenant]]
match = {{ comm = "{COMM}" }}
class = "protected"
memory = "4GiB"
service = "{SERVICE}"
[[service]]
name = "{SERVICE}"
probe = {{ http = "http://127.0.0.1:1/none", every_s = "1h" }}
review_per_min = {REVIEW_PER_MIN}
confidence_min = 0.6
"""
            + self.fleet.settings_of(NODE),
            encoding="utf-8",
        )
        self.daemon = Daemon(config, home / "agent.log", own_environ(self.host))
        self._stack.callback(self.daemon.stop)
        self.daemon.start()

    def _service(self) -> None:
        self._process = subprocess.Popen(
            interpreter.own(
                *("-m", "gpuwarden.sim.drift.service", str(self.host.folder / "driver.sock")),
                *(str(self.observe), str(self.seed)),
            ),
            env=own_environ(self.host),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._stack.callback(self._end_service)
        read_until(self._process, b"ready", "the service", READY_S)
        if not self.until(self._known, READY_S):
            raise Unavailable(f"the agent does not know the service: {self.daemon.tail()}")

    def _end_service(self) -> None:
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5.0)

    def answer(self, rows: int, per_s: float, shift: float, labelled: float = 0.0) -> None:
        """The service answers so many requests, and the agent has heard of them."""
        if self.shifts[-1][1] != shift:
            self.shifts.append((self.next, shift))
        said = {"first": self.next, "rows": rows, "per_s": per_s, "shift": shift}
        self.next += rows
        told = self._told({**said, "labelled": labelled})
        if not told["is_told"]:
            raise Unavailable(f"the agent did not hear the service: {self.daemon.tail()}")

    def _told(self, said: dict[str, float]) -> dict[str, Any]:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(said).encode() + b"\n")
        stdin.flush()
        output = read_until(self._process, TOLD.encode(), "the service", TELL_S)
        line = next(each for each in bytes(output).splitlines() if each.startswith(b"{"))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _known(self) -> bool:
        """Whether the agent knows whose word it is: until it does, what is said is lost, and counted."""
        lost, self._lost = self._lost, -1
        told = self._told({"first": -1, "rows": 1, "per_s": 1e9, "shift": 0.0, "labelled": 0.0})
        if told["is_told"]:
            self._lost = int(told["lost"])
        return bool(told["is_told"]) and self._lost == lost

    def truth(self, ident: str) -> str:
        """What people would say of a prediction."""
        number = int(ident.removeprefix("r-"))
        shift = max((at, by) for at, by in self.shifts if at <= number)[1]
        return request(self.seed, number, shift).truth

    def reference(self) -> Path:
        """What the model was trained on, as a table; other requests than the live ones."""
        path = self.folder / "reference.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(FEATURES)
            for number in range(REFERENCE_ROWS):
                features = request(self.seed + 1, number).features
                table.writerow([features[name] for name in FEATURES])
        return path

    def asked(self, *words: str) -> dict[str, Any]:
        """What a verb says with ``--json``, whatever its exit code."""
        done = self.fleet.verb(*words, "--json")
        try:
            said: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise Unavailable(f"{' '.join(words)}: {done.stderr.strip()[-500:]}") from error
        return said

    def profile(self) -> None:
        """What the model was trained on, made known to the aggregator: the same of each segment."""
        made = self.folder / "profile.json"
        table = str(self.reference())
        words: list[tuple[str, ...]] = [("model", "profile", "--from", table, "--out", str(made))]
        for segment, _ in SEGMENTS:
            words.append(
                ("model", "profile", "push", str(made), "--service", SERVICE, "--segment", segment)
            )
        for each in words:
            done = self.fleet.verb(*each)
            if done.returncode != 0:
                raise Unavailable(f"{' '.join(each[:3])}: {done.stderr.strip()[-500:]}")

    def drifted(self) -> tuple[frozenset[str] | None, str]:
        """Features that have drifted by the aggregator's word, and how it says so; None: none."""
        reports = self.asked("service", "drift", SERVICE)["drift"].get("reports", ())
        bad = [each for each in reports if each["state"] == "drift"]
        found = {
            feature["feature"]
            for each in bad
            for feature in each.get("features", ())
            if feature["state"] == "drift"
        }
        summary = "; ".join(each["summary"] for each in bad)
        return frozenset(found) or None, summary

    def notes(self) -> tuple[str, ...]:
        """What the report says beside the verdicts."""
        return tuple(self.asked("service", "report", SERVICE)["report"].get("notes", ()))

    def kill_aggregator(self) -> None:
        """As the machine would; another takes its place, on the same state."""
        os.kill(self.fleet.pid, signal.SIGKILL)
        self.fleet.start_again()

    def exported(self) -> tuple[list[dict[str, Any]], str]:
        """Every prediction that waits, and what the verb says of the queue."""
        done = self.fleet.verb("service", "review", "export", SERVICE, "--limit", "100000")
        if done.returncode != 0:
            raise Unavailable(f"review export: {done.stderr.strip()[-500:]}")
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.strip()

    def until(self, what: Callable[[], Any], within_s: float = WAIT_S) -> Any:
        """Its first answer that is not false, or None."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            self.daemon.check()
            with contextlib.suppress(GpuwardenError):
                if found := what():
                    return found
            time.sleep(POLL_S)
        return None
