"""Latency from a service's own Prometheus page: buckets now, and a percentile of what came between."""

from collections.abc import Mapping
from dataclasses import dataclass

IN_FLIGHT_NAMES = ("in_flight", "inprogress", "requests_running", "queue_size")


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
    """The reading of a page; ``None`` when the histogram is not on it. ValueError: not a page."""
    # Imported here: a node without objectives should not carry it (19 modules, 1.5 MiB).
    from prometheus_client.parser import text_string_to_metric_families

    sums: dict[float, float] = {}
    in_flight: float | None = None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{histogram}_bucket" and "le" in sample.labels:
                bound = float(sample.labels["le"])
                sums[bound] = sums.get(bound, 0.0) + sample.value
            elif sample.name.endswith(IN_FLIGHT_NAMES):
                in_flight = (in_flight or 0.0) + sample.value
    if not sums:
        return None
    return Reading(at=at, buckets=tuple(sorted(sums.items())), in_flight=in_flight)


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
