"""Real containers on a node of a group that does not admit them: the newcomers are stopped, the others told of."""

from __future__ import annotations

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import Agent, MakeAgent
from tests.e2e.containers import Containers, policy, until_dead, until_named

pytestmark = [pytest.mark.docker, pytest.mark.root]
RULE = """
[fleet]
group = "realtime"
[placement.realtime]
admit = ["protected", "high"]
refuse = {refuse}
"""


def start(make_agent: MakeAgent, host: SimHost, *, refuse: bool) -> Agent:
    agent = make_agent(host, policy() + RULE.format(refuse=str(refuse).lower())).start()
    agent.until_seen(2)
    return agent


def told(agent: Agent) -> set[str]:
    return {f.summary.split(" ")[0] for f in agent.view().findings if f.rule == "placement"}


def test_who_starts_where_it_does_not_belong_is_stopped(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    agent = start(make_agent, host, refuse=True)
    safe = containers.hold("safe", "1GiB")
    until_named(agent, safe)
    busy, idle = containers.hold("hog", "1GiB"), containers.idle("hog", device=1)
    ungiven = containers.idle("hog", device="none")
    for container in (busy, idle):
        until_dead(agent, container)
    assert {a.target.name for a in agent.diary.actions(Kind.STOP) if a.target is not None} == {
        busy.name,
        idle.name,
    }
    assert safe.is_running()
    assert ungiven.is_running()


def test_where_nobody_is_refused_it_is_told(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    agent = start(make_agent, host, refuse=False)
    hog = containers.hold("hog", "1GiB")
    agent.until("it is told", lambda: told(agent) == {hog.name})
    agent.always("it runs", hog.is_running, for_s=1.0)
    assert agent.diary.actions() == []
