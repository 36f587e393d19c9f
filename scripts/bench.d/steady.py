"""The agent as it runs, beside nvitop-exporter: CPU at rest, memory, CPU of a scrape."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cost import children, cpu_s, pss_mib, rss_mib

START_S = 20.0
SETTLE_S = 4.0
STOP_S = 20.0
SCRAPES = 300


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def daemon(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that serves /metrics on this port, ended with TERM."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=dict(os.environ))
    try:
        end = time.monotonic() + START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)


def _answers(port: int) -> bool:
    try:
        return get(port) is not None
    except OSError:
        return False


def get(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()


@contextmanager
def agent(
    folder: Path, kernel_log: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The agent at its defaults, but for folders and a port of its own, and this kernel log."""
    port = free_port()
    text = (
        f'[agent]\nrun_dir = "{folder}/run"\nstate_dir = "{folder}/state"\n'
        f'metrics_listen = "127.0.0.1:{port}"\n'
    )
    if kernel_log is not None:
        text += f'[kmsg]\npath = "{kernel_log}"\n'
    (folder / "agent.toml").write_text(text)
    command = [sys.executable, "-m", "gpuwarden", "agent", "-c", str(folder / "agent.toml")]
    with daemon(command, port, folder / "agent.log") as process:
        yield process, port


def steady(python: str, seconds: float) -> dict[str, Any]:
    """CPU of the agent with its probe child, and of nvitop-exporter, over the same window."""
    peer_port = free_port()
    exporter = [str(Path(python).parent / "nvitop-exporter"), "--bind-address", "127.0.0.1"]
    exporter += ["--port", str(peer_port)]
    with (
        tempfile.TemporaryDirectory(prefix="gpuwarden-bench-") as name,
        agent(Path(name)) as (ours, _),
        daemon(exporter, peer_port, Path(name) / "exporter.log") as theirs,
    ):
        time.sleep(SETTLE_S)
        probe = children(ours.pid)
        clocks = (ours.pid, *probe, theirs.pid)
        before, began = [cpu_s(pid) for pid in clocks], time.monotonic()
        time.sleep(seconds)
        window = time.monotonic() - began
        spent = [(cpu_s(pid) - old) / window * 100 for pid, old in zip(clocks, before, strict=True)]
        agents = sum(spent[:-1])
        pss = [pss_mib(pid) for pid in clocks[:-1]]
        return {
            "steady_cpu_percent": agents,
            "steady_vs_nvitop_exporter": agents / spent[-1],
            "steady_agent_percent": spent[0],
            "steady_probe_percent": agents - spent[0],
            "nvitop_exporter_percent": spent[-1],
            "steady_window_s": window,
            "rss_mib": sum(rss_mib(pid) for pid in clocks[:-1]),
            "rss_agent_mib": rss_mib(ours.pid),
            "rss_probe_mib": sum(rss_mib(pid) for pid in probe),
            "pss_mib": None if None in pss else sum(p for p in pss if p is not None),
            "nvitop_exporter_rss_mib": rss_mib(theirs.pid),
        }


def scrape() -> dict[str, Any]:
    """CPU of the agent for one GET of /metrics: a burst of scrapes less what it costs at rest."""
    with (
        tempfile.TemporaryDirectory(prefix="gpuwarden-bench-") as name,
        agent(Path(name)) as (process, port),
    ):
        time.sleep(SETTLE_S)
        page = get(port)
        rest, rest_s = _spent(process.pid, lambda: time.sleep(5.0))
        burst, burst_s = _spent(process.pid, lambda: _burst(port))
    each = (burst - rest / rest_s * burst_s) / SCRAPES
    return {"scrape_cpu_ms": each * 1000, "scrape_page_bytes": len(page)}


def _spent(pid: int, work: Callable[[], object]) -> tuple[float, float]:
    before, began = cpu_s(pid), time.monotonic()
    work()
    return cpu_s(pid) - before, time.monotonic() - began


def _burst(port: int) -> None:
    for _ in range(SCRAPES):
        get(port)
