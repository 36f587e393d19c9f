"""Our statistics of two tables beside evidently's, by turns: the same single statistic, and all of them."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpuwarden.evaluate.drift import (
    divergence,
    feature,
    ks,
    profile,
    psi,
    sample_scores,
    wasserstein,
)
from gpuwarden.evaluate.inputs import Floats

FEATURES, ROWS_OF_EACH = 20, 10_000
ROUNDS_MAX = 7
START_S, ANSWER_S = 120.0, 120.0
FLOOR = 1e-4


def _ks(ref: Floats, cur: Floats) -> float:
    return ks.p_two_sample(ks.distance(ref, cur), ref.size, cur.size)


def _wasserstein(ref: Floats, cur: Floats) -> float:
    return wasserstein.normalised(wasserstein.wasserstein(ref, cur), ref) or 0.0


def _psi(ref: Floats, cur: Floats) -> float:
    return psi.from_samples(ref, cur, bins=profile.BINS, floor=FLOOR) or 0.0


def _js(ref: Floats, cur: Floats) -> float:
    inner = psi.edges(ref, profile.BINS)
    return divergence.jensen_shannon(psi.shares(ref, inner), psi.shares(cur, inner)) ** 0.5


STATISTICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "ks": _ks,
    "wasserstein": _wasserstein,
    "psi": _psi,
    "jensenshannon": _js,
}
"""Evidently's name: ours. PSI and JS on bins that the reference alone fixes, evidently's on pooled ones."""
SAME = ("ks", "wasserstein")
"""Those without bins: both must say the same number."""
BOUNDS = {"evidently_disagreement": 1e-6}
LEAST = {f"evidently_{name}_ratio": 20.0 for name in STATISTICS}
ROWS = (
    *(
        row
        for name in STATISTICS
        for row in (
            (f"evidently_{name}_ratio", f"{name} of {FEATURES} x {ROWS_OF_EACH:,}: times faster than evidently"),
            (f"evidently_{name}_ours_ms", "  ours, CPU ms"),
            (f"evidently_{name}_ms", "  evidently's, CPU ms"),
        )
    ),
    ("evidently_disagreement", "KS p and Wasserstein: largest relative difference from evidently's"),
    ("evidently_pack_ratio", "p and six distances of each feature, times faster than evidently's preset of one"),
    ("evidently_pack_ours_ms", "  ours, CPU ms (window counted on the profile's edges, scored)"),
    ("evidently_pack_profile_ms", "  ours before that, once: the reference's profiles, CPU ms"),
    ("evidently_pack_samples_ms", "  ours on two samples, pooled bins (sample_scores), CPU ms"),
    ("evidently_pack_ms", "  evidently's preset, CPU ms"),
)  # fmt: skip


class _Peer:
    """A process of evidently's own environment."""

    def __init__(self, python: str, table: Path) -> None:
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("drift_peer.py")), str(table)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": "", "OPENBLAS_NUM_THREADS": "1", "DO_NOT_TRACK": "1"},
        )  # fmt: skip
        self._line()

    def ask(self, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._line())
        return said

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"evidently ended with {self._process.wait(10)}")
        return line

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians of rounds; ours and evidently's by turns, each in CPU time of its own process."""
    r = np.random.default_rng(options.seed)
    both = r.normal(size=(2, ROWS_OF_EACH, FEATURES))
    both[1] += np.linspace(0.0, 0.2, FEATURES)
    if not options.peers:
        sys.exit("evidently: no --peers (scripts/bench makes it)")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.npy"
        np.save(table, both)
        peer = _Peer(options.peers, table)
        try:
            return _measured(both, peer, min(options.rounds, ROUNDS_MAX))
        finally:
            peer.close()


def _measured(both: Floats, peer: _Peer, rounds: int) -> dict[str, Any]:
    columns = [(both[0, :, n].copy(), both[1, :, n].copy()) for n in range(FEATURES)]
    results: dict[str, Any] = {"evidently_disagreement": 0.0}
    for name, ours in STATISTICS.items():
        peer.ask(name)  # imports what it imports at first use
        mine, theirs = [], []
        for _ in range(rounds):
            taken, values = _ms(lambda f=ours: [f(*each) for each in columns])
            mine.append(taken)
            said = peer.ask(name)
            theirs.append(said["ms"])
        results |= _ratio(name, mine, theirs)
        if name in SAME:
            results["evidently_disagreement"] = max(
                results["evidently_disagreement"], _apart(values, said["values"])
            )
    return results | _pack(columns, peer, rounds)


def _ratio(name: str, mine: list[float], theirs: list[float]) -> dict[str, float]:
    return {
        f"evidently_{name}_ratio": statistics.median(
            b / a for a, b in zip(mine, theirs, strict=True)
        ),
        f"evidently_{name}_ours_ms": statistics.median(mine),
        f"evidently_{name}_ms": statistics.median(theirs),
    }


def _apart(mine: list[float], theirs: Mapping[str, float]) -> float:
    """Relative; of p-values below 1e-6 it says nothing. Nothing to compare is infinitely far apart."""
    if len(theirs) != len(mine):
        return float("inf")
    pairs = [(each, theirs[f"f{n}"]) for n, each in enumerate(mine)]
    return max(abs(a - b) / max(abs(a), abs(b), 1e-6) for a, b in pairs)


def _pack(columns: list[tuple[Floats, Floats]], peer: _Peer, rounds: int) -> dict[str, float]:
    made, mine, samples, theirs = [], [], [], []
    for _ in range(rounds):
        taken, profiles = _ms(lambda: [profile.of_numbers(ref) for ref, _ in columns])
        made.append(taken)
        mine.append(_ms(lambda p=profiles: [
            feature.of_numbers(each, profile.numbers(each, cur))
            for each, (_, cur) in zip(p, columns, strict=True)
        ])[0])  # fmt: skip
        samples.append(_ms(lambda: [
            sample_scores.scores(ref, cur, zero_share_floor=FLOOR, distance_from=0.1, alpha=0.05)
            for ref, cur in columns
        ])[0])  # fmt: skip
        theirs.append(peer.ask("")["ms"])
    return {
        **_ratio("pack", mine, theirs),
        "evidently_pack_profile_ms": statistics.median(made),
        "evidently_pack_samples_ms": statistics.median(samples),
    }


def _ms(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    made = work()
    return (time.process_time() - begun) * 1000, made
