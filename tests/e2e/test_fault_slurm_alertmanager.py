"""A device falls off the bus: the real Slurm drains the node, the real Alertmanager tells somebody once, and
both are told of the end once the device is back and has been well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.sim.host import SimHost
from tests.adapters import slurm_node
from tests.adapters.alertmanagers import Alertmanager
from tests.adapters.receiver import Receiver
from tests.adapters.slurm_node import OTHERS
from tests.e2e.agent import Agent, MakeAgent
from tests.e2e.test_cordon_slurm import lose, mend, settings

pytestmark = [pytest.mark.slurm, pytest.mark.alertmanager, pytest.mark.serial]


MORE = """
[agent]
expected_devices = 2
[health.count]
grace_s = "1s"
probation_s = "1s"
[[oncall.alertmanager]]
urls = ["{url}"]
resend_s = "1s"
"""


@pytest.fixture(autouse=True)
def _in_service() -> Iterator[None]:
    with slurm_node.in_service():
        yield


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def alertmanager(tmp_path: Path, hook: Receiver) -> Iterator[Alertmanager]:
    made = Alertmanager(tmp_path / "am", hook.url()).start()
    yield made
    made.stop()


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent, alertmanager: Alertmanager) -> Agent:
    made = make_agent(host, settings(host) + MORE.format(url=alertmanager.url)).start()
    made.until_seen(2)
    return made


def told(hook: Receiver) -> list[str]:
    return [a["status"] for r in hook.requests for a in r.json()["alerts"]]


def test_xid_79_drains_pages_once_resumes_and_resolves(
    host: SimHost, agent: Agent, alertmanager: Alertmanager, hook: Receiver
) -> None:
    lose(host, agent)
    agent.until("the node is drained", lambda: slurm_node.state() == "IDLE+DRAIN")
    (order,) = agent.diary.actions(Kind.CORDON)
    assert slurm_node.reason().startswith(f"gpuwarden: {order.incident}; ")
    agent.until("somebody is told", lambda: told(hook) == ["firing"])
    (alert,) = alertmanager.alerts()
    assert alert["annotations"]["incident"] == order.incident
    assert alert["labels"]["severity"] == "critical"
    agent.always(
        "once, and it stays drained",
        lambda: told(hook) == ["firing"] and slurm_node.state() == "IDLE+DRAIN",
        for_s=5.0,
    )
    mend(host, agent)
    agent.until("the node is back", slurm_node.is_well)
    agent.until("its end is told", lambda: told(hook) == ["firing", "resolved"])
    agent.always("and no more", lambda: told(hook) == ["firing", "resolved"], for_s=3.0)
    assert slurm_node.is_well()


def test_a_node_that_somebody_else_drained_is_told_of_and_stays_drained(
    host: SimHost, agent: Agent, hook: Receiver
) -> None:
    slurm_node.drain()
    lose(host, agent)
    agent.until(
        "it says whose it is",
        lambda: any(o.detail == "slurm: foreign" for o in agent.diary.outcomes(Kind.CORDON)),
    )
    agent.until("somebody is told", lambda: told(hook) == ["firing"])
    mend(host, agent)
    agent.until_done(Kind.UNCORDON)
    agent.until("its end is told", lambda: told(hook) == ["firing", "resolved"])
    assert (slurm_node.state(), slurm_node.reason()) == ("IDLE+DRAIN", OTHERS)
