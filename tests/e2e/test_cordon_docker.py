"""Real containers that start on a cordoned device are stopped at their start; those that were there stay."""

from __future__ import annotations

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import NoteKind
from tests.e2e.agent import Agent, MakeNode
from tests.e2e.containers import Containers, until_dead, until_named
from tests.e2e.test_cordon_slurm import gpuwarden

pytestmark = [pytest.mark.docker, pytest.mark.root]


def cordon(agent: Agent, subject: str) -> None:
    """And a second later, when whoever starts is known to have come after it."""
    assert gpuwarden(agent, "cordon", subject, "--reason", "new fan")[0] == 0
    began = agent.view().snapshot.wall
    agent.until("a second has passed", lambda: agent.view().snapshot.wall > began + 1.5)


def stopped(agent: Agent) -> set[str]:
    return {a.target.name for a in agent.diary.actions(Kind.STOP) if a.target is not None}


def test_who_starts_on_a_cordoned_device_is_stopped(node: MakeNode, containers: Containers) -> None:
    agent = node()
    before = containers.hold("hog", "1GiB")
    idle_before = containers.idle("hog", device="all")
    until_named(agent, before)
    cordon(agent, "0")
    elsewhere = containers.idle("hog", device=1)
    busy_elsewhere = containers.hold("hog", "1GiB", device=1)
    ungiven = containers.idle("hog", device="none")
    everywhere = containers.idle("hog", device="all")
    holding = containers.hold("hog", "1GiB")
    restarted = containers.idle("hog", device=0, restart="always")
    for container in (everywhere, holding, restarted):
        until_dead(agent, container)
    assert stopped(agent) == {c.name for c in (everywhere, holding, restarted)}
    for container in (before, idle_before, elsewhere, busy_elsewhere, ungiven):
        assert container.is_running()
    assert restarted.restart_policy() == "always"
    agent.until_closed(3)
    opened = [n.text for n in agent.diary.notes(NoteKind.OPENED) if everywhere.name in n.text]
    assert "has started on GPU 0, which is cordoned (inc-" in opened[0]
    assert gpuwarden(agent, "uncordon", "0")[0] == 0
    welcome = containers.hold("hog", "1GiB")
    until_named(agent, welcome)
    agent.always("it stays", welcome.is_running, for_s=2.0)


def test_a_cordoned_node_takes_nobody(node: MakeNode, containers: Containers) -> None:
    agent = node()
    cordon(agent, "node")
    for device in (0, 1):
        until_dead(agent, containers.idle("hog", device=device))


def test_a_protected_one_stays_and_that_is_said(node: MakeNode, containers: Containers) -> None:
    agent = node()
    cordon(agent, "0")
    safe = containers.idle("safe", device=0)
    agent.until("it is said", lambda: agent.diary.withheld("protected"))
    assert safe.is_running()


def test_observing_it_only_says_so(node: MakeNode, containers: Containers) -> None:
    agent = node(mode="observe")
    cordon(agent, "0")
    container = containers.idle("hog", device=0)
    agent.until("it is said", lambda: agent.diary.withheld("observe"))
    agent.always("it runs", container.is_running, for_s=1.5)
    assert len([w for w in agent.diary.withheld("observe") if w.kind is Kind.STOP]) == 1
    assert agent.diary.actions(Kind.STOP) == []
