"""River's stream detectors behind one function, with the version that an alarm must name.

Alarms of one detector on one stream have changed between versions of river (its own suite has expected
1055, then 1023 for ADWIN on one seed), so the version is pinned in pyproject.toml, and whoever
records an alarm records ``VERSION`` with it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from river import drift
from river.__version__ import __version__
from river.drift import binary

from gpuwarden.evaluate.drift.kswin import Kswin

VERSION = f"river {__version__}"


def _adwin(p: Mapping[str, Any]) -> Any:
    return drift.ADWIN(
        delta=p["delta"],
        clock=p["clock"],
        max_buckets=p["max_buckets"],
        min_window_length=p["min_window_length"],
        grace_period=p["grace_period"],
    )


def _kswin(p: Mapping[str, Any]) -> Any:
    return Kswin(
        alpha=p["alpha"], window_size=p["window_size"], stat_size=p["stat_size"], seed=p["seed"]
    )


def _page_hinkley(p: Mapping[str, Any]) -> Any:
    return drift.PageHinkley(
        min_instances=p["min_instances"],
        delta=p["delta"],
        threshold=p["threshold"],
        alpha=p["alpha"],
        mode=p["mode"],
    )


def _ddm(p: Mapping[str, Any]) -> Any:
    return binary.DDM(
        warm_start=p["warm_start"],
        warning_threshold=p["warning_threshold"],
        drift_threshold=p["drift_threshold"],
    )


def _eddm(p: Mapping[str, Any]) -> Any:
    return binary.EDDM(warm_start=p["warm_start"], alpha=p["alpha"], beta=p["beta"])


def _fhddm(p: Mapping[str, Any]) -> Any:
    return binary.FHDDM(
        sliding_window_size=p["sliding_window_size"],
        confidence_level=p["confidence_level"],
        short_window_size=p["short_window_size"],
    )


def _hddm_a(p: Mapping[str, Any]) -> Any:
    return binary.HDDMA(
        drift_confidence=p["drift_confidence"],
        warning_confidence=p["warning_confidence"],
        two_sided_test=p["two_sided_test"],
    )


def _hddm_w(p: Mapping[str, Any]) -> Any:
    return binary.HDDMW(
        drift_confidence=p["drift_confidence"],
        warning_confidence=p["warning_confidence"],
        lambda_val=p["lambda"],
        two_sided_test=p["two_sided_test"],
    )


DETECTORS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "adwin": _adwin,
    "ddm": _ddm,
    "eddm": _eddm,
    "fhddm": _fhddm,
    "hddm_a": _hddm_a,
    "hddm_w": _hddm_w,
    "kswin": _kswin,
    "page_hinkley": _page_hinkley,
}
"""Name -> a new detector from its settings; errors are told to DDM, EDDM and HDDM as 1.

FHDDM of river 0.26.1 is told them as 1 by its documentation, but alarms only when ones become rarer: it
finds no rise of errors. Feed it successes, or leave it out of a vote.
"""
ERRORS_ONLY = frozenset({"ddm", "eddm", "fhddm"})
"""Those that take nothing but 0 and 1."""

BOUNDS: Mapping[str, tuple[float, float]] = {
    "clock": (1, 1e6),
    "max_buckets": (1, 1000),
    "min_window_length": (1, 1e7),
    "delta": (-1e300, 1e300),
    "sliding_window_size": (1, 1e6),
    "short_window_size": (1, 1e6),
    "confidence_level": (1e-300, 1),
    "drift_confidence": (1e-300, 1),
    "warning_confidence": (1e-300, 1),
    "lambda": (0, 1),
    "window_size": (2, 1e5),
    "seed": (0, 2**32 - 1),
}
"""What each setting may be; river itself checks few of them."""


def new(name: str, settings: Mapping[str, Any]) -> Any:
    """A detector in its first state: ``update(x)``, then ``drift_detected``.

    Raises ValueError for an unknown name, a missing setting, or one that river refuses.
    """
    if name not in DETECTORS:
        raise ValueError(f"no detector {name!r} (known: {', '.join(DETECTORS)})")
    try:
        return DETECTORS[name](settings)
    except KeyError as error:
        raise ValueError(f"{name}: setting {error.args[0]!r} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from error


def check(name: str, settings: Mapping[str, Any]) -> None:
    """Settings that river would take and then hang, crash or fall silent on are a ValueError."""
    for key, (low, high) in BOUNDS.items():
        value = settings.get(key)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name}: {key}: expected {low:g} to {high:g}, got {value:g}")
    new(name, settings)


def alarms(name: str, values: Iterable[float], settings: Mapping[str, Any]) -> list[int]:
    """0-based indexes at which a new detector alarms; it starts afresh after each by itself.

    Nothing is done for a value but river's own update, so a batch costs what a plain loop costs.
    """
    detector = new(name, settings)
    update = detector.update
    found = []
    for index, x in enumerate(values):
        update(x)
        if detector.drift_detected:
            found.append(index)
    return found
