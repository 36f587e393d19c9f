"""What the aggregator costs per report, beside a bare server that throws the same reports away, in one run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME, write_credentials
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.incident.daemon import free_port

HERE = Path(__file__).resolve().parent
READY_S = 60.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
BOUNDS = {
    "cpu_s_per_1000": 0.25,
    "ratio_to_floor": 1.6,
    "cpu_s_per_1000_batched": 0.08,
    "rss_kib_per_node": 160.0,
    "event_wait_max_s": 1.0,
}


def pin(core: int) -> Any:
    """For the child: one core of its own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {cores[core % len(cores)]})


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


@contextmanager
def aggregator(folder: Path, address: str) -> Iterator[int]:
    config = folder / "aggregator.toml"
    config.write_text(
        f'[aggregator]\nlisten = "{address}"\nmetrics_listen = "none"\nstate_dir = "{folder / "state"}"\n'
        f'enrol_listen = "127.0.0.1:{free_port()}"\n'
    )
    log = folder / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "gpuwarden", "aggregator", "-c", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=pin(0))  # noqa: PLW1509  one thread here
    try:
        end = time.monotonic() + READY_S
        while b"aggregator_started" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the aggregator did not start: {log.read_text()[-1000:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def floor(folder: Path, address: str) -> Iterator[int]:
    command = [sys.executable, str(HERE / "fleet_floor.py"), address, str(folder / "floor")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=pin(0)) as process:  # noqa: PLW1509
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.terminate()


def measure(pid: int, address: str, folder: Path, **load: Any) -> dict[str, Any]:
    """CPU of the server while the load lasts, and what the load saw."""
    before_kib = rss_kib(pid)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in load.items()]
    command = [sys.executable, str(HERE / "fleet_load.py"), address, str(folder), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=pin(1), text=True) as process:  # noqa: PLW1509
        assert process.stdout is not None
        process.stdout.readline()
        begun, begun_cpu = time.monotonic(), cpu_s(pid)
        process.stdout.readline()
        took_s, used_s = time.monotonic() - begun, cpu_s(pid) - begun_cpu
        after_kib = rss_kib(pid)
        said: dict[str, Any] = json.loads(process.stdout.readline())
    return {
        **said,
        "cpu_s_per_1000": round(used_s / max(1, said["reports"]) * 1000, 4),
        "core": round(used_s / took_s, 3),
        "rss_kib_per_node": round((after_kib - before_kib) / load["nodes"], 1),
    }


def run(said: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="gpuwarden-bench-") as name:
        folder = Path(name)
        wall = time.time()
        authority = Authority.open(folder / "state" / "pki", "gpuwarden", wall)
        for number in range(said.nodes):
            who = Identity(role=Role.NODE, name=f"load-{number}")
            own = authority.credentials(who, ttl_s=86_400, wall=wall)
            write_credentials(folder / who.name, own)
        own = authority.credentials(
            Identity(role=Role.AGGREGATOR, name="floor"),
            ttl_s=86_400,
            wall=wall,
            names=(AGGREGATOR_NAME,),
        )
        write_credentials(folder / "floor", own)
        load = {"nodes": said.nodes, "rate": said.rate, "seconds": said.seconds}
        results = {}
        address = f"127.0.0.1:{free_port()}"
        with floor(folder, address) as pid:
            results["floor"] = measure(pid, address, folder, **load)
        address = f"127.0.0.1:{free_port()}"
        with aggregator(folder, address) as pid:
            results["single"] = measure(pid, address, folder, **load)
        address = f"127.0.0.1:{free_port()}"
        with aggregator(folder, address) as pid:
            results["batched"] = measure(pid, address, folder, batch=10, **load)
    single, base = results["single"], results["floor"]
    figures = {
        "nodes": said.nodes,
        "reports_per_s": said.nodes * said.rate,
        "cpu_s_per_1000": single["cpu_s_per_1000"],
        "floor_cpu_s_per_1000": base["cpu_s_per_1000"],
        "ratio_to_floor": round(single["cpu_s_per_1000"] / base["cpu_s_per_1000"], 2),
        "cpu_s_per_1000_batched": results["batched"]["cpu_s_per_1000"],
        "rss_kib_per_node": single["rss_kib_per_node"],
        "event_wait_max_s": round(single["event_wait_max_s"], 3),
        "runs": results,
    }
    figures["missed"] = [n for n, bound in BOUNDS.items() if figures[n] > bound]
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench fleet")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    figures = run(parser.parse_args())
    if "--json" in sys.argv:
        print(json.dumps(figures, indent=2))
    else:
        for name, bound in BOUNDS.items():
            word = "MISSED" if name in figures["missed"] else "ok"
            print(f"{name:26} {figures[name]:>9}  bound {bound:<6} {word}")
        print(f"{'floor_cpu_s_per_1000':26} {figures['floor_cpu_s_per_1000']:>9}")
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
