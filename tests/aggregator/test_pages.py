"""What the aggregator tells Prometheus: its own page, and where every agent's page is."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.fleet_pages import STALE_S, FleetPages
from gpuwarden.clock import SystemClock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim, FleetView, Greeting, NodeStanding, NodeState
from tests.aggregator.centre import Centre, event, sample

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path) as serving:
        yield serving


def get(centre: Centre, path: str) -> tuple[int, str]:
    assert centre.parts.pages is not None
    try:
        url = f"http://127.0.0.1:{centre.parts.pages.port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def node(name: str, **more: Any) -> NodeStanding:
    greeting = Greeting(node=name, boot_id="b", log_id="l", **more)
    return NodeStanding(
        greeting=greeting, state=NodeState.SILENT, why="", is_connected=False, events_dropped=3
    )


def pages(view: FleetView, now: float = 10.0) -> FleetPages:
    return FleetPages(lambda: view, lambda: {"messages": 7, "streams": 2}, lambda: now, "1.0")


def until_told(centre: Centre, text: str) -> str:
    end = time.monotonic() + WAIT_S
    while text not in (page := get(centre, "/metrics")[1]):
        assert time.monotonic() < end, page
        SystemClock().sleep(0.05)
    return page


def test_every_agent_that_can_be_reached_is_found(centre: Centre) -> None:
    line = centre.line("n1", metrics_address="n1.example:9420", group="realtime")
    lonely = centre.line("n2")
    for each in (line, lonely):
        each.batch(samples=[sample()], events=[event(1)])
        each.until_acked(1)
    page = until_told(centre, 'gpuwarden_fleet_nodes{group="realtime",state="healthy"} 1')
    assert "gpuwarden_fleet_unscraped 1" in page
    status, text = get(centre, "/sd")
    assert status == 200
    (group,) = json.loads(text)
    assert group["targets"] == ["n1.example:9420"]
    assert (group["labels"]["node"], group["labels"]["group"]) == ("n1", "realtime")
    assert get(centre, "/healthz") == (200, "ok\n")
    assert get(centre, "/ready/n1")[0] == 404
    assert "/sd" in get(centre, "/nothing")[1]
    line.close()
    lonely.close()


def test_a_silent_node_stays_a_target_so_that_its_absence_shows() -> None:
    view = FleetView(
        serial=1,
        at=10.0,
        wall=0.0,
        epoch=1,
        nodes=(node("n1", metrics_address="n1:9420", domains=(("rack-row", "r\n1"),)),),
    )
    (group,) = json.loads(pages(view).targets())
    assert group["labels"]["__meta_gpuwarden_state"] == "silent"
    assert group["labels"]["__meta_gpuwarden_domain_rack_row"] == "r\n1"


def test_hostile_names_do_not_break_the_page() -> None:
    claim = FleetClaim(key='mass "x"\n', severity=Severity.CRITICAL, summary="")
    view = FleetView(
        serial=1, at=10.0, wall=0.0, epoch=1, nodes=(node("n", group='a"b'),), claims=(claim,)
    )
    page = pages(view).page().decode()
    assert 'claim="mass \\"x\\"\\n",severity="critical"' in page
    assert 'group="a\\"b",state="silent"' in page
    if (promtool := shutil.which("promtool")) is not None:
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=page,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_loop_that_hangs_is_not_well() -> None:
    view = FleetView(serial=1, at=10.0, wall=0.0, epoch=1)
    assert pages(view, 10.0 + STALE_S).health() == "ok"
    with pytest.raises(Unavailable, match="hangs"):
        pages(view, 10.1 + STALE_S).health()


@pytest.mark.parametrize(
    ("listen", "advertise", "reached"),
    [
        ("127.0.0.1:9420", "gpu-1:9430", ""),
        ("localhost:9420", "gpu-1:9430", ""),
        ("[::1]:9420", "gpu-1:9430", ""),
        ("10.1.2.3:9420", None, "10.1.2.3:9420"),
        ("0.0.0.0:9420", "gpu-1:9430", "gpu-1:9420"),
        ("[::]:9420", "[fd00::7]:9430", "[fd00::7]:9420"),
        ("0.0.0.0:9420", None, ""),
    ],
)
def test_where_others_reach_a_nodes_page(listen: str, advertise: str | None, reached: str) -> None:
    assert FleetConfig(advertise=advertise).metrics_address(listen) == reached


def test_neither_is_served_where_nobody_wants_it(tmp_path: Path) -> None:
    with Centre(tmp_path, aggregator={"metrics_listen": "none"}) as serving:
        assert serving.parts.pages is None


@pytest.mark.promtool
def test_rules_for_those_who_watch_the_fleet() -> None:
    rules = ROOT / "tests" / "data" / "prometheus_fleet_rules.yml"
    checked = subprocess.run(
        ["promtool", "test", "rules", str(rules)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.promtool
def test_a_real_prometheus_finds_an_agent_by_itself(centre: Centre, tmp_path: Path) -> None:
    assert centre.parts.pages is not None
    ours = centre.parts.pages.port
    line = centre.line("n1", metrics_address=f"127.0.0.1:{ours}")
    line.batch(samples=[sample()], events=[event(1)])
    line.until_acked(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: gpuwarden\n"
        f'    http_sd_configs: [{{url: "http://127.0.0.1:{ours}/sd", refresh_interval: 1s}}]\n'
    )
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        assert found(port, 'up{job="gpuwarden",node="n1",group="default"} == 1')
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)
        line.close()


def found(port: int, query: str) -> list[Any]:
    """What Prometheus answers, once it answers anything."""
    end = time.monotonic() + WAIT_S
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                result: list[Any] = json.load(answer)["data"]["result"]
        except OSError:
            result = []
        if result:
            return result
        SystemClock().sleep(0.2)
    return []
