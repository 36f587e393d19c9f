"""What a unit runs when its daemon is gone: let go of what was held, and tell people."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gpuwarden.commands.let_go import let_go
from gpuwarden.config import Config
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Action, Kind, Target
from gpuwarden.model.decision import Decision
from gpuwarden.model.ids import CgroupId, IncidentId, TenantId
from gpuwarden.model.memory import Memory
from gpuwarden.node.journal import FileJournal
from tests.commands.cli_run import run
from tests.policy.builders import snap

HELD = CgroupId(path="/docker/held", inode=7, hierarchy="")
TARGET = Target(tenant=TenantId("docker/held"), runtime="docker", cgroup=HELD)


@dataclass
class Groups:
    """Frozen groups of a host, by what they are."""

    frozen: set[CgroupId]
    is_stuck: bool = False
    thawed: list[CgroupId] = field(default_factory=list)

    def is_same(self, cgroup: CgroupId) -> bool:
        return cgroup in self.frozen

    def is_frozen(self, cgroup: CgroupId) -> bool:
        return cgroup in self.frozen

    def thaw(self, cgroup: CgroupId) -> None:
        if self.is_stuck:
            raise Unavailable("read-only")
        self.thawed.append(cgroup)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Of an agent that was killed after it had meant to freeze a group."""
    made = FileJournal(tmp_path / "journal", 1 << 20)
    made.begin(Config().model_dump_json(by_alias=True), Memory())
    freeze = Action(
        id="i/1", kind=Kind.FREEZE, incident=IncidentId("i"), why="over quota", target=TARGET
    )
    made.intend(Memory(), snap(), Decision(actions=(freeze,), memory=Memory()))
    made.close()
    return tmp_path / "journal"


def test_what_may_have_been_frozen_runs_on(journal: Path) -> None:
    other = CgroupId(path="/docker/other", inode=8, hierarchy="")
    groups = Groups({HELD, other})
    assert let_go(journal, groups) == ["/docker/held: runs on"]
    assert groups.thawed == [HELD]  # nobody else's


def test_a_group_that_is_another_by_now_is_left_alone(journal: Path) -> None:
    groups = Groups({CgroupId(path=HELD.path, inode=9, hierarchy="")})
    assert let_go(journal, groups) == []
    assert groups.thawed == []


def test_one_that_cannot_be_thawed_is_told(journal: Path) -> None:
    assert let_go(journal, Groups({HELD}, is_stuck=True)) == ["/docker/held: read-only"]


def test_without_a_journal_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert let_go(tmp_path / "none", Groups({HELD})) == []


def test_people_are_told_of_a_unit_that_was_given_up(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[[oncall.exec]]\nname = "page"\ncommand = ["/bin/sh", "-c", "cat >{heard}"]\n', "utf-8"
    )
    words = ("notify", "unit-failed", "gpuwarden-agent.service")
    said = run(*words, env={"GPUWARDEN_CONFIG": str(file)})
    assert said.exit_code == 0, said.output
    message = json.loads(heard.read_text("utf-8"))
    assert message["severity"] == "critical"
    assert "gpuwarden-agent.service" in json.dumps(message)


def test_where_nobody_is_set_to_be_told_it_fails(tmp_path: Path) -> None:
    (file := tmp_path / "agent.toml").write_text("", "utf-8")
    said = run("notify", "unit-failed", "x.service", env={"GPUWARDEN_CONFIG": str(file)})
    assert said.exit_code == 1
    assert "nobody is told" in said.output
