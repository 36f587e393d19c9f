"""Evidently on one table, over and over: `drift_peer.py FILE.npy`, then the name of a statistic a line ("" is its preset).

Runs in the environment of `scripts/env drift-peers` and imports nothing of gpuwarden. FILE holds reference and current,
2 x rows x columns. Answers each line with a JSON object: CPU milliseconds, and the statistic of each column.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset


def main() -> int:
    warnings.simplefilter("ignore")
    both = np.load(sys.argv[1])
    names = [f"f{n}" for n in range(both.shape[2])]
    reference, current = (pd.DataFrame(side, columns=names) for side in both)
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        begun = time.process_time()
        preset = DataDriftPreset(num_method=name) if name else DataDriftPreset()
        said = Report([preset]).run(current, reference).dict()
        cpu_ms = (time.process_time() - begun) * 1000
        print(json.dumps({"ms": cpu_ms, "values": _values(said)}), flush=True)
    return 0


def _values(said: dict[str, object]) -> dict[str, float]:
    found = {}
    metrics = said["metrics"]
    assert isinstance(metrics, list)
    for each in metrics:
        column = each.get("config", {}).get("column")
        if column is not None and isinstance(each["value"], int | float):
            found[str(column)] = float(each["value"])
    return found


if __name__ == "__main__":
    sys.exit(main())
