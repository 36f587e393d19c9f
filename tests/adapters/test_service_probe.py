"""Probes: answers counted, HTTP asked on real sockets, and what Docker says of a container."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gpuwarden.adapters.container_looks import Look, look_of
from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.service_probe import ProbeState
from gpuwarden.adapters.services import ServiceWatch
from gpuwarden.clock import SystemClock
from gpuwarden.config_services import ProbeConfig, ServiceConfig
from gpuwarden.model.ids import TenantId
from gpuwarden.model.service import ProbeReading
from tests.adapters.containers import container, docker, host

DEADLINE_S = 30.0
CLOCK = SystemClock()


def state(**probe: Any) -> ProbeState:
    return ProbeState("risk", ProbeConfig(**{"healthcheck": True, **probe}), 1.0)


def test_failures_are_counted_in_a_row_and_only_what_matters_is_news() -> None:
    probe = state(failures=2)
    assert probe.reading.is_well is None
    assert probe.failed(2.0, "HTTP 503")
    assert (probe.reading.failures, probe.reading.is_failing) == (1, False)
    assert probe.failed(3.0, "HTTP 503")
    assert probe.reading.is_failing
    assert not probe.failed(4.0, "HTTP 500")
    assert (probe.reading.failures, probe.reading.since, probe.reading.at) == (3, 2.0, 4.0)
    assert probe.well(5.0)
    assert (probe.reading.failures, probe.reading.detail) == (0, "")
    assert not probe.well(6.0)
    assert probe.failed(7.0, "x")
    assert probe.reading.failures == 1


def test_where_nobody_could_look_the_last_word_grows_old() -> None:
    probe = state()
    probe.well(2.0)
    assert not probe.blind("Docker did not answer")
    assert (probe.reading.is_well, probe.reading.at) == (True, 2.0)
    assert probe.reading.detail == "Docker did not answer"


def test_what_a_stranger_prints_is_one_short_printable_line() -> None:
    probe = state()
    probe.failed(1.0, "\x1b[2J" + "a\n" * 5000)
    assert len(probe.reading.detail) <= 120
    assert probe.reading.detail.isprintable()


# --- what Docker says ---

RUNNING: dict[str, Any] = {"State": {"Running": True, "Status": "running"}}


@pytest.mark.parametrize(
    ("raw", "look"),
    [
        (RUNNING, Look(at=1.0, is_running=True)),
        ({}, Look(at=1.0, is_running=False)),
        ({"State": {"Running": True, "Restarting": True}}, Look(at=1.0, is_running=False)),
        (
            {
                "State": {
                    "Running": True,
                    "Health": {
                        "Status": "unhealthy",
                        "FailingStreak": 4,
                        "Log": [{"Output": "old"}, {"Output": "refused"}],
                    },
                },
                "NetworkSettings": {
                    "Networks": {"a": {"IPAddress": ""}, "b": {"IPAddress": "172.17.0.2"}}
                },
            },
            Look(
                at=1.0,
                is_running=True,
                health="unhealthy",
                streak=4,
                said="refused",
                address="172.17.0.2",
            ),
        ),
        (
            {"State": {"Running": True}, "HostConfig": {"NetworkMode": "host"}},
            Look(at=1.0, is_running=True, address="127.0.0.1"),
        ),
        (
            {
                "State": {
                    "Running": True,
                    "Health": {"Status": "none", "FailingStreak": True, "Log": 7},
                }
            },
            Look(at=1.0, is_running=True),
        ),
        (
            {
                "State": {"Running": True, "Health": {"Log": ["x"]}},
                "NetworkSettings": {"Networks": [1]},
            },
            Look(at=1.0, is_running=True),
        ),
    ],
)
def test_a_look_at_a_container(raw: dict[str, Any], look: Look) -> None:
    assert look_of(raw, 1.0) == look


# --- over HTTP ---


class Site:
    """Answers with one status."""

    def __init__(self) -> None:
        self.head = b"HTTP/1.1 204 No Content"
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                side, _ = self._listener.accept()
            except OSError:
                return
            with side, contextlib.suppress(OSError):
                self.asked.append(side.recv(4096).partition(b"\r\n")[0])
                if self.head:
                    side.sendall(self.head + b"\r\n\r\n")
                else:
                    side.recv(1)  # until the other side gives up

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@contextlib.contextmanager
def probing(door: DockerDoor | None = None, **probe: Any) -> Iterator[ServiceWatch]:
    settings = {"every_s": 0.2, "timeout_s": 0.2, **probe}
    watch = ServiceWatch([ServiceConfig(name="risk", probe=ProbeConfig(**settings))], CLOCK, door)
    try:
        yield watch
    finally:
        watch.close()


def until(watch: ServiceWatch, holds: Callable[[ProbeReading], bool]) -> ProbeReading:
    give_up_at = CLOCK.now() + DEADLINE_S
    while CLOCK.now() < give_up_at:
        (reading,) = watch.probes(CLOCK.now())
        if holds(reading):
            return reading
        select.select(watch.filenos(), [], [], 0.05)
        watch.states(CLOCK.now())
    raise AssertionError(f"never came: {reading}")


def test_a_page_that_answers_is_well_and_one_that_does_not_says_why(site: Site) -> None:
    with probing(http=f"http://127.0.0.1:{site.port}/healthz?full=1") as watch:
        watch.watch({TenantId("docker:x"): "risk"})
        well = until(watch, lambda r: r.is_well is True)
        assert (well.tenant, well.limit, well.every_s) == ("docker:x", 3, 0.2)
        assert site.asked[0] == b"GET /healthz?full=1 HTTP/1.0"
        site.head = b"HTTP/1.1 503 Service Unavailable"
        assert until(watch, lambda r: r.is_failing).detail == "HTTP 503"
        site.head = b"HTTP/1.1 301 Moved Permanently"
        until(watch, lambda r: r.is_well is True)
        site.head = b""
        assert until(watch, lambda r: r.is_failing).detail == "no answer within 0.2 s"
        site.close()
        assert until(watch, lambda r: "refused" in r.detail.lower()).is_failing
        assert list(watch.states(CLOCK.now())) == [], "it has no objective"


@pytest.mark.parametrize("head", [b"\x00\xff", b"HTTP/1.1 99 x", b"HTTP/1.1 2000 x", b"SSH-2.0-x"])
def test_what_is_no_answer_is_a_failure(site: Site, head: bytes) -> None:
    site.head = head
    with probing(http=f"http://127.0.0.1:{site.port}/") as watch:
        until(watch, lambda r: r.failures >= 2)


def test_a_container_nobody_has_seen_is_not_asked_and_nothing_is_said() -> None:
    with probing(port=1) as watch:
        (reading,) = watch.probes(CLOCK.now())
        assert (reading.is_well, reading.at) == (None, None)


# --- real Docker ---


@pytest.fixture
def door() -> Iterator[DockerDoor]:
    made = DockerDoor(host(), 5.0, CLOCK)
    yield made
    made.close()


@pytest.mark.docker
def test_dockers_healthcheck_through_a_sickness_a_restart_and_a_stop(door: DockerDoor) -> None:
    options = (
        *("--tmpfs=/run", "--health-cmd=test ! -e /run/sick", "--health-interval=1s"),
        *("--health-retries=2", "--health-timeout=5s"),
    )
    with container(*options) as made, probing(door, healthcheck=True) as watch:
        watch.watch({TenantId(f"docker:{made}"): "risk"})
        until(watch, lambda r: r.is_well is True)
        docker("exec", made, "touch", "/run/sick")
        assert until(watch, lambda r: r.is_failing or r.failures >= 3).is_well is False
        watch.watch({})  # it holds no GPU memory any more
        docker("restart", "--time=0", made)
        until(watch, lambda r: r.is_well is True)
        docker("stop", "--time=0", made)
        assert until(watch, lambda r: r.is_failing).detail == "its container does not run"


@pytest.mark.docker
def test_one_without_a_healthcheck_says_nothing(door: DockerDoor) -> None:
    with container() as made, probing(door, healthcheck=True) as watch:
        watch.watch({TenantId(f"docker:{made}"): "risk"})
        reading = until(watch, lambda r: r.at is not None)
        assert (reading.is_well, reading.detail) == (None, "it has no HEALTHCHECK")
