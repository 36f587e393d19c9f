"""Services in real containers that do not answer their probes: restarted by Docker, proved well, told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import ROOT, Agent, MakeAgent
from tests.e2e.containers import Container, Containers, docker, policy, until_named

pytestmark = [pytest.mark.docker, pytest.mark.root]

SERVICE = """
[[tenant]]
match = {{name = "web-*"}}
class = "protected"
memory = "8GiB"
grace = "500ms"
service = "web"
[rules.probe]
mode = "{mode}"
[[service]]
name = "web"
[service.probe]
{probe}
every_s = "300ms"
timeout_s = "300ms"
failures = 2
restart = true
verify_s = "25s"
probation_s = "1s"
"""
HEALTHY = (
    *("--tmpfs=/run", "--health-cmd=test ! -e /run/sick", "--health-interval=1s"),
    *("--health-retries=2", "--health-timeout=5s", "--health-start-period=0s"),
)
SITE = (
    "mkdir -p /run/www; echo ok >/run/www/healthz; /sim/workload hold --size 2GiB & "
    "exec httpd -f -p 127.0.0.1:{port} -h /run/www"
)


def config(probe: str, mode: str = "enforce") -> str:
    return policy() + SERVICE.format(probe=probe, mode=mode)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(
    make_agent: MakeAgent, host: SimHost, probe: str, port: int, mode: str = "enforce"
) -> Agent:
    listen = f'[agent]\nmetrics_listen = "127.0.0.1:{port}"\n'
    text = config(probe, mode).replace("[agent]\n", listen, 1)
    agent = make_agent(host, text).start()
    agent.until_seen(2)
    return agent


def page(port: int, name: str = "web") -> tuple[int, dict[str, object]]:
    """What a load balancer gets."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready/{name}", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ready_verb(agent: Agent, name: str = "web") -> tuple[int, dict[str, object]]:
    door = str(agent.run_dir / "gpuwarden.sock")
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden", "ready", name, "-o", "json", "--socket", door],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": str(ROOT / "agent"), "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def started_at(container: Container) -> str:
    return str(container.state()["StartedAt"])


def restarts_of(agent: Agent) -> list[Result]:
    final = [o for o in agent.diary.outcomes() if o.kind is Kind.RESTART_TENANT]
    return [o.result for o in final if o.result is not Result.STARTED]


def heals(agent: Agent, web: Container, port: int, before: str) -> None:
    """It is unfit, restarted once, and fit again; the incident is over."""
    agent.until("it is not fit", lambda: page(port)[0] == 503)
    agent.until_done(Kind.RESTART_TENANT)
    agent.until("it is fit again", lambda: page(port)[0] == 200)
    assert started_at(web) != before
    assert web.is_running()
    agent.until_closed()
    assert restarts_of(agent) == [Result.DONE]
    assert not [a for a in agent.diary.actions() if a.kind is Kind.PAGE]
    (incident,) = [i for i in agent.view().incidents if i.rule == "probe"]
    assert incident.outcome == "service restarted"
    assert ready_verb(agent)[0] == 0


def test_dockers_own_healthcheck(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    port = free_port()
    agent = start(make_agent, host, "healthcheck = true", port)
    other = containers.hold("safe", "1GiB")
    web = containers.hold("web", "2GiB", options=HEALTHY)
    until_named(agent, web)
    agent.until("it is fit", lambda: page(port)[0] == 200)
    before, neighbour = started_at(web), other.pid()
    assert page(port, "nobody")[0] == 404
    docker("exec", web.id, "touch", "/run/sick")
    heals(agent, web, port, before)
    assert other.pid() == neighbour
    assert web.happened().count("restart") == 1


def test_a_page_at_a_containers_port(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    port, site = free_port(), free_port()
    agent = start(make_agent, host, f'port = {site}\npath = "/healthz"', port)
    web = containers.run(
        "web",
        "-c",
        SITE.format(port=site),
        program="sh",
        network="host",
        options=("--tmpfs=/run",),
    )
    until_named(agent, web)
    agent.until("it is fit", lambda: page(port)[0] == 200)
    before = started_at(web)
    docker("exec", web.id, "rm", "/run/www/healthz")
    agent.until("its probe says why", lambda: "HTTP 404" in str(page(port)[1].get("reasons")))
    heals(agent, web, port, before)


def test_one_that_stays_sick_is_told_once_and_observe_touches_nothing(
    host: SimHost, make_agent: MakeAgent, containers: Containers
) -> None:
    port = free_port()
    agent = start(make_agent, host, "healthcheck = true", port, "observe")
    web = containers.hold("web", "2GiB", options=HEALTHY)
    until_named(agent, web)
    agent.until("it is fit", lambda: page(port)[0] == 200)
    before = started_at(web)
    docker("exec", web.id, "touch", "/run/sick")
    agent.until(
        "somebody is told", lambda: [a for a in agent.diary.actions() if a.kind is Kind.PAGE]
    )
    code, said = ready_verb(agent)
    assert code == 1
    assert said["ready"] is False
    assert "its probe fails" in str(said["reasons"])
    assert started_at(web) == before
    assert restarts_of(agent) == []
    held = [w for w in agent.diary.withheld("observe") if w.kind is Kind.RESTART_TENANT]
    assert len(held) == 1, "said once"


def test_without_an_agent_the_verb_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden", "ready", "web", "--socket", str(tmp_path / "none")],
        capture_output=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": str(ROOT / "agent"), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 3
