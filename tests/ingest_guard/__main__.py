"""CPU of taking a report, in units of a loop of plain hashing on the same machine at the same time (case 53)."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.ingest_guard.work import NODES, Work

STORED_RATIO = 1.6
"""Taking 200 reports over hashing 4 MB in pieces of 2 KB."""
MORE = 1.25
ROUNDS, TRIES = 60, 3


def verdict(ratio: float, stored: float) -> bool:
    """Whether it is at most a quarter above what is stored."""
    return ratio <= stored * MORE


def hashed() -> float:
    """CPU seconds of this thread."""
    piece, begun = bytes(2048), time.thread_time()
    for _ in range(2000):
        hashlib.sha256(piece).digest()
    return time.thread_time() - begun


def measured(work: Work) -> float:
    """One beside the other, round by round: what slows the machine slows both."""
    work.take(work.messages())
    rounds = []
    for _ in range(ROUNDS):
        messages = work.messages()
        rounds.append(work.take(messages) / hashed())
    return statistics.median(rounds)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="gpuwarden-guard-") as folder:
        work = Work(Path(folder))
        ratios = []
        for _ in range(TRIES):
            ratios.append(round(measured(work), 3))
            if verdict(ratios[-1], STORED_RATIO):
                break
        work.close()
    is_well = verdict(ratios[-1], STORED_RATIO)
    found = {"reports": NODES, "ratios": ratios, "stored": STORED_RATIO, "is_well": is_well}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    raise SystemExit(main())
