"""The real agent on the simulated driver's kernel log: what it shows of it, and where the next agent goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwarden.adapters.kmsg.placefile import NAME
from gpuwarden.model.snapshot import GapKind
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import Agent, MakeAgent, MakeHost
from tests.e2e.plain import Plain

pytestmark = pytest.mark.serial

XID = "NVRM: Xid (PCI:0000:3b:00): 31, pid={pid}, name=python, of an end-to-end test"
KMSG = """
[kmsg]
source = "auto"
path = "{path}"
"""
POLICY = """
[[tenant]]
match = {comm = "hog*"}
class = "low"
memory = "1GiB"
grace = "200ms"
"""


@pytest.fixture
def host(make_host: MakeHost) -> SimHost:
    return make_host(1)


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent) -> Agent:
    config = KMSG.format(path=host.folder / "kmsg.sock") + POLICY
    agent = make_agent(host, config).start()
    agent.until_seen(1)
    return agent


def counted(agent: Agent, name: str) -> int:
    return agent.view().counters.get((f"kernel_log_{name}", ""), 0)


def printed(host: SimHost, pid: int, facility: int = 0) -> None:
    host.control("kernel_line", text=XID.format(pid=pid), facility=facility)


def test_it_says_that_its_kernel_log_is_simulated(agent: Agent, plain: Plain) -> None:
    assert agent.view().agent.kernel_log == "simulated"
    plain.run("hog", "hog", "--size", "4GiB", "--rate", "30GiB/s", device=0, wait=False)
    agent.until("an incident", lambda: agent.view().incidents)
    assert {i.kernel_log for i in agent.view().incidents} == {"simulated"}


def test_lines_and_forgeries_are_counted(host: SimHost, agent: Agent) -> None:
    agent.until("the driver's first lines", lambda: counted(agent, "records") >= 2)
    printed(host, 4711)
    agent.until("the Xid", lambda: counted(agent, "urgent") == 1)
    printed(host, 4712, facility=1)
    agent.until("the forgery", lambda: counted(agent, "forgeries") == 1)
    assert counted(agent, "urgent") == 1
    assert counted(agent, "kept") == 3
    assert counted(agent, "lost") == 0


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_the_next_agent_goes_on_where_the_last_one_was(
    host: SimHost, agent: Agent, is_killed: bool
) -> None:
    printed(host, 4711)
    place = agent.folder / "state" / NAME
    agent.until("the Xid", lambda: counted(agent, "urgent") == 1)
    agent.until("its place", lambda: place.exists() and '"at": "2"' in place.read_text())
    if is_killed:
        agent.kill()
    else:
        assert agent.stop() == 0
    printed(host, 4712)
    agent.start()
    agent.until("the Xid of meanwhile", lambda: counted(agent, "urgent") == 1)
    assert counted(agent, "records") == 1


def test_a_driver_that_goes_takes_the_log_with_it_and_says_so(
    make_host: MakeHost, make_agent: MakeAgent, folder: Path
) -> None:
    host = make_host(1, folder=folder / "sim")
    agent = make_agent(host, KMSG.format(path=folder / "sim" / "kmsg.sock")).start()
    agent.until("the log", lambda: agent.view().agent.kernel_log == "simulated")
    host.stop()
    agent.until("none", lambda: agent.view().agent.kernel_log == "none")
    agent.until("a gap", lambda: [g for g in agent.gaps() if g.source == "kernel_log"])
    assert {g.kind for g in agent.gaps() if g.source == "kernel_log"} <= {
        GapKind.UNAVAILABLE,
        GapKind.GONE,
    }
    host.start()
    agent.until("the log again", lambda: agent.view().agent.kernel_log == "simulated")
    agent.until("its first lines", lambda: counted(agent, "records") >= 4)


@pytest.mark.kmsg
def test_the_real_log_is_the_kernels(make_agent: MakeAgent, host: SimHost) -> None:
    agent = make_agent(host, '[kmsg]\nsource = "kmsg"\n').start()
    agent.until("the log", lambda: agent.view().agent.kernel_log == "kernel")
    agent.until("its records", lambda: counted(agent, "records") > 0)


def test_no_log_where_none_is_wanted(make_agent: MakeAgent, host: SimHost) -> None:
    agent = make_agent(host, '[kmsg]\nsource = "none"\n').start()
    agent.until_seen(1)
    assert agent.view().agent.kernel_log == "none"
    assert not [g for g in agent.gaps() if g.source == "kernel_log"]
