"""What a service manager hears of the real agent: ready once it has worked, reloading, stopping; and of a hung one
nothing. A host without a driver is told plainly, and the driver is found when it comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.sim.host import SimHost
from tests.adapters.manager_socket import Manager, managed
from tests.e2e.agent import Agent, MakeAgent

pytestmark = pytest.mark.serial


@pytest.fixture
def manager(folder: Path) -> Iterator[Manager]:
    with managed(folder) as heard:
        yield heard


def is_ready(said: dict[str, str]) -> bool:
    return said.get("READY") == "1"


def started(make_agent: MakeAgent, host: SimHost, manager: Manager, config: str = "") -> Agent:
    agent = make_agent(host, config, env={**os.environ, "NOTIFY_SOCKET": manager.address})
    agent.launch()
    return agent


def test_a_life(make_agent: MakeAgent, host: SimHost, manager: Manager) -> None:
    agent = started(make_agent, host, manager)
    heard = manager.until(is_ready)
    assert [said for said in heard if "WATCHDOG" in said] == heard[-1:]  # not before the first tick
    assert heard[-1]["MAINPID"] == str(agent.pid)
    manager.until_status("enforce: 2 GPUs, 0 tenants")
    manager.until(lambda said: said == {"WATCHDOG": "1"})
    agent.reload("[quota]\nwarmup_s = 1\n")
    reloading = manager.until(lambda said: "RELOADING" in said)[-1]
    ready = manager.until(is_ready)[-1]
    assert reloading["MONOTONIC_USEC"].isdigit()
    assert "WATCHDOG" in ready
    agent.reload("[quota]\nwarmup_s = -1\n")
    manager.until(lambda said: "RELOADING" in said)
    kept = manager.until(is_ready)[-1]
    assert kept["STATUS"].startswith("config rejected, the old one stays: conf.d/test.toml:2: ")
    assert "enforce: 2 GPUs" in kept["STATUS"]
    assert agent.stop() == 0
    manager.until(lambda said: said == {"STOPPING": "1"})
    assert manager.hear(0.1) is None


def test_a_hung_agent_feeds_no_watchdog(
    make_agent: MakeAgent, host: SimHost, manager: Manager
) -> None:
    agent = started(make_agent, host, manager)
    manager.until(is_ready)
    agent.signal(signal.SIGSTOP)
    manager.drain()
    assert manager.hear(3.0) is None
    agent.signal(signal.SIGCONT)
    manager.until(lambda said: "WATCHDOG" in said)


def test_a_host_without_a_driver_is_told_and_the_driver_is_found_when_it_comes(
    make_agent: MakeAgent, host: SimHost, manager: Manager, folder: Path
) -> None:
    library = folder / "libnvidia-ml.so.1"
    agent = started(make_agent, host, manager, f'[nvml]\nlibrary = "{library}"\n')
    manager.until(is_ready)
    manager.until_status("no GPUs (LIBRARY_NOT_FOUND: ")
    agent.until("it looks again", lambda: agent.view().counters["probe_restarts", ""] >= 2)
    assert len(agent.events("no_gpus")) == 1
    assert "libnvidia-ml.so.1" in agent.events("no_gpus")[0]["why"]
    assert agent.is_running()
    library.symlink_to(host.built.library)
    agent.until_seen(2)
    manager.until_status(": 2 GPUs")
    assert [event["count"] for event in agent.events("gpus_found")] == [2]
    assert len(agent.events("no_gpus")) == 1
