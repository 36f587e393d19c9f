"""A protected service suffers on plain processes: who is at fault goes at once, nobody else ever."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gpuwarden.model.action import HARMFUL, Kind, Result
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.snapshot import Health
from gpuwarden.sim.host import SimHost, Workload
from tests.e2e.agent import WITHIN_S, Agent, MakeAgent, MakeHost
from tests.e2e.plain import Plain, group_of

pytestmark = pytest.mark.serial

POLICY = """
[sampling]
list_every_s = "500ms"
[quota]
warmup_s = "100ms"
[ladder]
locked_after_s = "1s"
[[oncall.webhook]]
url = "http://127.0.0.1:{page_port}/page"
[[tenant]]
match = {{comm = "serve*"}}
class = "protected"
service = "risk"
memory = "8GiB"
[[tenant]]
match = {{comm = "hog*"}}
class = "low"
memory = "8GiB"
grace = "60s"
[[tenant]]
match = {{comm = "hold*"}}
class = "low"
memory = "30GiB"
[[service]]
name = "risk"
url = "http://127.0.0.1:{port}/metrics"
p99_max_s = "300ms"
enter_s = "300ms"
leave_s = "300ms"
stall_s = "500ms"
window_s = "1s"
every_s = "100ms"
"""


@pytest.fixture
def host(make_host: MakeHost) -> SimHost:
    return make_host(2)


class Pages:
    """A webhook on loopback and what came in."""

    def __init__(self) -> None:
        came: list[dict[str, Any]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                came.append(json.loads(self.rfile.read(size)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.came = came
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(WITHIN_S)


@pytest.fixture
def pages() -> Iterator[Pages]:
    one = Pages()
    yield one
    one.close()


class Scene:
    """A protected service that is well, and the agent that watches over it."""

    def __init__(self, agent: Agent, serve: Workload) -> None:
        self.agent = agent
        self.serve = serve

    def health(self) -> Health:
        (state,) = self.agent.view().snapshot.services
        return state.health

    def until(self, health: Health) -> None:
        self.agent.until(f"the service is {health.value}", lambda: self.health() is health)

    def harmed(self) -> list[tuple[str, Kind]]:
        found = self.agent.diary.actions(*HARMFUL)
        return [(a.target.name, a.kind) for a in found if a.target is not None]


@pytest.fixture
def scene(host: SimHost, make_agent: MakeAgent, plain: Plain, pages: Pages) -> Scene:
    serve = plain.run("serve", "serve", "--size", "4GiB", "--port", "0")
    agent = make_agent(host, POLICY.format(port=serve.port, page_port=pages.port)).start()
    agent.until_seen(2)
    made = Scene(agent, serve)
    made.until(Health.GREEN)
    agent.until("it is known whose service it is", lambda: _tenant(made) is not None)
    return made


def _tenant(scene: Scene) -> object:
    (state,) = scene.agent.view().snapshot.services
    return state.tenant


HOG = ("hog", "--size", "12GiB", "--rate", "20GiB/s")


def test_who_overruns_and_locks_the_device_up_goes_at_once(
    host: SimHost, scene: Scene, plain: Plain
) -> None:
    """Its own grace is a minute, and it does not heed TERM: the emergency gives it a second."""
    agent = scene.agent
    meek = plain.run("hold", "hold", "--size", "6GiB")
    hog = plain.run("hog", *HOG, "--lock-up-at", "9GiB", "--ignore-term", wait=False)
    agent.until("the hog is gone", lambda: not hog.is_running())
    agent.until("the device is free", lambda: not _locked(host))
    scene.until(Health.GREEN)
    agent.until_closed(len(agent.diary.notes(NoteKind.OPENED)))
    assert set(scene.harmed()) == {("hog", Kind.TERM), ("hog", Kind.KILL)}
    assert meek.is_running()
    assert scene.serve.is_running()
    incident = next(i for i in agent.view().incidents if i.tenant_name == "hog")
    assert incident.harmed
    told = " ".join(step.text for step in incident.steps)
    assert "emergency" in told or "emergency" in agent.story()


def _locked(host: SimHost, device: int = 0) -> bool:
    return bool(host.control("info")["devices"][device]["locked_up"])


def test_a_device_that_stays_locked_up_is_cordoned_and_paged(
    host: SimHost, scene: Scene, plain: Plain, pages: Pages
) -> None:
    agent = scene.agent
    hog = plain.run("hog", *HOG, "--lock-up-at", "9GiB", "--persistent", wait=False)
    agent.until("the hog is gone", lambda: not hog.is_running())
    agent.until_done(Kind.CORDON)
    page = agent.until("somebody is told", lambda: [p for p in pages.came if "reset" in str(p)])[0]
    assert "nvidia-smi --gpu-reset -i 0" in page["summary"]
    assert "serve" in page["summary"]  # who has to leave it first
    assert scene.serve.is_running()
    assert "serve" not in {name for name, _ in scene.harmed()}
    assert agent.diary.outcomes(Kind.PAGE, result=Result.DONE)
    assert pages.came.count(page) == 1


def test_a_red_service_alone_convicts_nobody(host: SimHost, scene: Scene, plain: Plain) -> None:
    """Somebody within his quota asks more of the device than it has."""
    busy = plain.run("hold", "hold", "--size", "6GiB", "--load", "6000")
    scene.until(Health.RED)
    scene.agent.always("nobody is touched", busy.is_running, for_s=2.0)
    assert scene.harmed() == []
    busy.kill()
    scene.until(Health.GREEN)


def test_an_xid_of_an_application_alone_convicts_nobody(
    host: SimHost, scene: Scene, plain: Plain
) -> None:
    meek = plain.run("hog", "hold", "--size", "6GiB")
    scene.agent.until("it is there", lambda: scene.agent.tenant("hog"))
    host.control("xid", device=0, xid=31, pid=meek.pid)
    scene.agent.always("nobody is touched", meek.is_running, for_s=2.0)
    assert scene.harmed() == []


def test_a_lock_up_of_nobody_in_particular_convicts_nobody(
    host: SimHost, scene: Scene, plain: Plain
) -> None:
    """A large tenant within its quota stands beside the service when the device locks up. (Had it alone grown
    at the onset, that would speak against it.)"""
    meek = plain.run("hold", "hold", "--size", "20GiB")
    scene.agent.until("it is there", lambda: scene.agent.tenant("hold"))
    scene.agent.until("it does not grow any more", lambda: _rests(scene))
    host.control("lock_up", device=0)
    scene.until(Health.RED)
    scene.agent.until_done(Kind.PAGE)
    assert meek.is_running()
    assert scene.serve.is_running()
    assert {kind for _, kind in scene.harmed()} <= {Kind.CORDON}
    host.control("unlock", device=0)
    scene.until(Health.GREEN)


def _rests(scene: Scene) -> bool:
    meek = scene.agent.tenant("hold")
    uses = [u for u in scene.agent.view().snapshot.uses if meek and u.tenant == meek.id]
    return bool(uses) and all(u.growth_bytes_s == 0.0 for u in uses)


# --- outside any container ---


def test_a_bare_offender_goes_with_its_process_group_and_no_further(
    host: SimHost, scene: Scene, plain: Plain
) -> None:
    agent = scene.agent
    beside = plain.run("hog-meek", "hold", "--size", "2GiB")  # same user, same control group
    agent.until("it is there", lambda: agent.tenant("hog-meek"))
    hog = plain.run("hog", *HOG, "--children", "4", wait=False, has_company=True)
    agent.until("all of it is there", lambda: len(group_of(hog)) == 6)
    agent.until("the whole group is gone", lambda: not group_of(hog) and not hog.is_running())
    agent.until_closed()
    hit = {a.target.name for a in agent.diary.actions(*HARMFUL) if a.target is not None}
    assert hit == {"hog"}
    assert all(a.target.cgroup is None for a in agent.diary.actions(*HARMFUL) if a.target)
    assert beside.is_running()
    assert scene.serve.is_running()
