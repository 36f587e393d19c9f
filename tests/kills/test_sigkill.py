"""A real agent is killed by SIGKILL at a step, over real processes, a simulated driver and a real disk."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import Incident
from gpuwarden.sim.host import SimHost, SimOptions, Workload
from tests.e2e.agent import ROOT, Agent
from tests.e2e.plain import Plain, group_of
from tests.e2e.test_emergency import Pages

POLICY = """
[sampling]
list_every_s = "500ms"
[ladder]
page_after_s = "300ms"
[[oncall.webhook]]
url = "http://127.0.0.1:{port}/page"
[[tenant]]
match = {{comm = "serve*"}}
class = "protected"
memory = "16GiB"
[[tenant]]
match = {{comm = "boss*"}}
class = "high"
memory = "2GiB"
[[tenant]]
match = {{comm = "hog*"}}
class = "low"
memory = "4GiB"
grace = "300ms"
[[tenant]]
match = {{comm = "hold*"}}
class = "low"
memory = "8GiB"
"""
STEPS = (
    "warn.deciding",
    "warn.concluded",
    "term.deciding",
    "term.intended",
    "term.checked",
    "term.acted",
    "term.concluding",
    "kill.deciding",
    "kill.intended",
    "kill.checked",
    "kill.acted",
    "kill.concluding",
)
FINAL = {r.value for r in Result} - {Result.STARTED.value}


class MortalAgent(Agent):
    """Ends itself at ``step``, in every life in which it reaches it."""

    step = ""

    def launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kills.runner", str(self.path), self.step],
                env={**self._env, "PYTHONPATH": f"{ROOT / 'agent'}:{ROOT}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path: a socket's path holds 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=1)) as host:
        yield host


@pytest.fixture
def plain(host: SimHost, place: Path) -> Iterator[Plain]:
    processes = Plain(host, place)
    yield processes
    processes.close()


@pytest.fixture
def pages() -> Iterator[Pages]:
    came = Pages()
    yield came
    came.close()


@pytest.fixture
def agent(host: SimHost, place: Path, pages: Pages) -> Iterator[MortalAgent]:
    made = MortalAgent(place, POLICY.format(port=pages.port), env=host.env())
    yield made
    made.close()


def dies(agent: MortalAgent) -> None:
    """It ended where it was to end; the next one does not."""
    assert agent.ended() == -signal.SIGKILL
    agent.step = ""
    agent.start()


def closed(agent: MortalAgent, rule: str) -> Incident:
    """The incident of a rule, once it is over."""

    def over() -> list[Incident]:
        found = [i for i in agent.view().incidents if i.rule == rule]
        assert len(found) <= 1, agent.story()
        return [i for i in found if i.closed_at is not None]

    (incident,) = agent.until(f"the incident of {rule} is closed", over)
    return incident


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_mid_eviction(step: str, host: SimHost, plain: Plain, agent: MortalAgent) -> None:
    agent.step = step
    agent.start()
    agent.until_seen(1)
    others = [
        plain.run("serve", "hold", "--size", "4GiB"),
        plain.run("hold", "hold", "--size", "6GiB"),
    ]
    hog = plain.run(
        "hog", "hog", "--size", "8GiB", "--rate", "20GiB/s", "--ignore-term", wait=False
    )
    dies(agent)
    agent.until("it is gone", lambda: not group_of(hog) and host.bytes_of(hog.pid) == 0)
    incident = closed(agent, "quota")
    told = {
        s.action: s for s in incident.steps if s.action and s.kind not in ("withheld", "notify")
    }
    assert {s.result for s in told.values()} <= FINAL, agent.story()
    assert incident.outcome.startswith("tenant killed"), agent.story()
    assert all(other.is_running() for other in others), agent.story()
    assert len(intended(agent, Kind.TERM, hog)) == 1, agent.story()
    assert not agent.diary.actions(Kind.THROTTLE, Kind.FREEZE, Kind.STOP), agent.story()
    assert not agent.defects()


def intended(agent: MortalAgent, kind: Kind, who: Workload) -> list[str]:
    """Intents of a kind for somebody, as they stand on disk."""
    found = agent.diary.actions(kind)
    return [
        a.id for a in found if a.target is not None and who.pid in {p.pid for p in a.target.pids}
    ]


@pytest.mark.parametrize("step", ["page.intended", "page.acted"])
def test_a_page_is_not_lost(step: str, plain: Plain, agent: MortalAgent, pages: Pages) -> None:
    """One of class high is over quota: nothing is done to it, and somebody is told."""
    agent.step = step
    agent.start()
    agent.until_seen(1)
    boss = plain.run("boss", "hold", "--size", "6GiB")
    dies(agent)
    agent.until("somebody is told", lambda: pages.came)
    agent.until_done(Kind.PAGE)
    assert 1 <= len(pages.came) <= 2
    assert {page["summary"] for page in pages.came} == {pages.came[0]["summary"]}
    assert boss.is_running()
    assert not agent.defects()
