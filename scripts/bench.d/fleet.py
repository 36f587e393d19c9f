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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fleet_scrape import scrape

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME, write_credentials
from gpuwarden.commands.aggregator import TRANSPORT
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
    "permit_p99_ms": 20.0,
}
LEAST = {"nodes_at_1hz": 2000}
ROWS = (
    "cpu_s_per_1000",
    "floor_cpu_s_per_1000",
    "ratio_to_floor",
    "cpu_s_per_1000_batched",
    "floor_cpu_s_per_1000_batched",
    "prometheus_cpu_s_per_1000",
    "prometheus_samples_per_scrape",
    "rss_kib_per_node",
    "event_wait_max_s",
    "nodes_at_1hz",
    "permit_p99_ms",
    "permit_max_ms",
    "floor_permit_p99_ms",
    "floor_permit_max_ms",
    "disk_sync_p99_ms",
    "disk_sync_max_ms",
    "reconnect_s",
    "reconnect_cpu_s_per_1000",
    "query_nodes",
    "query_p99_ms",
)
NODES = 2000
"""One site (nodes_at_1hz). With fewer, more reports are wake-ups of their own: floor and aggregator cost more a report."""
PROBES = 64
BESIDE = 500
"""Targets of the Prometheus beside, nodes at work beside permits, and nodes that come back at once: at most."""
SENT_RATIO = 0.98
WIDE_BUDGETS = """
[permit]
standing_ratio = 1.0
[permit.cordon]
ratio = 1.0
most = 100000
window_s = "1s"
"""
"""Every wish is granted and has to be on disk: a refusal is quicker."""


def pin(core: int) -> Any:
    """For the child: one core of its own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {cores[core % len(cores)]})


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def steal_s() -> float:
    """Seconds that whoever runs this machine has kept its CPUs for others, since it was booted."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) * TICK_S


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


@contextmanager
def aggregator(folder: Path, address: str, more: str = "") -> Iterator[int]:
    """With an empty store: thousands of nodes of the part before, silent now, would be judged with each permit."""
    for left in (folder / "state").glob("fleet.sqlite*"):
        left.unlink()
    config = folder / "aggregator.toml"
    config.write_text(
        f'[aggregator]\nlisten = "{address}"\nmetrics_listen = "none"\nstate_dir = "{folder / "state"}"\n'
        f'enrol_listen = "127.0.0.1:{free_port()}"\n{more}'
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
    """On the same transport as the aggregator chooses for itself."""
    command = [sys.executable, str(HERE / "fleet_floor.py"), address, str(folder / "floor")]
    environ = {**os.environ, "GRPC_EXPERIMENTS": TRANSPORT}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        preexec_fn=pin(0),  # noqa: PLW1509  one thread here
        env=environ,
    ) as process:
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


def probe(kind: str, address: str, folder: Path, **options: Any) -> dict[str, Any]:
    """One of ``fleet_probe``'s figures, from the load's core."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, str(HERE / "fleet_probe.py"), kind, address, str(folder), *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, preexec_fn=pin(1), text=True, timeout=300, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def warm_up_s(nodes: int) -> float:
    """Until all are connected and at work."""
    return 15 + nodes / 100


def certify(folder: Path, nodes: int) -> None:
    """Everybody's certificate, by the authority that the aggregators of this run will find."""
    wall = time.time()
    authority = Authority.open(folder / "state" / "pki", "gpuwarden", wall)
    names = [f"load-{number}" for number in range(nodes)]
    names += [f"probe-{number}" for number in range(PROBES)]
    for name in names:
        who = Identity(role=Role.NODE, name=name)
        own = authority.credentials(who, ttl_s=86_400, wall=wall, names=(name,))
        write_credentials(folder / name, own)
    who = Identity(role=Role.AGGREGATOR, name="floor")
    own = authority.credentials(who, ttl_s=86_400, wall=wall, names=(AGGREGATOR_NAME,))
    write_credentials(folder / "floor", own)


def cost(folder: Path, said: argparse.Namespace) -> dict[str, Any]:
    """CPU per report, one and ten a message, and of the floor."""
    load = {
        "nodes": said.nodes,
        "rate": said.rate,
        "seconds": said.seconds,
        "warm_up": warm_up_s(said.nodes),
    }
    runs = {}
    for name, serve, batch in (
        ("floor", floor, 1),
        ("floor_batched", floor, 10),
        ("single", aggregator, 1),
        ("batched", aggregator, 10),
    ):
        address = f"127.0.0.1:{free_port()}"
        with serve(folder, address) as pid:
            runs[name] = measure(pid, address, folder, batch=batch, **load)
    single, base = runs["single"], runs["floor"]
    batched, base_batched = runs["batched"], runs["floor_batched"]
    beside = scrape(folder, min(said.nodes, BESIDE), said.rate, said.seconds, pin)
    runs.update(beside.pop("runs"))
    return {
        **beside,
        "nodes": said.nodes,
        "reports_per_s": said.nodes * said.rate,
        "cpu_s_per_1000": single["cpu_s_per_1000"],
        "floor_cpu_s_per_1000": base["cpu_s_per_1000"],
        "ratio_to_floor": round(single["cpu_s_per_1000"] / base["cpu_s_per_1000"], 2),
        "cpu_s_per_1000_batched": batched["cpu_s_per_1000"],
        "floor_cpu_s_per_1000_batched": base_batched["cpu_s_per_1000"],
        "rss_kib_per_node": single["rss_kib_per_node"],
        "event_wait_max_s": round(single["event_wait_max_s"], 3),
        "runs": runs,
    }


