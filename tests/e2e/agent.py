"""The real agent as a process of its own: started, asked, stopped, killed; and what it wrote down.

Nothing here judges a duration. ``until`` waits for a condition with a deadline that only a hang
reaches; when it is reached, what the agent logged and journalled is shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Kind, Outcome, Result
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.snapshot import Gap
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Tenant
from gpuwarden.sim.host import SimHost
from tests.e2e.diary import Diary

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 30.0
"""Far beyond what anything here takes on a busy machine."""
POLL_S = 0.02
CLOCK = SystemClock()

Value = TypeVar("Value")
MakeHost = Callable[..., SimHost]
MakeAgent = Callable[..., "Agent"]
MakeNode = Callable[..., "Agent"]
"""Fixtures of conftest.py."""

NOBODY = 65534
# Reads everything, so that it runs wherever this checkout lies; may do nothing else.
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)

BASE = """
[agent]
mode = "enforce"
state_dir = "{folder}/state"
run_dir = "{folder}/run"
metrics_listen = "127.0.0.1:0"
[quota]
warmup_s = "100ms"
[docker]
host = "unix://{folder}/no-docker.sock"
[kmsg]
source = "none"
"""
"""What this machine runs and says is none of a test's business unless it asks for it."""


def until(
    what: str,
    ask: Callable[[], Value],
    *,
    within_s: float = WITHIN_S,
    story: Callable[[], str] = str,
) -> Value:
    """The first true answer; fails with ``story`` when none came in time."""
    end = CLOCK.now() + within_s
    while not (answer := ask()):
        if CLOCK.now() >= end:
            raise AssertionError(f"never came true: {what}\n{story()}")
        CLOCK.sleep(POLL_S)
    return answer


def always(
    what: str,
    ask: Callable[[], object],
    *,
    for_s: float,
    story: Callable[[], str] = str,
) -> None:
    """Fails as soon as the answer is false within so long."""
    end = CLOCK.now() + for_s
    while CLOCK.now() < end:
        if not ask():
            raise AssertionError(f"did not stay true: {what}\n{story()}")
        CLOCK.sleep(POLL_S)


