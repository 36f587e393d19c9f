"""usage: measure.py UNIT SECONDS: what the processes of a unit cost meanwhile, as one JSON object. Standard library alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

EVERY_S = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


def pids(unit: str) -> list[int]:
    """The main process first."""
    asked = ["systemctl", "show", "--property=ControlGroup,MainPID", "--value", unit]
    said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30)
    group = next(line for line in said.stdout.split() if line.startswith("/"))
    main = next(int(line) for line in said.stdout.split() if line.isdigit())
    found = Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split()
    return sorted(map(int, found), key=lambda pid: (pid != main, pid))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def mib(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    unit, seconds = sys.argv[1], float(sys.argv[2])
    every = pids(unit)
    began, before = time.monotonic(), [cpu_s(pid) for pid in every]
    rss: list[float] = []
    while time.monotonic() - began < seconds:
        time.sleep(EVERY_S)
        rss.append(sum(mib(pid, "Rss") for pid in every))
    window = time.monotonic() - began
    spent = [(cpu_s(pid) - old) / window * 100 for pid, old in zip(every, before, strict=True)]
    print(
        json.dumps(
            {
                "seconds": round(window, 1),
                "processes": len(every),
                "are_the_same": pids(unit) == every,
                "cpu_percent": round(sum(spent), 3),
                "cpu_percent_each": [round(each, 3) for each in spent],
                "rss_mib_first": round(rss[0], 2),
                "rss_mib_last": round(rss[-1], 2),
                "rss_mib_most": round(max(rss), 2),
                "pss_mib_last": round(sum(mib(pid, "Pss") for pid in every), 2),
            }
        )
    )


main()
