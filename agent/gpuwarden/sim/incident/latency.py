"""The service's latency as its callers see it: its own histogram, read by the observer."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

EVERY_S = 0.05
WINDOW_S = 0.5
HOLD_S = 1.0
"""Green counts once it has lasted this long."""
MAY_EXCEED = 0.01  # of a window's requests: the limit is on the 99th percentile
MIN_REQUESTS = 5
TIMEOUT_S = 1.0
KEEP = 20_000

# http_request_duration_seconds_bucket{le="0.3"} 119
_BUCKET = re.compile(r'http_request_duration_seconds_bucket\{le="([^"]+)"\} (\d+)')
_OLDEST = re.compile(r"^http_request_oldest_seconds ([0-9.e+-]+)$", re.MULTILINE)
_START = re.compile(r"^process_start_time_seconds (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at the page. ``within`` and ``total`` count finished requests since the start."""

    at: float
    within: int
    total: int
    oldest_s: float
    start: int


def parse(page: str, limit_s: float, at: float) -> Sample | None:
    """A look, or ``None`` when the page has no such histogram."""
    buckets = {bound: int(count) for bound, count in _BUCKET.findall(page)}
    oldest = _OLDEST.search(page)
    start = _START.search(page)
    key = f"{limit_s:g}"
    if key not in buckets or "+Inf" not in buckets or oldest is None or start is None:
        return None
    return Sample(
        at=at,
        within=buckets[key],
        total=buckets["+Inf"],
        oldest_s=float(oldest[1]),
        start=int(start[1]),
    )


def is_green(samples: Sequence[Sample], index: int, limit_s: float) -> bool | None:
    """Whether the window that ends with a sample holds the objective; ``None``: too few requests to
    say. A request that has waited longer than the limit is red before it has finished."""
    last = samples[index]
    if last.oldest_s > limit_s:
        return False
    first = index
    while first > 0 and last.at - samples[first - 1].at <= WINDOW_S:
        first -= 1
    if first == index and index > 0:
        first -= 1  # a host so slow that two looks are further apart: then that is the window
    before = samples[first]
    if before.start != last.start or last.at - before.at < WINDOW_S / 2:
        return None
    done = last.total - before.total
    if done < MIN_REQUESTS:
        return None
    return (done - (last.within - before.within)) <= MAY_EXCEED * done


def red_spans(samples: Sequence[Sample], limit_s: float) -> list[tuple[float, float | None]]:
    """When the objective was missed, from the first red look to the first green one that lasted
    ``HOLD_S``; an open end is ``None``."""
    spans: list[tuple[float, float | None]] = []
    red_since: float | None = None
    green_since: float | None = None
    for index, sample in enumerate(samples):
        green = is_green(samples, index, limit_s)
        if green is False:
            red_since = sample.at if red_since is None else red_since
            green_since = None
        elif green and red_since is not None:
            green_since = sample.at if green_since is None else green_since
            if sample.at - green_since >= HOLD_S:
                spans.append((red_since, green_since))
                red_since = green_since = None
    if red_since is not None:
        spans.append((red_since, None))
    return spans


class LatencyWatch:
    """A thread that reads the page every ``EVERY_S``."""

    def __init__(self, port: int, limit_s: float) -> None:
        self._port = port
        self._limit_s = limit_s
        self._samples: list[Sample] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="latency", daemon=True)
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_S)

    def samples(self) -> list[Sample]:
        with self._lock:
            return list(self._samples)

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            sample = self._look()
            if sample is None:
                self.failures += 1
                continue
            with self._lock:
                if len(self._samples) < KEEP:
                    self._samples.append(sample)

    def _look(self) -> Sample | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            page = connection.getresponse().read(1 << 20).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return parse(page, self._limit_s, time.monotonic())
