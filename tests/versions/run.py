"""Two versions of the code take turns on the same state: the one before the newest schema, then this one, then that again.

The older is killed with events that no aggregator has taken and an eviction under way.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.aggregator.store_sqlite_schema import SCRIPTS
from gpuwarden.model.action import Kind, Result
from gpuwarden.sim.host import SimHost, SimOptions
from gpuwarden.sim.incident.daemon import free_port
from tests.e2e.agent import Agent, until

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = "agent/gpuwarden/aggregator/store_sqlite_schema.py"
NODE, DEVICES, XIDS = "node-1", 2, 5
VERB_S, STOP_S, READY_S = 60.0, 20.0, 60.0
POLICY = """
[[tenant]]
match = { comm = "workload" }
class = "low"
memory = "4GiB"
grace = "20s"
"""
"""A grace that is not over when the older one is killed."""


class NoHistory(Exception):
    """This checkout does not hold the commit."""


@dataclass(slots=True)
class Told:
    """What was seen, step by step; and what should have been otherwise."""

    seen: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def must(self, is_so: object, why: str) -> None:
        if not is_so:
            self.faults.append(why)


def before_newest_schema() -> str:
    """The commit before the one that brought the newest schema of the store."""
    newest = _git("log", "-1", "--format=%H", "--", SCHEMA)
    return _git("rev-parse", f"{newest}~1")


def code_of(commit: str, folder: Path) -> Path:
    """The packages of a commit, in a folder of their own."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "agent"],
        capture_output=True,
        timeout=VERB_S,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "agent"


def _git(*words: str) -> str:
    ran = subprocess.run(
        ["git", "-C", str(ROOT), *words],
        capture_output=True,
        text=True,
        timeout=VERB_S,
        check=False,
    )
    if ran.returncode or not ran.stdout.strip():
        raise NoHistory(f"git {words[0]}: {ran.stderr.strip() or 'nothing'}")
    return ran.stdout.strip()


