"""What judging drift costs beside river and evidently, and how often it is wrong; a table or one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

import drift_alarms
import drift_evidently
import drift_streams

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "streams": drift_streams.measure,
    "evidently": drift_evidently.measure,
    "false-alarms": drift_alarms.measure,
}
BOUNDS = {**drift_streams.BOUNDS, **drift_evidently.BOUNDS, **drift_alarms.BOUNDS}
"""What it may be at most."""
LEAST = {**drift_streams.LEAST, **drift_evidently.LEAST, **drift_alarms.LEAST}
"""What it must be at least."""
ROWS = (*drift_streams.ROWS, *drift_evidently.ROWS, *drift_alarms.ROWS)


def table(results: dict[str, Any]) -> str:
    """The parts that were measured, each with its bound and whether it holds."""
    lines = []
    for key, what in ROWS:
        if key not in results:
            continue
        value, verdict = results[key], ""
        if (bound := BOUNDS.get(key)) is not None:
            verdict = f"  <= {bound:g}  {'ok' if value <= bound else 'MISSED'}"
        elif (least := LEAST.get(key)) is not None:
            verdict = f"  >= {least:g}  {'ok' if value >= least else 'MISSED'}"
        lines.append(f"{what:<78} {value:>11.5g}{verdict}")
    return "\n".join(lines)


def missed(results: dict[str, Any]) -> list[str]:
    """Keys beyond their bound."""
    return sorted(
        [key for key, bound in BOUNDS.items() if key in results and not results[key] <= bound]
        + [key for key, least in LEAST.items() if key in results and not results[key] >= least]
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench drift")
    parser.add_argument("--peers", default="", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(
            f"--only: no such part: {', '.join(sorted(unknown))} (known: {', '.join(PARTS)})"
        )
    load = os.getloadavg()[0]
    results: dict[str, Any] = {}
    for part in wanted:
        results |= PARTS[part](options)
    beyond = missed(results)
    if options.json:
        host: dict[str, Any] = {"cpus": os.cpu_count(), "python": platform.python_version()}
        host |= {"load_before": load, "load_after": os.getloadavg()[0]}
        print(json.dumps({**results, "missed": beyond, "host": host}))
    else:
        print(table(results))
    for key in beyond:
        print(f"missed: {key} is {results[key]:g}", file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
