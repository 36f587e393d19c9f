"""Seeded mistakes in the policy, each of which must turn the suite red: `scripts/mutants`."""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.mutants.catalogue import MUTANTS, tenth
from tests.mutants.run import Verdict, try_mutant


def main() -> int:
    """0: every mutant was caught; 1: one survived, or the tree is red as it is."""
    asked = _arguments()
    chosen = [m for m in MUTANTS if asked.only in m.name]
    if asked.tenth is not None:
        chosen = tenth(asked.tenth)
    out = sys.stdout.write
    survivors: list[str] = []
    with ThreadPoolExecutor(max_workers=asked.jobs) as pool:
        # The tree as it is comes first: where a suite is red anyway, its red says nothing.
        verdicts = pool.map(
            lambda m: try_mutant(m, all_of_them=not asked.first), [None, *chosen], timeout=None
        )
        for verdict in verdicts:
            name = verdict.mutant.name if verdict.mutant else "no mistake"
            is_right = verdict.is_caught is (verdict.mutant is not None)
            out(f"{name}: {_told(verdict)}{'' if is_right else '  WRONG'}\n")
            for suite, killer in verdict.killers.items():
                out(f"    {suite:9} {killer}\n")
            sys.stdout.flush()
            if not is_right:
                survivors.append(name)
    caught = len(chosen) - len([s for s in survivors if s != "no mistake"])
    out(f"{caught} of {len(chosen)} caught\n")
    return 1 if survivors or not chosen else 0


def _told(verdict: Verdict) -> str:
    red = [s for s in verdict.asked if s in verdict.killers]
    green = [s for s in verdict.asked if s not in verdict.killers]
    words = [f"red: {', '.join(red)}" if red else "", f"green: {', '.join(green)}" if green else ""]
    return "; ".join(w for w in words if w)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument(
        "--tenth", type=int, metavar="SEED", help="a tenth of them, another one for each seed"
    )
    parser.add_argument("--first", action="store_true", help="stop at the first suite that notices")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
