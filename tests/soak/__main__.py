"""python -m tests.soak: does anything grow where something happens every second."""

from __future__ import annotations

import argparse
import json
import sys

from tests.soak.run import BEAT_S, soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--beat", type=float, default=BEAT_S, help="seconds from deed to deed")
    said = parser.parse_args()
    told = soak(said.minutes * 60, said.channels, beat_s=said.beat).as_json()
    print(json.dumps(told, indent=2))  # noqa: T201  a program's output
    return 1 if told["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
