"""python -m tests.fleet_kills: SIGKILL of the aggregator under load, again and again, on each kind of store."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.aggregator.databases import database
from tests.fleet_kills.run import Tally, play

STORES = ("sqlite", "postgresql")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fleet-kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=STORES, action="append", help="default: both")
    said = parser.parse_args()
    tallies = {
        store: _play(store, kills=said.kills, nodes=said.nodes, seed=said.seed)
        for store in said.store or STORES
    }
    shown = {store: tally.as_json() for store, tally in tallies.items()}
    print(json.dumps(shown, indent=2))  # noqa: T201  a program's output
    return 0 if all(tally.is_well for tally in tallies.values()) else 1


def _play(store: str, *, kills: int, nodes: int, seed: int) -> Tally:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpuwarden-kills-"))
        url = stack.enter_context(database()) if store == "postgresql" else ""
        return play(Path(folder), kills=kills, nodes=nodes, seed=seed, database=url)


if __name__ == "__main__":
    sys.exit(main())
