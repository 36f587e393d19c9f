"""All parts in one run on one simulated host; a table or one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from typing import Any

import deciding
import flood
import latency
import poll
import steady

from gpuwarden.sim.host import SimHost, SimOptions
from gpuwarden.sim.run import start_holders

DEVICES, PROCESSES, PROFILE = 8, 20, "H100-80"
PARTS = ("poll", "steady", "decide", "scrape", "latency", "flood")
BOUNDS = {
    "poll_vs_nvitop": 0.06,
    "poll_vs_floor": 1.0,
    "steady_cpu_percent": 0.7,
    "steady_vs_nvitop_exporter": 0.25,
    "rss_mib": 80.0,
    "decide_p99_ms": 1.0,
    "scrape_cpu_ms": 1.0,
    "kmsg_lines_missed": 0,
    "kmsg_line_to_decision_p99_ms": 10.0,
    "kmsg_line_to_page_p99_ms": 50.0,
    "flood_xids_lost": 0,
    "flood_cpu_percent": 15.0,
    "flood_kmsg_believed": 0,
    "flood_kmsg_forgeries_missed": 0,
    "flood_kmsg_unaccounted": 0,
}
"""What it must cost at most."""
ROWS = (
    ("poll_cpu_ms", "CPU of a full poll, 8 devices x 20 processes", "ms"),
    ("poll_child_cpu_ms", "  of which in the probe child", "ms"),
    ("nvitop_cpu_ms", "  nvitop take_snapshots", "ms"),
    ("gpustat_cpu_ms", "  gpustat new_query", "ms"),
    ("floor_cpu_ms", "  floor: raw calls and one stat a process", "ms"),
    ("poll_vs_nvitop", "  ratio to nvitop", "x"),
    ("poll_vs_floor", "  ratio to the floor", "x"),
    ("steady_cpu_percent", "CPU at rest, agent and probe child", "%"),
    ("steady_probe_percent", "  of which the probe child", "%"),
    ("nvitop_exporter_percent", "  nvitop-exporter in the same window", "%"),
    ("steady_vs_nvitop_exporter", "  ratio to nvitop-exporter", "x"),
    ("rss_mib", "resident memory, agent and probe child", "MiB"),
    ("rss_probe_mib", "  of which the probe child", "MiB"),
    ("pss_mib", "  with shared pages by their share", "MiB"),
    ("nvitop_exporter_rss_mib", "  nvitop-exporter", "MiB"),
    ("decide_p99_ms", "decide(), 64 tenants x 16 devices, 5 % over, p99", "ms"),
    ("decide_quiet_p99_ms", "  p99 of the quietest tenth of the calls", "ms"),
    ("decide_median_ms", "  median", "ms"),
    ("decide_max_ms", "  worst", "ms"),
    ("decide_wall_p99_ms", "  p99 by the clock on the wall", "ms"),
    ("scrape_cpu_ms", "CPU of the agent for a scrape of /metrics", "ms"),
    ("kmsg_line_to_decision_p99_ms", "kernel line to decision, p99", "ms"),
    ("kmsg_line_to_decision_median_ms", "  median", "ms"),
    ("kmsg_line_to_page_p99_ms", "kernel line to page at a sink on loopback, p99", "ms"),
    ("kmsg_line_to_page_median_ms", "  median", "ms"),
    ("kmsg_line_floor_p99_ms", "  floor: a plain reader of the same log, p99", "ms"),
    ("kmsg_lines_missed", "  lines that brought no page", ""),
    ("flood_cpu_percent", "CPU over 250,000 kernel lines in 6 s, /dev/kmsg", "%"),
    ("flood_stream_cpu_percent", "  the same from the simulated driver", "%"),
    ("flood_xids_lost", "  Xid lines that the ring kept and the agent did not see", ""),
    ("flood_xids_kept", "  Xid lines that the ring kept, of 50", ""),
    ("flood_records_lost", "  lines overwritten before they were read, counted", ""),
    ("flood_kmsg_believed", "  forged Xid lines believed, of 50", ""),
    ("flood_kmsg_forgeries_missed", "  forged Xid lines read and not counted", ""),
    ("flood_kmsg_unaccounted", "  lines neither read nor counted as lost", ""),
    ("flood_kmsg_records_lost", "  lines overwritten before they were read, counted", ""),
)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    parts = options.only.split(",") if options.only else PARTS
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"--only: no such part: {', '.join(sorted(unknown))} (known: {', '.join(PARTS)})")
    results: dict[str, Any] = {}
    with SimHost(SimOptions(devices=DEVICES, profile=PROFILE, seed=1)) as host:
        os.environ.update(host.env())
        if set(parts) - {"decide", "latency"}:
            start_holders(host, PROCESSES)
        if "poll" in parts:
            results |= poll.measure(options.peers, options.rounds, is_profiled=options.profile)
        if "steady" in parts:
            results |= steady.steady(options.peers, options.seconds)
        if "scrape" in parts:
            results |= steady.scrape()
        if "latency" in parts:
            results |= latency.measure(is_kernel=options.kernel_lines)
        if "flood" in parts:
            results |= flood.simulated(host) | {"flood_source": "simulated"}
            results["flood_cpu_percent"] = results["flood_stream_cpu_percent"]
            results |= flood.real()
        if "decide" in parts:
            results |= deciding.measure(is_profiled=options.profile)
    return results


def table(results: dict[str, Any]) -> str:
    lines = []
    for key, what, unit in ROWS:
        if results.get(key) is None:
            continue
        bound = BOUNDS.get(key)
        verdict = ""
        if bound is not None:
            verdict = f"  <= {bound:g}  {'ok' if results[key] <= bound else 'MISSED'}"
        lines.append(f"{what:<52} {results[key]:>9.3f} {unit:<4}{verdict}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--peers", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--kernel-lines", action="store_true")
    options = parser.parse_args()
    if options.kernel_lines and (why := latency.why_not_kernel()):
        parser.error(f"--kernel-lines: {why}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started or set is put back
    load = os.getloadavg()[0]
    results = measure(options)
    missed = sorted(key for key, bound in BOUNDS.items() if (results.get(key) or 0.0) > bound)
    if options.json:
        host: dict[str, Any] = {"cpus": os.cpu_count(), "python": platform.python_version()}
        host |= {"load_before": load, "load_after": os.getloadavg()[0]}
        print(json.dumps({**results, "missed": missed, "host": host}))
    else:
        print(table(results))
    for key in missed:
        print(f"missed: {key} is {results[key]:.3f}, the bound is {BOUNDS[key]:g}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