class Centre:
    """An aggregator of one version or another on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address, self.door = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.config = folder / "aggregator.toml"
        self.store = folder / "state" / "fleet.sqlite"
        self.config.write_text(
            f'[aggregator]\nlisten = "{self.address}"\nenrol_listen = "{self.door}"\n'
            f'metrics_listen = "none"\nstate_dir = "{folder}/state"\nlog_format = "json"\n'
        )
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, code: Path, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        environ = {
            **environ_of(code),
            "GPUWARDEN_AGGREGATOR": self.address,
            "GPUWARDEN_IDENTITY": str(self.folder / "state" / "admin"),
        }
        if words[0] == "enroll":
            del environ["GPUWARDEN_AGGREGATOR"]
        return subprocess.run(
            [sys.executable, "-m", "gpuwarden", *words],
            env=environ,
            input=said,
            capture_output=True,
            text=True,
            timeout=VERB_S,
            check=False,
        )

    def start(self, code: Path) -> None:
        self.launch(code)
        until("the aggregator is up", lambda: "aggregator_started" in self.said(), within_s=READY_S)

    def launch(self, code: Path) -> None:
        self._log.write_text("")
        command = [sys.executable, "-m", "gpuwarden", "aggregator", "-c", str(self.config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environ_of(code), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def ended(self) -> int:
        assert self._process is not None
        return self._process.wait(READY_S)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)

    def schema(self) -> int:
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])

    def incidents(self, code: Path) -> dict[str, dict[str, Any]]:
        said = self.run(code, "fleet", "incidents", "--json", "-n", "500").stdout
        try:
            found = json.loads(said)["incidents"]
        except (ValueError, KeyError):
            return {}
        return {each["incident"]["id"]: each for each in found}


def environ_of(code: Path) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("GPUWARDEN_")}
    return {**kept, "PYTHONPATH": str(code)}


@contextlib.contextmanager
def scene(folder: Path, old: Path) -> Iterator[tuple[SimHost, Agent, Centre, Path]]:
    """A host whose agent is a node, both of the older version; and where its identity lies."""
    with contextlib.ExitStack() as stack:
        (folder / "centre").mkdir()
        centre = Centre(folder / "centre")
        stack.callback(centre.stop)
        centre.start(old)
        identity = folder / "identity"
        join = centre.run(old, "fleet", "invite", NODE).stdout
        joined = centre.run(
            old,
            *("enroll", "--aggregator", centre.door, "--node", NODE, "--dir", str(identity)),
            said=join,
        )
        assert joined.returncode == 0, joined.stderr
        host = stack.enter_context(SimHost(SimOptions(devices=DEVICES)))
        (folder / "node").mkdir()
        fleet = (
            f'[fleet]\naggregator = "{centre.address}"\nidentity_dir = "{identity}"\n'
            f'listen = "127.0.0.1:{free_port()}"\nbatch_s = "1s"\n'
        )
        agent = Agent(folder / "node", POLICY + fleet, env=host.env(environ_of(old)))
        stack.callback(agent.close)
        agent.code = old
        agent.start().until_seen(DEVICES)
        agent.until("its stream is up", lambda: agent.events("uplink_up"))
        yield host, agent, centre, identity


def play(folder: Path, old: Path, new: Path) -> Told:
    """There and back."""
    told = Told()
    with scene(folder, old) as (host, agent, centre, identity):
        told.seen["schemas"] = [centre.schema(), len(SCRIPTS)]
        centre.stop()
        for number in range(XIDS):
            host.control("xid", device=number % DEVICES, xid=13 + number % 2 * 18)
        hog = host.start_workload(
            "hog", "--size", "12GiB", "--rate", "30GiB/s", "--ignore-term", wait=False
        )
        agent.until("TERM was sent", lambda: agent.diary.actions(Kind.TERM))
        agent.until("its incidents stand", lambda: len(agent.view().incidents) >= 2)
        before = {each.id for each in agent.view().incidents}
        agent.kill()
        with closing(DiskSpool(identity / "spool.sqlite", 2**26)) as spool:
            waiting = spool.waiting
        told.seen |= {"incidents": len(before), "events waiting": waiting}
        told.must(waiting > 0, "the spool was empty: nothing is shown")
        told.must(hog.is_running(), "the eviction was over before: nothing is shown")
        _forward(told, agent, centre, new, before, hog.is_running)
        told.must(not hog.is_running(), "the offender outlived it")
        _back(told, agent, centre, old, before)
    return told


def _forward(
    told: Told,
    agent: Agent,
    centre: Centre,
    new: Path,
    before: set[Any],
    offends: Callable[[], bool],
) -> None:
    """The newer one goes on with what the older left. (The incident may stand for longer: a fault on the same device
    joins it, and has a probation of minutes.)"""
    centre.start(new)
    told.must(centre.schema() == len(SCRIPTS), "the store was not brought up to date")
    copies = sorted(centre.store.parent.glob(f"{centre.store.name}.schema-*"))
    told.must(copies, "no copy of the store from before is kept")
    agent.code = new
    agent.start()
    agent.until("the eviction is ended", lambda: not offends())
    after = {each.id for each in agent.view().incidents}
    told.must(before <= after, f"incidents were lost: {before - after}")
    kills = agent.diary.outcomes(Kind.KILL, result=Result.DONE)
    told.must(len(kills) <= 1, f"it was killed {len(kills)} times")
    missing: set[str] = set()

    def has_all() -> bool:
        missing.clear()
        missing.update({str(each) for each in before} - centre.incidents(new).keys())
        return not missing

    with contextlib.suppress(AssertionError):
        agent.until("the centre has all of them", has_all, within_s=120.0)
    told.must(
        not missing, f"the centre never heard of {missing}: it has {[*centre.incidents(new)]}"
    )
    told.seen["at the centre"] = len(centre.incidents(new))


def _back(told: Told, agent: Agent, centre: Centre, old: Path, before: set[Any]) -> None:
    """The older one again: the agent goes on, the store is refused whole, its copy from before is taken."""
    told.must(agent.stop() == 0, "the newer agent did not end well")
    centre.stop()
    agent.code = old
    agent.start().until_seen(DEVICES)
    after = {each.id for each in agent.view().incidents}
    told.must(before <= after, f"incidents were lost on the way back: {before - after}")
    told.faults += agent.defects()
    centre.launch(old)
    told.must(centre.ended() != 0, "the older aggregator runs on a newer store")
    told.must("newer gpuwarden" in centre.said(), f"it does not say why: {centre.said()[-300:]}")
    told.must(centre.schema() == len(SCRIPTS), "the newer store was changed")
    (copy,) = sorted(centre.store.parent.glob(f"{centre.store.name}.schema-*"))
    done = centre.run(old, "aggregator", "restore", "-c", str(centre.config), str(copy))
    told.must(done.returncode == 0, f"restore: {done.stderr[-300:]}")
    centre.start(old)
    ups = len(agent.events("uplink_up"))
    agent.until("the node is heard", lambda: len(agent.events("uplink_up")) >= max(1, ups))
    told.seen["back on schema"] = centre.schema()