class Agent:
    """``gpuwarden agent -c FILE`` on one folder; may be started again after it ended."""

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """``before``: words before its command line, such as a ``setpriv`` that takes rights away."""
        self.folder = folder
        self.path = folder / "agent.toml"
        self.drop_in = folder / "conf.d" / "test.toml"
        self.state_dir = folder / "state"
        self.run_dir = folder / "run"
        self.diary = Diary.of(self.state_dir)
        self.path.write_text(BASE.format(folder=folder), encoding="utf-8")
        self.drop_in.parent.mkdir(exist_ok=True)
        self.configure(config)
        self._env = dict(os.environ if env is None else env)
        self._before = tuple(before)
        self.code = ROOT / "agent"
        """Of which the next start is; another version's may lie elsewhere."""
        self._process: subprocess.Popen[bytes] | None = None
        self._children: set[int] = set()
        self._log = folder / "agent.log"
        self._log.touch()

    # --- its life ---

    def configure(self, config: str) -> None:
        """What the drop-in says from the next start or reload on."""
        fresh = self.drop_in.with_suffix(".new")
        fresh.write_text(config, encoding="utf-8")
        fresh.replace(self.drop_in)

    def start(self) -> Agent:
        """Starts it and waits until it answers on its socket."""
        self.launch()
        self.until("the agent answers", lambda: self.is_running() and self.try_view())
        return self

    def launch(self) -> None:
        """Starts it; it may end by itself."""
        environment = {**self._env, "PYTHONPATH": str(self.code)}
        command = [*self._before, sys.executable, "-m", "gpuwarden", "agent"]
        command += ["-c", str(self.path), "--log-format", "json"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ended(self) -> int:
        """Its exit status, once it ended by itself."""
        assert self._process is not None
        process = self._process
        self.until("the agent ended", lambda: process.poll() is not None)
        return process.returncode

    def stop(self) -> int:
        """TERM, and its exit status."""
        self._note_children()
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """SIGKILL, wherever it stands."""
        self._note_children()
        assert self._process is not None
        self._process.kill()
        self._process.wait(WITHIN_S)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def reload(self, config: str) -> None:
        """HUP with another drop-in; returns when it has been judged, either way."""
        before = len(self.events("config_reloaded")) + len(self.events("config_rejected"))
        self.configure(config)
        self.signal(signal.SIGHUP)
        self.until(
            "the configuration was judged",
            lambda: (
                len(self.events("config_reloaded")) + len(self.events("config_rejected")) > before
            ),
        )

    def suspend(self) -> None:
        """Nothing of it runs on, as on a host that sleeps: the agent, then its probe children."""
        self.signal(signal.SIGSTOP)
        self._note_children()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends what is left of it, its probe children too; does nothing the second time."""
        if self._process is not None and self.is_running():
            self._note_children()
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(WITHIN_S)
        for pid in self._children:
            if b"gpuwarden.adapters.probe.child" in _command_line(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _note_children(self) -> None:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(OSError):
            self._children.update(int(word) for word in children.read_text().split())

    # --- what it says ---

    def view(self) -> View:
        """Its newest picture, over its socket."""
        with NodeClient(self.run_dir / "gpuwarden.sock") as client:
            return client.view()

    def try_view(self) -> View | None:
        try:
            return self.view()
        except Unavailable:
            return None

    def tenant(self, name: str) -> Tenant | None:
        """The tenant of that name or id, as the agent sees it now."""
        tenants = self.view().snapshot.tenants
        return next((t for t in tenants if name in (t.name, t.id)), None)

    def device(self, index: int) -> Device:
        return next(
            d for d in self.view().snapshot.devices if d.index == index and d.parent is None
        )

    def gaps(self, subject: str = "") -> list[Gap]:
        return [g for g in self.view().snapshot.gaps if subject in g.subject]

    def sees(self, devices: int) -> bool:
        """Whether it sees that many devices, each with a size and a list."""
        seen = [d for d in self.view().snapshot.devices if d.sight is Sight.OK]
        return len([d for d in seen if d.at is not None and d.listed_at is not None]) == devices

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def events(self, name: str = "", **wanted: object) -> list[dict[str, Any]]:
        """Events of its log by name and values."""
        found = []
        for line in self.log().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and (not name or event.get("event") == name):
                found.append(event)
        return [e for e in found if all(e.get(k) == v for k, v in wanted.items())]

    def faults(self) -> list[str]:
        """What it says is wrong with its configuration."""
        return [event["fault"] for event in self.events("config_wrong")]

    def defects(self) -> list[str]:
        """What must never be there: an exception nobody expected, in its log or contained at a port."""
        found = [line for line in self.log().splitlines() if "Traceback" in line]
        view = self.try_view() if self.is_running() else None
        for (name, label), count in (view.counters if view else {}).items():
            if name == "errors" and label != "services" and count:
                found.append(f"unexpected exceptions of port {label}: {count}")
        return found

    def story(self) -> str:
        """What a person needs to see why a test failed."""
        timeline = "\n".join(list(self.diary.told())[-120:])
        log = "\n".join(self.log().splitlines()[-60:])
        view = self.try_view() if self.is_running() else None
        seen = "\n".join(_shown(view)) if view is not None else "(it does not answer)"
        return f"--- agent log\n{log}\n--- journal\n{timeline}\n--- seen now\n{seen}"

    # --- waiting ---

    def until(self, what: str, ask: Callable[[], Value], *, within_s: float = WITHIN_S) -> Value:
        """As ``until``; its log and journal are shown when it never came true."""
        return until(what, ask, within_s=within_s, story=self.story)

    def always(self, what: str, ask: Callable[[], object], *, for_s: float) -> None:
        always(what, ask, for_s=for_s, story=self.story)

    def until_seen(self, devices: int) -> None:
        """Until every device has a size and a list."""
        self.until(f"{devices} devices are seen", lambda: self.sees(devices))

    def until_done(self, kind: Kind, count: int = 1) -> list[Outcome]:
        """Until so many actions of a kind were carried out."""
        return self.until(
            f"{count} x {kind.value} done",
            lambda: (
                found
                if len(found := self.diary.outcomes(kind, result=Result.DONE)) >= count
                else []
            ),
        )

    def until_closed(self, count: int = 1) -> None:
        """Until so many incidents were closed in the journal."""
        self.until(
            f"{count} incidents closed", lambda: len(self.diary.notes(NoteKind.CLOSED)) >= count
        )


def _shown(view: View) -> Iterator[str]:
    snapshot = view.snapshot
    for device in snapshot.devices:
        size = (device.used_bytes or 0) >> 20
        yield f"GPU {device.index} {device.sight.value} {size} MiB {device.id}"
    for tenant in snapshot.tenants:
        uses = [f"{u.used_bytes >> 20} MiB" for u in snapshot.uses if u.tenant == tenant.id]
        quota = (tenant.hard_bytes or 0) >> 20
        yield f"{tenant.name} {tenant.cls.label} quota {quota} MiB: {', '.join(uses)} ({tenant.id})"
    for gap in snapshot.gaps:
        yield f"gap {gap.source} {gap.subject} {gap.kind.value}: {gap.detail}"
    for case in view.cases:
        yield f"case {case.target.name} {case.rung.value} {case.withheld}"
    for debt in view.debts:
        yield f"debt {debt.kind.value} {debt.target.name} {debt.old} due {debt.due_wall}"


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
