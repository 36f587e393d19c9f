"""The node's side of judging services: sketches, the client, a service's page, and how soon red is said."""

from __future__ import annotations

import argparse
import contextlib
import http.server
import random
import select
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from gpuwarden.adapters.scrape import Scrape
from gpuwarden.adapters.service_page import PageReader
from gpuwarden.adapters.services import ServiceWatch
from gpuwarden.adapters.window_desk import NodeWindowDesk
from gpuwarden.adapters.window_spool import WindowSpool
from gpuwarden.client import Client
from gpuwarden.clock import SystemClock
from gpuwarden.config_guardrails import pack
from gpuwarden.config_services import ServiceConfig
from gpuwarden.errors import Unavailable
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.window import merge
from gpuwarden.model.evaluation import Cohort, Colour, Window
from gpuwarden.model.service import Fitness
from gpuwarden.model.snapshot import Health
from gpuwarden.model.status import View
from gpuwarden.wire.convert_window import of_window, to_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

PAGE = Path(__file__).parents[2] / "tests" / "data" / "pages" / "vllm.prom"
NODES, SKETCHES, VALUES = 1000, 20, 300

BOUNDS = {
    "sketch_merge_s": 1.0,
    "observe_us": 5.0,
    "observe_dead_us": 5.0,
    "page_ms": 2.0,
    "red_s": 1.0,
}
LEAST: dict[str, float] = {}
ROWS = (
    ("sketch_merge_s", "1,000 nodes x 20 sketches merged, CPU s"),
    ("sketch_read_s", "before that, read from the wire, CPU s"),
    ("observe_us", "observe(), median, us"),
    ("observe_dead_us", "the same with a full buffer and no agent, us"),
    ("page_ms", "a vLLM page asked for and read, the agent's CPU, median, ms"),
    ("page_read_ms", "of that the reading, ms"),
    ("red_s", "from the first red sample to the verdict, on its way to the aggregator, s"),
)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    return {**_merge(options.seed), **_observe(), **_page(), **_red()}


def _merge(seed: int) -> dict[str, float]:
    chance = random.Random(seed)
    kinds = []
    for _ in range(50):  # each of them stands for twenty nodes: drawing all takes a minute
        series = {
            f"feature.f{number}": sketches.of(chance.lognormvariate(0, 0.6) for _ in range(VALUES))
            for number in range(SKETCHES)
        }
        window = Window(cohort=Cohort(service="s"), begin_wall=0.0, length_s=10.0, sketches=series)
        kinds.append(to_window(window).SerializeToString())
    payloads = [kinds[number % len(kinds)] for number in range(NODES)]
    reads, merges = [], []
    for _ in range(3):
        begun = time.thread_time()
        windows = [of_window(pb.ServiceWindow.FromString(payload)) for payload in payloads]
        read = time.thread_time()
        merged = merge(windows)
        ended = time.thread_time()
        assert merged is not None
        assert sketches.count(merged.sketches["feature.f0"]) == NODES * VALUES
        reads.append(read - begun)
        merges.append(ended - read)
    return {
        "sketch_merge_s": statistics.median(merges),
        "sketch_read_s": statistics.median(reads),
    }


def _observe() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, capacity, rounds in (("observe_us", 10**6, 500), ("observe_dead_us", 100, 500)):
            client = Client(f"{folder}/nobody", capacity=capacity)
            each = []
            for _ in range(rounds):
                begun = time.perf_counter_ns()
                for _ in range(200):
                    client.observe(latency=0.12, ok=True, segment="old", prediction_id="r-1")
                each.append((time.perf_counter_ns() - begun) / 200 / 1000)
            client.close()
            found[name] = statistics.median(each)
        return found


class _Server:
    """A page on loopback; ``page`` may be changed."""

    def __init__(self, page: bytes) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.answer()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # who asked has gone
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._page = page
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/metrics"

    def answer(self) -> bytes:
        return self._page

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _page() -> dict[str, float]:
    text = PAGE.read_text()
    server, reader = _Server(text.encode()), PageReader()
    whole, alone = [], []
    for _ in range(200):
        begun = time.thread_time()
        scrape = Scrape(server.url, time.monotonic() + 5)
        page = None
        while page is None:
            wants = ([], [scrape.socket]) if scrape.wants_write else ([scrape.socket], [])
            select.select(*wants, [], 5.0)
            page = scrape.step()
        got = time.thread_time()
        scrape.close()
        reading = reader.read(page, 0.0)
        ended = time.thread_time()
        assert reading.counts["requests"] == 1000
        whole.append((ended - begun) * 1000)
        alone.append((ended - got) * 1000)
    server.close()
    return {"page_ms": statistics.median(whole), "page_read_ms": statistics.median(alone)}


class _Slowing(_Server):
    """A service that finishes 200 requests a second, in 0.1 s, and from ``slow_at`` on in 2 s."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.slow_at: float | None = None
        self.red_at: float | None = None
        super().__init__(b"")

    def answer(self) -> bytes:
        now = time.monotonic()
        fast = int((min(now, self.slow_at or now) - self.begun) * 200)
        slow = 0 if self.slow_at is None else int((now - self.slow_at) * 200)
        if slow and self.red_at is None:
            self.red_at = now
        name = "http_request_duration_seconds_bucket"
        return (
            f'{name}{{le="0.1"}} {fast}\n{name}{{le="0.5"}} {fast}\n{name}{{le="5"}} {fast + slow}\n'
            f'{name}{{le="+Inf"}} {fast + slow}\nhttp_requests_in_flight 10\n'
        ).encode()


class _NoPicture:
    def view(self) -> View:
        raise Unavailable("none")

    def fitness(self, name: str, now: float) -> Fitness | None:
        return None

    def wait_newer(self, serial: int, timeout_s: float) -> View | None:
        return None


def _red() -> dict[str, float]:
    """The whole way at default settings: the page that first shows slow requests, the judge's dwell of half a
    second, the verdict in the spool of what goes to the aggregator."""
    clock, server = SystemClock(), _Slowing()
    watch = ServiceWatch([ServiceConfig(name="s", url=server.url)], clock)
    spool = WindowSpool(clock.wall())
    desk = NodeWindowDesk(_NoPicture(), spool, clock, pack(()), frozenset({"s"}))
    watch.tell(desk)
    desk.start()
    times = []
    for _ in range(3):
        server.begun, server.slow_at, server.red_at = time.monotonic(), None, None
        _until(
            lambda: (
                watch.states(clock.now())[0].health is Health.GREEN
                and any(v.colour is Colour.GREEN for v in spool.standing())
                and not any(v.colour is Colour.RED for v in spool.standing())
            )
        )
        server.slow_at = time.monotonic()
        _until(lambda: any(v.colour is Colour.RED for v in spool.standing()))
        times.append(time.monotonic() - (server.red_at or 0.0))
    watch.close()
    desk.close()
    server.close()
    return {"red_s": statistics.median(times)}


def _until(holds: Any) -> None:
    end = time.monotonic() + 30.0
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("it never became so")
        time.sleep(0.005)
