"""A service's latency comes from the device: contention and lock-ups show in its histogram."""

from __future__ import annotations

import re
import socket
import urllib.request

import pytest

from gpuwarden.sim.host import SimHost, Workload
from tests.sim.sight import GIB, until

BUCKET = re.compile(r'http_request_duration_seconds_bucket\{le="([^"]+)"\} (\d+)')


def _page(service: Workload) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=10) as page:
        return str(page.read().decode())


def _buckets(service: Workload) -> dict[float, int]:
    return {float(bound): int(count) for bound, count in BUCKET.findall(_page(service))}


def _value(service: Workload, series: str) -> float:
    (line,) = [line for line in _page(service).splitlines() if line.startswith(series + " ")]
    return float(line.split()[-1])


def _slow_share(before: dict[float, int], after: dict[float, int], bound: float) -> float:
    """Of the requests in between, the share above ``bound``."""
    top = float("inf")
    total = after[top] - before[top]
    return 1 - (after[bound] - before[bound]) / total if total else 0.0


def _more(service: Workload, count: int) -> tuple[dict[float, int], dict[float, int]]:
    """The histogram now, and when so many more requests have been counted."""
    before = _buckets(service)
    found = [before]
    top = float("inf")

    def enough() -> bool:
        found[0] = _buckets(service)
        return found[0][top] >= before[top] + count

    assert until(enough, timeout_s=30)
    return before, found[0]


@pytest.fixture
def service(host: SimHost) -> Workload:
    return host.start_workload("serve", "--size", "2GiB", "--seed", "7")


def test_alone_it_meets_its_objective(service: Workload) -> None:
    before, after = _more(service, 40)
    assert _slow_share(before, after, 0.2) == 0.0
    assert _slow_share(before, after, 0.025) == 1.0  # and it does take time
    assert _value(service, "inference_slo_seconds") == 0.3


def test_contention_makes_it_slower(host: SimHost, service: Workload) -> None:
    _, alone = _more(service, 40)
    host.start_workload("hog", "--size", "1GiB", "--start-size", "1GiB", "--load", "4000")
    _more(service, 60)  # until the slow ones are what completes
    before, after = _more(service, 40)
    assert alone[float("inf")] >= 40
    assert _slow_share(before, after, 0.2) > 0.9


def test_nothing_completes_while_locked_up_and_ages_count(host: SimHost, service: Workload) -> None:
    _more(service, 20)
    offender = host.start_workload("hold", "--size", "1GiB")
    host.control("lock_up", device=0, pid=offender.pid)
    frozen = _buckets(service)
    assert until(lambda: _value(service, "http_request_oldest_seconds") > 1.0)
    assert _buckets(service) == frozen
    assert _value(service, "http_requests_in_flight") > 30
    offender.kill()
    assert not host.control("info")["devices"][0]["locked_up"]
    _, after = _more(service, 60)
    assert after[float("inf")] - after[0.75] > 10  # those that waited say how long
    _more(service, 150)
    assert until(lambda: _value(service, "http_requests_in_flight") < 15)
    before, last = _more(service, 40)
    assert _slow_share(before, last, 0.3) < 0.1


def test_a_persistent_lock_up_needs_a_reset(host: SimHost, service: Workload) -> None:
    hog = host.start_workload(
        "hog", "--size", "4GiB", "--rate", "16GiB/s", "--lock-up-at", "2GiB", "--persistent"
    )
    assert until(lambda: bool(host.control("info")["devices"][0]["locked_up"]))
    device = host.control("info")["devices"][0]
    assert (device["offender"], device["recovery_action"]) == (hog.pid, 1)
    hog.kill()
    assert host.bytes_of(hog.pid) == 0
    assert host.control("info")["devices"][0]["locked_up"]
    service.kill()
    host.control("reset", device=0)
    assert not host.control("info")["devices"][0]["locked_up"]


def test_requests_time_out_and_the_load_is_bounded(host: SimHost) -> None:
    service = host.start_workload(
        *("serve", "--size", "1GiB", "--demand", "20"),
        *("--timeout-ms", "300", "--interval-ms", "5"),
    )
    host.control("lock_up", device=0)
    assert until(lambda: _value(service, 'http_requests_total{code="503"}') > 0)
    assert _value(service, 'http_requests_total{code="504"}') > 50
    assert _value(service, "http_requests_in_flight") <= 120
    host.control("unlock", device=0)
    ok = 'http_requests_total{code="200"}'
    before = _value(service, ok)
    assert until(lambda: _value(service, ok) > before + 20)


def test_a_clients_request_is_work_too(service: Workload) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/infer", timeout=10) as answer:
        assert b'{"seconds":0.' in answer.read()


@pytest.mark.parametrize(
    ("request_bytes", "start"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", b"HTTP/1.1 404"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200"),
        (b"x" * 5000, b"HTTP/1.1 431"),
        (b"\0\r\n\r\n", b"HTTP/1.1 404"),
    ],
)
def test_any_bytes_get_an_answer(service: Workload, request_bytes: bytes, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port or 0), timeout=10) as connection:
        connection.sendall(request_bytes)
        assert connection.recv(4096).startswith(start)
    assert _value(service, "http_requests_in_flight") >= 0


def test_utilisation_power_and_clocks_follow_the_load(host: SimHost) -> None:
    idle = host.control("info")["devices"][0]
    host.start_workload("hold", "--size", "1GiB", "--load", "1000")

    def busy() -> bool:
        device = host.control("info")["devices"][0]
        return bool(
            device["gpu_util"] >= 95
            and device["power_mw"] > 4 * idle["power_mw"]
            and device["sm_clock"] > idle["sm_clock"]
            and device["temp_c"] > idle["temp_c"] + 3
        )

    assert until(busy, timeout_s=20)
    assert host.control("info")["devices"][1]["gpu_util"] == 0
    assert host.control("info")["devices"][0]["used"] == GIB
