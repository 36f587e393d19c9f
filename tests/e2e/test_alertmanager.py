"""The real agent, the real Alertmanager and the real Prometheus: an alert once, kept alive, and its end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.sim.host import SimHost, Workload
from tests.adapters.alertmanagers import Alertmanager
from tests.adapters.receiver import Receiver
from tests.e2e.agent import ROOT, Agent, MakeAgent, MakeHost
from tests.e2e.plain import Plain

POLICY = """
[agent]
metrics_listen = "127.0.0.1:{port}"
[sampling]
list_every_s = "500ms"
[quota]
clear_hold_s = "500ms"
[ladder]
page_after_s = "300ms"
[[tenant]]
match = {{comm = "boss*"}}
class = "high"
memory = "2GiB"
[[oncall.alertmanager]]
urls = [{urls}]
resend_s = "1s"
timeout_s = "5s"
"""


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
def host(make_host: MakeHost) -> SimHost:
    return make_host()


@pytest.fixture
def boss(host: SimHost, folder: Path) -> Iterator[Callable[[], Workload]]:
    """One of class high that is over its quota: nothing is done to it, and somebody is told."""
    plain = Plain(host, folder)
    yield lambda: plain.run("boss", "hold", "--size", "6GiB")
    plain.close()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def told(hook: Receiver) -> list[str]:
    return [a["status"] for r in hook.requests for a in r.json()["alerts"]]


@pytest.mark.alertmanager
def test_an_alert_once_through_an_outage_and_its_end(
    host: SimHost,
    make_agent: MakeAgent,
    alertmanager: Alertmanager,
    hook: Receiver,
    boss: Callable[[], Workload],
    port: int,
) -> None:
    agent: Agent = make_agent(host, POLICY.format(port=port, urls=f'"{alertmanager.url}"')).start()
    agent.until_seen(1)
    it = boss()
    agent.until("somebody is told", lambda: told(hook) == ["firing"])
    (alert,) = alertmanager.alerts()
    assert alert["labels"]["alertname"] == "GpuwardenQuota"
    assert alert["labels"]["tenant"] == "boss"
    assert alert["annotations"]["more"].startswith("gpuwarden explain inc-")
    agent.always("it stands, and once", lambda: told(hook) == ["firing"], for_s=5.0)
    assert len(alertmanager.alerts()) == 1  # longer than it lives without being sent again
    alertmanager.stop()
    agent.until("it is missed", lambda: agent.view().oncall.sinks[0].failing_wall is not None)
    alertmanager.start()
    agent.until("it is held again", alertmanager.alerts)
    agent.until("all is well there", lambda: agent.view().oncall.sinks[0].failing_wall is None)
    it.kill()
    agent.until("its end is told", lambda: told(hook)[-1] == "resolved")
    assert told(hook) == ["firing", "resolved"]


@pytest.mark.promtool
def test_rules_for_those_who_watch_the_agents() -> None:
    checked = subprocess.run(
        ["promtool", "test", "rules", str(ROOT / "tests" / "data" / "prometheus_rules.yml")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def ask(path: str, **query: str) -> Any:
    url = f"{os.environ['PROMETHEUS_URL']}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)["data"]


def found(query: str) -> list[Any]:
    """What Prometheus answers now."""
    result: list[Any] = ask("query", query=query)["result"]
    return result


@pytest.mark.prometheus
def test_prometheus_scrapes_an_agent_and_notices_that_it_is_gone(
    host: SimHost, make_agent: MakeAgent, port: int
) -> None:
    agent = make_agent(host, POLICY.format(port=port, urls='"http://127.0.0.1:9"')).start()
    agent.until_seen(1)
    instance = f"127.0.0.1:{port}"
    target = Path(os.environ["PROMETHEUS_TARGETS"]) / f"{port}.json"
    target.write_text(json.dumps([{"targets": [instance]}]))
    try:
        where = f'{{instance="{instance}"}}'
        for name in ("gpuwarden_agent_info", "gpuwarden_oncall_unreached"):
            agent.until(f"{name} is there", partial(found, name + where))
        agent.kill()

        def states() -> list[str]:
            alerts = ask("alerts")["alerts"]
            return [
                a["state"]
                for a in alerts
                if a["labels"]["alertname"] == "GpuwardenAgentGone"
                and a["labels"]["instance"] == instance
            ]

        agent.until("its absence is noticed", lambda: states() == ["pending"])
    finally:
        target.unlink()
