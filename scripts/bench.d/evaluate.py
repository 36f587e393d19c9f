"""What judging services costs and how often it is wrong; a table or one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

import evaluate_alarms
import evaluate_node

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "false-alarms": evaluate_alarms.measure,
    "node": evaluate_node.measure,
}
BOUNDS = {**evaluate_alarms.BOUNDS, **evaluate_node.BOUNDS}
"""What it may be at most."""
LEAST = {**evaluate_alarms.LEAST, **evaluate_node.LEAST}
"""What it must be at least."""
ROWS = (*evaluate_alarms.ROWS, *evaluate_node.ROWS)


def table(results: dict[str, Any]) -> str:
    lines = []
    for key, what in ROWS:
        if key not in results:
            continue
        value, bound, least = results[key], BOUNDS.get(key), LEAST.get(key)
        verdict = ""
        if bound is not None:
            verdict = f"  <= {bound:g}  {'ok' if value <= bound else 'MISSED'}"
        elif least is not None:
            verdict = f"  >= {least:g}  {'ok' if value >= least else 'MISSED'}"
        lines.append(f"{what:<66} {value:>12.6g}{verdict}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench evaluate")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(
            f"--only: no such part: {', '.join(sorted(unknown))} (known: {', '.join(PARTS)})"
        )
    results: dict[str, Any] = {}
    for part in wanted:
        results |= PARTS[part](options)
    missed = sorted(
        [key for key, bound in BOUNDS.items() if key in results and results[key] > bound]
        + [key for key, least in LEAST.items() if key in results and results[key] < least]
    )
    if options.json:
        host = {"cpus": os.cpu_count(), "python": platform.python_version()}
        print(json.dumps({**results, "missed": missed, "host": host}))
    else:
        print(table(results))
    for key in missed:
        print(f"missed: {key} is {results[key]:g}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
