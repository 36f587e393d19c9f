"""A flood of the kernel log, 250,000 lines in 6 s with 50 Xid lines inside: what of it reaches the agent, and
what that costs. On the simulated driver's stream, and as root on /dev/kmsg, where no line is of facility 0:
there the Xid lines are forgeries, and the agent has to count them as such.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import steady
from cost import children, cpu_s

from gpuwarden.sim.host import SimHost

LINES, SECONDS, XIDS = 250_000, 6.0, 50
BURST = 100
"""Lines at a time: 2.4 ms of the flood."""
SETTLE_S, DRAIN_S = 3.0, 1.5
"""After a start, and until the metrics page shows the end of the flood (it is built once a second)."""
KMSG = Path("/dev/kmsg")
RATELIMIT_BURST = 10
"""Lines that one open /dev/kmsg takes before printk_devkmsg=ratelimit holds them back."""
NOISE = (
    "NVRM: GPU at PCI:0000:3b:00: GPU-efbdfde9-5798-a6e7-4c46-12518fa15375 is still of no interest"
)
OTHERS = (
    "gpuwarden-bench: a line of user space, as long as those of the driver: 0123456789 0123456789"
)
XID = "NVRM: Xid (PCI:0000:3b:00): 31, pid={pid}, name=bench, Ch 00000008, intr 00000000. MMU Fault"
assert LINES % (BURST * XIDS) == 0
COUNTS = ("records", "lost", "urgent", "forgeries", "overruns")


def simulated(host: SimHost) -> dict[str, Any]:
    """Every line is the driver's own. The driver knows which records its only reader was too late for."""
    xids: list[int] = []

    def write(text: str, count: int) -> None:
        host.control("kernel_line", text=text, count=count)
        if text is not NOISE:
            xids.append(host.control("kernel_log")["next"] - 1)

    spent, counted = _flooded(host.folder / "kmsg.sock", write, NOISE)
    overwritten = host.control("kernel_log")["overruns"]
    kept = [x for x in xids if not any(first <= x < end for first, end in overwritten)]
    return {
        "flood_stream_cpu_percent": spent / SECONDS * 100,
        "flood_xids_lost": abs(len(kept) - counted["urgent"]),
        "flood_xids_kept": len(kept),
        "flood_records_read": counted["records"],
        "flood_records_lost": counted["lost"],
    }


def real() -> dict[str, Any]:
    """Nothing where /dev/kmsg may not be written: what the flood costs is then the simulated one's."""
    if not os.access(KMSG, os.R_OK | os.W_OK):
        return {}
    spent, counted = _flooded(KMSG, _write_kmsg, OTHERS)
    missing = XIDS - counted["forgeries"]
    unaccounted = LINES + XIDS - counted["records"] - counted["lost"]
    return {
        "flood_source": str(KMSG),
        "flood_cpu_percent": spent / SECONDS * 100,
        "flood_kmsg_forgeries_missed": max(0, missing - counted["lost"]),
        "flood_kmsg_believed": counted["urgent"],
        "flood_kmsg_unaccounted": max(0, unaccounted),
        "flood_kmsg_records_read": counted["records"],
        "flood_kmsg_records_lost": counted["lost"],
    }


def _write_kmsg(text: str, count: int) -> None:
    line = f"<7>{text}\n".encode()
    for begin in range(0, count, RATELIMIT_BURST):
        fd = os.open(KMSG, os.O_WRONLY | os.O_CLOEXEC)
        for _ in range(begin, min(count, begin + RATELIMIT_BURST)):
            os.write(fd, line)
        os.close(fd)


def _flooded(
    path: Path, write: Callable[[str, int], None], text: str
) -> tuple[float, Mapping[str, int]]:
    """CPU seconds of the agent over the flood, and by how much its counters went up."""
    with (
        tempfile.TemporaryDirectory(prefix="gpuwarden-bench-") as name,
        steady.agent(Path(name), path) as (process, port),
    ):
        time.sleep(SETTLE_S)
        before = _counters(port)
        clocks = (process.pid, *children(process.pid))
        spent = -sum(cpu_s(pid) for pid in clocks)
        _pour(write, text)
        spent += sum(cpu_s(pid) for pid in clocks)
        time.sleep(DRAIN_S)
        after = _counters(port)
    return spent, {key: after[key] - before[key] for key in COUNTS}


def _pour(write: Callable[[str, int], None], text: str) -> None:
    began = time.monotonic()
    every = LINES // XIDS
    for number in range(0, LINES, BURST):
        write(text, BURST)
        if number % every == 0:
            write(XID.format(pid=4_000 + number // every), 1)
        ahead_s = began + (number + BURST) / LINES * SECONDS - time.monotonic()
        if ahead_s > 0.001:
            time.sleep(ahead_s)


def _counters(port: int) -> Mapping[str, int]:
    found = {}
    for line in steady.get(port).decode().splitlines():
        for key in COUNTS:
            if line.startswith(f"gpuwarden_kernel_log_{key}_total "):
                found[key] = int(float(line.split()[1]))
    return found
