"""Seeded mistakes in the policy, each of which must turn the suite red: `scripts/mutants`."""

from __future__ import annotations

import argparse
import sys

from tests.mutants.catalogue import MUTANTS
from tests.mutants.run import SUITES, try_mutant


def main() -> int:
    """0: every mutant was caught; 1: one survived."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument(
        "--tenth", type=int, metavar="SEED", help="two of them, rotating by the seed"
    )
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if asked.only in m.name]
    if asked.tenth is not None:
        chosen = [MUTANTS[(2 * asked.tenth + n) % len(MUTANTS)] for n in range(2)]
    out = sys.stdout.write
    out(f"{'mistake':45} {' '.join(f'{s:9}' for s in SUITES)}\n")
    survivors = []
    for mutant in chosen:
        verdict = try_mutant(mutant, all_of_them=True)
        cells = " ".join(f"{'red' if s in verdict.red else 'green':9}" for s in SUITES)
        out(f"{mutant.name:45} {cells}{'' if verdict.is_caught else '  SURVIVED'}\n")
        sys.stdout.flush()
        if not verdict.is_caught:
            survivors.append(mutant.name)
    out(f"{len(chosen) - len(survivors)} of {len(chosen)} caught\n")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