def at_1hz(folder: Path, said: argparse.Namespace) -> dict[str, Any]:
    """How many nodes are held at a report a second each, unbatched: nobody fails, nearly all reports of the
    time were sent, and no event waits a second."""
    held, runs = 0, {}
    for nodes in sorted(said.at_1hz):
        address = f"127.0.0.1:{free_port()}"
        with aggregator(folder, address) as pid:
            run = measure(
                pid,
                address,
                folder,
                nodes=nodes,
                rate=1.0,
                seconds=said.seconds,
                warm_up=warm_up_s(nodes),
            )
        is_held = (
            run["failed"] == 0
            and run["reports"] >= SENT_RATIO * nodes * said.seconds
            and run["events"] > 0
            and run["event_wait_max_s"] <= BOUNDS["event_wait_max_s"]
        )
        runs[f"at_1hz_{nodes}"] = {**run, "is_held": is_held}
        if not is_held:
            break
        held = nodes
    return {"nodes_at_1hz": held, "runs": runs}


def leave(folder: Path, said: argparse.Namespace) -> dict[str, Any]:
    """A permit's way while all nodes report once a second, by turns with what the disk takes for one page: a permit
    is on disk before anybody hears of it. And the same way through the floor, which keeps a page and answers."""
    found = {}
    for kind, serve in (("bare", floor), ("permits", partial(aggregator, more=WIDE_BUDGETS))):
        address = f"127.0.0.1:{free_port()}"
        stolen_s, begun = steal_s(), time.monotonic()
        with serve(folder, address) as pid, ThreadPoolExecutor(1) as pool:
            load = pool.submit(
                measure,
                pid,
                address,
                folder,
                nodes=min(said.nodes, BESIDE),
                rate=1.0,
                seconds=50.0,
            )
            time.sleep(13.0)  # they are connected, and at work
            found[kind] = probe(kind, address, folder, probes=8, count=500)
            load.result()
        stolen_s = steal_s() - stolen_s
        found[kind]["steal_ratio"] = round(stolen_s / (time.monotonic() - begun), 3)
    shown = ("permit_p99_ms", "permit_max_ms", "disk_sync_p99_ms", "disk_sync_max_ms")
    return {
        **{name: found["permits"][name] for name in shown},
        "floor_permit_p99_ms": found["bare"]["permit_p99_ms"],
        "floor_permit_max_ms": found["bare"]["permit_max_ms"],
        "runs": found,
    }


def many(folder: Path, said: argparse.Namespace) -> dict[str, Any]:
    """All nodes back at once, and many asked at once."""
    address = f"127.0.0.1:{free_port()}"
    with aggregator(folder, address) as pid:
        before_s = cpu_s(pid)
        nodes = min(said.nodes, BESIDE)
        storm = probe("storm", address, folder, count=nodes)
        storm["cpu_s_per_1000"] = round((cpu_s(pid) - before_s) / nodes * 1000, 3)
        admin = folder / "state" / "admin"
        asked = probe("query", address, folder, probes=PROBES, admin=admin)
    return {
        "reconnect_s": storm["reconnect_s"],
        "reconnect_cpu_s_per_1000": storm["cpu_s_per_1000"],
        "query_nodes": asked["query_nodes"],
        "query_p99_ms": asked["query_p99_ms"],
        "runs": {"storm": storm, "query": asked},
    }


PARTS = {"cost": cost, "at-1hz": at_1hz, "permits": leave, "many": many}


def run(said: argparse.Namespace) -> dict[str, Any]:
    chosen = said.only.split(",") if said.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        raise SystemExit(
            f"--only: no such part: {', '.join(sorted(unknown))} (known: {', '.join(PARTS)})"
        )
    figures: dict[str, Any] = {"nodes": said.nodes}
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gpuwarden-bench-") as name:
        folder = Path(name)
        certify(folder, max(said.nodes, *said.at_1hz))
        for part in chosen:
            found = PARTS[part](folder, said)
            runs.update(found.pop("runs"))
            figures.update(found)
    missed = [n for n, most in BOUNDS.items() if n in figures and figures[n] > most]
    missed += [n for n, least in LEAST.items() if n in figures and figures[n] < least]
    host = {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    return {**figures, "missed": missed, "host": host, "runs": runs}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench fleet")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--at-1hz", type=int, nargs="+", default=[2000])
    parser.add_argument("--only")
    said = parser.parse_args()
    figures = run(said)
    if said.json:
        print(json.dumps(figures, indent=2))
        return 1 if figures["missed"] else 0
    for name in ROWS:
        if name not in figures:
            continue
        bound = BOUNDS.get(name, LEAST.get(name))
        sign = ">=" if name in LEAST else "<="
        verdict = (
            ""
            if bound is None
            else f"  {sign} {bound:<6g} {'MISSED' if name in figures['missed'] else 'ok'}"
        )
        print(f"{name:26} {figures[name]:>9}{verdict}")
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
