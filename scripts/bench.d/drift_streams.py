"""Our stream detectors beside plain loops over river's: a batch, and one value at a time, by turns."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from river import drift
from river.drift import binary

from gpuwarden.evaluate.drift import stream
from gpuwarden.evaluate.drift.vote import DEFAULT, Vote, VoteSettings

VALUES = 20_000
KSWIN_ROUNDS = 3
"""River's takes 5 s a round."""
PEERS: Mapping[str, Callable[..., Any]] = {
    "adwin": drift.ADWIN,
    "ddm": binary.DDM,
    "eddm": binary.EDDM,
    "fhddm": binary.FHDDM,
    "hddm_a": binary.HDDMA,
    "hddm_w": binary.HDDMW,
    "kswin": drift.KSWIN,
    "page_hinkley": drift.PageHinkley,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "adwin": DEFAULT["adwin"],
    "ddm": {"warm_start": 30, "warning_threshold": 2.0, "drift_threshold": 3.0},
    "eddm": {"warm_start": 30, "alpha": 0.95, "beta": 0.9},
    "fhddm": {"sliding_window_size": 100, "confidence_level": 1e-6, "short_window_size": None},
    "hddm_a": DEFAULT["hddm_a"],
    "hddm_w": {"drift_confidence": 0.001, "warning_confidence": 0.005, "lambda": 0.05,
               "two_sided_test": False},
    "kswin": {"alpha": 0.005, "window_size": 100, "stat_size": 30, "seed": 1},
    "page_hinkley": DEFAULT["page_hinkley"],
}  # fmt: skip
NUMBERS = frozenset({"adwin", "kswin", "page_hinkley"})
"""Fed z-scores with a step in the middle; the others errors, whose rate doubles there."""
BOUNDS = {
    **{f"stream_{name}_batch": 1.3 for name in PEERS},
    **{f"stream_{name}_each_us": 0.5 for name in PEERS},
    "stream_vote_batch": 1.3,
    "stream_vote_each_us": 0.5,
    "stream_disagreements": 0,
}
LEAST: dict[str, float] = {}
ROWS = (
    *(
        row
        for name in (*PEERS, "vote")
        for row in (
            (f"stream_{name}_batch", f"{name}: a batch of {VALUES:,} values, times river's plain loop"),
            (f"stream_{name}_each_us", "  one value at a time, us above river's"),
            (f"stream_{name}_us", "  us a value of ours in a batch"),
            (f"stream_{name}_river_us", "  us a value of river's in a batch"),
        )
    ),
    ("stream_disagreements", "detectors whose alarms differ from river's"),
)  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians of rounds; in each, ours and river's take turns at going first."""
    r = np.random.default_rng(options.seed)
    numbers = np.concatenate([r.normal(size=VALUES // 2), r.normal(0.5, size=VALUES // 2)])
    errors = np.concatenate([r.random(VALUES // 2) < 0.1, r.random(VALUES // 2) < 0.2])
    results: dict[str, Any] = {"stream_disagreements": 0}
    for name in PEERS:
        values: list[Any] = numbers.tolist() if name in NUMBERS else [int(x) for x in errors]
        rounds = min(options.rounds, KSWIN_ROUNDS) if name == "kswin" else options.rounds
        results |= _beside(name, values, rounds)
        results["stream_disagreements"] += _plain(name, values) != stream.alarms(
            name, values, SETTINGS[name]
        )
    return results | _vote([float(x) for x in errors], options.rounds)


def _beside(name: str, values: Sequence[float], rounds: int) -> dict[str, float]:
    batch, each = [], []
    for turn in range(rounds):
        batch.append(
            _pair(
                lambda: stream.alarms(name, values, SETTINGS[name]),
                lambda: _plain(name, values),
                turn,
            )
        )
        ours, theirs = stream.new(name, SETTINGS[name]), _river(name)
        each.append(_pair(lambda a=ours: _one_by_one(a, values),
                          lambda b=theirs: _one_by_one(b, values), turn))  # fmt: skip
    return _told(name, batch, each)


def _told(
    name: str, batch: Sequence[tuple[float, float]], each: Sequence[tuple[float, float]]
) -> dict[str, float]:
    return {
        f"stream_{name}_batch": statistics.median(a / b for a, b in batch),
        f"stream_{name}_each_us": statistics.median(a - b for a, b in each) / VALUES * 1e6,
        f"stream_{name}_us": statistics.median(a for a, _ in batch) / VALUES * 1e6,
        f"stream_{name}_river_us": statistics.median(b for _, b in batch) / VALUES * 1e6,
    }


def _pair(ours: Callable[[], Any], theirs: Callable[[], Any], turn: int) -> tuple[float, float]:
    """CPU seconds of both, in this order or the other."""
    if turn % 2:
        last = _cpu_s(theirs)
        return _cpu_s(ours), last
    return _cpu_s(ours), _cpu_s(theirs)


def _cpu_s(work: Callable[[], Any]) -> float:
    gc.collect()
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def _river(name: str) -> Any:
    settings = dict(SETTINGS[name])
    if "lambda" in settings:
        settings["lambda_val"] = settings.pop("lambda")
    return PEERS[name](**settings)


def _plain(name: str, values: Sequence[float]) -> list[int]:
    """What river's documentation shows."""
    detector, found = _river(name), []
    for i, x in enumerate(values):
        detector.update(x)
        if detector.drift_detected:
            found.append(i)
    return found


def _one_by_one(detector: Any, values: Sequence[float]) -> int:
    """As values arrive: each is given and asked about."""
    found = 0
    for x in values:
        detector.update(x)
        found += detector.drift_detected
    return found


def _vote(values: Sequence[float], rounds: int) -> dict[str, float]:
    """The vote of three beside a loop over the same three of river that counts any of them."""
    mean, std = 0.1, 0.3

    def theirs() -> int:
        three = {name: _river(name) for name in DEFAULT}
        found = 0
        for x in values:
            z = (x - mean) / std
            for name, detector in three.items():
                detector.update(z if name == "page_hinkley" else x)
                found += detector.drift_detected
        return found

    def ours() -> int:
        vote = Vote(VoteSettings(), mean=mean, std=std)
        return sum(vote.update(x) is not None for x in values)

    pairs = [_pair(ours, theirs, turn) for turn in range(rounds)]
    return _told("vote", pairs, pairs)
