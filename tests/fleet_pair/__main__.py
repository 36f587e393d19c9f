"""python -m tests.fleet_pair: two aggregators on one PostgreSQL, killed, paused and cut off under load."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.aggregator.databases import database
from tests.fleet_pair.run import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fleet-pair", description=__doc__)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty folder for logs and history")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuwarden-pair-") as folder, database() as url:
        result = play(
            said.keep or Path(folder),
            url,
            faults=said.faults,
            nodes=said.nodes,
            seed=said.seed,
            say=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201  progress
        )
    print(json.dumps(result.as_json(), indent=2))  # noqa: T201  a program's output
    return 0 if result.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
