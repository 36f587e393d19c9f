"""python -m tests.fleet_kills: SIGKILL of the aggregator under load, again and again."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.fleet_kills.run import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fleet-kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", default="", help="an empty database of PostgreSQL")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuwarden-kills-") as folder:
        tally = play(
            Path(folder), kills=said.kills, nodes=said.nodes, seed=said.seed, database=said.database
        )
    print(json.dumps(tally.as_json(), indent=2))  # noqa: T201  a program's output
    return 0 if tally.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
