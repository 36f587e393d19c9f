"""Many generated worlds on as many cores as there are: `scripts/worlds --count N --seed S`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from tests.properties.run import FEATURES, SHARE, SHARPER, Tally, run_batch

BATCH = 50


def main() -> int:
    """0: nothing wrong and everything covered; 1: not."""
    asked = _arguments()
    begun = time.monotonic()
    batches = [
        (first, min(BATCH, asked.seed + asked.count - first))
        for first in range(asked.seed, asked.seed + asked.count, BATCH)
    ]
    total = Tally()
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        for done, tally in enumerate(pool.imap_unordered(run_batch, batches), start=1):
            total.add(tally)
            for seed, texts in sorted(tally.wrong.items()):
                sys.stdout.write(f"WRONG world {seed}: {texts[0]}\n")
                sys.stdout.flush()
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{done * 100 // len(batches)} %")
    _report(total, time.monotonic() - begun)
    return 1 if total.wrong or total.missing() else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/worlds", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="worlds (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _report(total: Tally, seconds: float) -> None:
    out = sys.stdout.write
    out(f"{total.worlds} worlds in {seconds:.0f} s ({total.worlds / max(seconds, 1e-3):.0f}/s)\n")
    out(f"{'':22} worlds  at least\n")
    for feature in FEATURES:
        out(f"{feature:22} {total.coverage[feature]:6}  {total.worlds * SHARE:8.0f}\n")
    told = ", ".join(f"{feature} {total.coverage[feature]}" for feature in SHARPER)
    out(f"of these: {told}\n")
    harm = {
        k.removeprefix("did "): n for k, n in sorted(total.coverage.items()) if k.startswith("did ")
    }
    out(f"harm seen in worlds: {', '.join(f'{k} {n}' for k, n in harm.items())}\n")
    for text in total.missing():
        out(f"NOT COVERED {text}\n")
    out(f"wrong worlds: {len(total.wrong)}\n")


if __name__ == "__main__":
    sys.exit(main())
