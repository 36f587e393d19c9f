"""The known series of a service: their names, kinds and units, whoever tells them."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How windows of a series merge."""

    COUNT = "count"
    """Adds up."""
    LEVEL = "level"
    """Sum and number of readings add up; the lowest and the highest stay."""
    SPREAD = "spread"
    """A distribution: a sketch, or a histogram where the service has made one itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series."""

    name: str
    kind: Kind
    unit: str
    what: str


MISSING = "missing"
"""How often each input was not there: names of inputs, as a feature of names counts its own."""


def _count(name: str, what: str, unit: str = "1") -> Series:
    return Series(name=name, kind=Kind.COUNT, unit=unit, what=what)


def _level(name: str, what: str, unit: str = "1") -> Series:
    return Series(name=name, kind=Kind.LEVEL, unit=unit, what=what)


def _spread(name: str, what: str, unit: str) -> Series:
    return Series(name=name, kind=Kind.SPREAD, unit=unit, what=what)


KNOWN = {
    each.name: each
    for each in (
        _count("requests", "requests that ended, well or not"),
        _count("errors", "of them, those that failed"),
        _count("tokens", "tokens generated"),
        _count(
            "units",
            "units of an experiment (users) that its client saw, each once an hour and node",
        ),
        _count("predictions", "predictions told by the client"),
        _count("low_confidence", "of them, those below the service's own confidence threshold"),
        _count("labels", "true answers that have arrived for predictions"),
        _count("correct", "of them, those in which the prediction was right"),
        _count("true_positives", "label and prediction both positive"),
        _count("false_positives", "prediction positive, label negative"),
        _count("false_negatives", "prediction negative, label positive"),
        _count("fields", "input fields that should have been there"),
        _count("missing_fields", "of them, those that were not"),
        _count("complaints", "complaints of users"),
        _count("opt_outs", "users that left the service"),
        _count("restarts", "starts of the service's process after the first: crashes"),
        _count("cost", "what the requests cost", "currency"),
        _level("in_flight", "requests begun and not ended"),
        _level("queue_length", "requests that wait to begin"),
        _level("gpu_utilization", "of the devices the service holds bytes on", "ratio"),
        _level("gpu_throttled", "share of the time in which their clocks were held down", "ratio"),
        _level("cache_usage", "of the service's own cache, such as vLLM's KV cache", "ratio"),
        _spread("latency_s", "from a request's begin to its end", "s"),
        _spread("first_token_s", "from a request's begin to its first token", "s"),
        _spread("queue_s", "a request's wait before it begins", "s"),
        _spread("confidence", "of predictions", "ratio"),
        _spread("score", "given by people to predictions", "score"),
        _spread(MISSING, "input fields that were not there, by name", "1"),
    )
}
"""By name."""

FEATURE_PREFIX = "feature."
"""``feature.NAME`` is the distribution of an input the client tells; NAME is the service's own."""
CUSTOM_PREFIX = "custom."
"""``custom.NAME`` is a series that the configuration maps from the service's page."""
NAME_MAX_CHARS = 128


def kind_of(name: str) -> Kind | None:
    """Kind of a known series; None: decided by whoever tells it (``custom.``), or not known at all."""
    if name in KNOWN:
        return KNOWN[name].kind
    return Kind.SPREAD if name.startswith(FEATURE_PREFIX) else None
