"""Quarters of an hour of whole services, from the picture: on the services' thread."""

from collections import Counter
from collections.abc import Mapping, Sequence

from gpuwarden.aggregator.picture import FINE_S, Picture
from gpuwarden.evaluate.fast import histogram as histograms
from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.window import merge
from gpuwarden.model.anomaly import SLOT_S
from gpuwarden.model.evaluation import Cohort, Window

SETTLE_S = FINE_S + 60.0
"""So long after its end a quarter is taken for whole: what a node that was away for less has to tell is there."""
REQUESTS_MIN = 50
"""Of a quarter: fewer say nothing of errors and of percentiles."""
COHORTS_AT_ONCE = 64
"""After a start a day of each may have to be read."""
NAMES = frozenset({"requests", "errors", "latency_s", "gpu_utilization", "queue_length"})
Told = dict[int, dict[str, float | None]]
"""By the number (since 1970) of a slot, each series."""


def newest_slot(wall: float) -> int:
    """The newest that is whole."""
    return int((wall - SETTLE_S) // SLOT_S) - 1


def services_of(picture: Picture) -> dict[str, int]:
    """By name, how many versions, arms and segments are told of it."""
    return dict(sorted(Counter(cohort.service for cohort in picture.cohorts()).items()))


def jobs(since: Mapping[str, int], cohorts: Mapping[str, int]) -> list[dict[str, int]]:
    """The same services in parts that are short work: red lines wait for it."""
    found: list[dict[str, int]] = []
    many = COHORTS_AT_ONCE
    for service, slot in since.items():
        size = cohorts.get(service, 0)
        if many + size > COHORTS_AT_ONCE or not found:
            found.append({})
            many = 0
        found[-1][service] = slot
        many += size
    return found


def gathered(picture: Picture, since: Mapping[str, int], wall: float) -> dict[str, Told]:
    """By service, its whole slots from number ``since`` on."""
    cohorts: dict[str, list[Cohort]] = {service: [] for service in since}
    for cohort in sorted(picture.cohorts()):
        if cohort.service in cohorts:
            cohorts[cohort.service].append(cohort)
    return {
        service: quarters(picture.over(parts, since[service] * SLOT_S, NAMES), newest_slot(wall))
        for service, parts in cohorts.items()
    }


def quarters(windows: Sequence[Window], newest: int) -> Told:
    """What windows that begin in a slot say together."""
    slots: dict[int, list[Window]] = {}
    for window in windows:
        slot = int(window.begin_wall // SLOT_S)
        if slot <= newest:
            slots.setdefault(slot, []).append(window)
    found: Told = {}
    for slot, each in sorted(slots.items()):
        whole = merge(each)
        if whole is not None:
            found[slot] = numbers(whole)
    return found


def numbers(whole: Window) -> dict[str, float | None]:
    """The series of one slot; None: not told, or of too few requests."""
    requests, errors = whole.counts.get("requests"), whole.counts.get("errors")
    is_enough = requests is not None and requests >= REQUESTS_MIN
    ratio = None
    if requests is not None and errors is not None and is_enough:
        ratio = min(1.0, max(0.0, errors / requests))
    p50, p95 = (_quantile(whole, share) for share in (0.5, 0.95))
    return {
        "requests_per_s": None if requests is None else requests / SLOT_S,
        "error_ratio": ratio,
        "latency_p50_s": p50,
        "latency_p95_s": p95,
        "gpu_utilization": _mean(whole, "gpu_utilization"),
        "queue_length": _mean(whole, "queue_length"),
    }


def _quantile(whole: Window, share: float) -> float | None:
    """Where a service tells it in both ways, the one that has more values: they are the same requests."""
    sketch, histogram = whole.sketches.get("latency_s"), whole.histograms.get("latency_s")
    of_sketch = 0.0 if sketch is None else float(sketches.count(sketch))
    of_histogram = 0.0 if histogram is None else histograms.count(histogram)
    if max(of_sketch, of_histogram) < REQUESTS_MIN:
        return None
    if sketch is not None and of_sketch >= of_histogram:
        return sketches.quantile(sketch, share)
    return None if histogram is None else histograms.quantile(histogram, share)


def _mean(whole: Window, name: str) -> float | None:
    level = whole.levels.get(name)
    return None if level is None or not level.count else level.total / level.count
