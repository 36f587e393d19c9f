"""Latency from a service's own Prometheus page: buckets now, and a percentile of what came between."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

IN_FLIGHT_NAMES = ("in_flight", "inprogress", "requests_running", "queue_size")
"""Ends of the names under which services tell how many requests they have begun and not finished."""
LINES_MAX = 2000
"""Of the histogram and the gauges above: a service with more label sets than that is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One scrape: cumulative counts by upper bound (seconds), summed over all label sets."""

    at: float
    buckets: tuple[tuple[float, float], ...]
    in_flight: float | None = None
    """Requests begun and not finished, where the service says."""

    @property
    def count(self) -> float:
        """Requests finished since the service started."""
        return self.buckets[-1][1] if self.buckets else 0.0


def parse(text: str, histogram: str, at: float) -> Reading | None:
    """The reading of a page; ``None`` when the histogram is not on it.

    The page is a stranger's: ValueError for whatever is no page, or holds what no count can be.
    """
    # Imported here: a node without objectives should not carry it (19 modules, 1.5 MiB).
    from prometheus_client.parser import text_string_to_metric_families

    wanted = "\n".join(_wanted(text, f"{histogram}_bucket"))
    sums: dict[float, float] = {}
    in_flight: float | None = None
    try:
        # The parser trips over hostile lines in many ways (IndexError, KeyError, ...).
        families = list(text_string_to_metric_families(f"{wanted}\n"))
    except Exception as error:
        raise ValueError(f"not a metrics page ({type(error).__name__})") from error
    for family in families:
        for sample in family.samples:
            if not math.isfinite(sample.value) or sample.value < 0:
                raise ValueError(f"{sample.name} is {sample.value}")
            if sample.name == f"{histogram}_bucket" and "le" in sample.labels:
                bound = float(sample.labels["le"])
                sums[bound] = sums.get(bound, 0.0) + sample.value
            elif sample.name.endswith(IN_FLIGHT_NAMES):
                in_flight = (in_flight or 0.0) + sample.value
    if not sums:
        return None
    if any(math.isnan(bound) for bound in sums):
        raise ValueError("a bucket without a bound")
    return Reading(at=at, buckets=tuple(sorted(sums.items())), in_flight=in_flight)


def _wanted(text: str, bucket: str) -> Iterator[str]:
    """The few lines that matter: parsing a whole page four times a second would cost percents."""
    found = 0
    for line in text.splitlines():
        # http_request_duration_seconds_bucket{le="0.05"} 1027
        # http_requests_in_flight 3
        name = line.partition("{")[0].partition(" ")[0]
        if name == bucket or (name.endswith(IN_FLIGHT_NAMES) and not name.startswith("#")):
            found += 1
            if found > LINES_MAX:
                raise ValueError(f"more than {LINES_MAX} lines of {bucket}")
            yield line


def percentile(before: Reading, after: Reading, share: float) -> float | None:
    """The ``share`` percentile (0..1) in seconds of what finished between two readings.

    Linear inside a bucket, as Prometheus' histogram_quantile; the last finite bound where it falls
    beyond it. ``None``: nothing finished, or the service restarted in between.
    """
    old: Mapping[float, float] = dict(before.buckets)
    deltas = [(bound, count - old.get(bound, 0.0)) for bound, count in after.buckets]
    total = deltas[-1][1] if deltas else 0.0
    if total <= 0 or any(delta < 0 for _, delta in deltas):
        return None
    rank = share * total
    low_bound, low_count = 0.0, 0.0
    for bound, count in deltas:
        if count >= rank:
            if bound == float("inf"):
                return low_bound
            inside = count - low_count
            part = (rank - low_count) / inside if inside > 0 else 1.0
            return low_bound + (bound - low_bound) * part
        low_bound, low_count = bound, count
    return low_bound
