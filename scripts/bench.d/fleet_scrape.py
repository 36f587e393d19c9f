"""What a Prometheus costs that scrapes as many numbers as often: from pages of plain HTTP, into its own files.

It keeps every number, where the aggregator keeps the newest state and the events: a scale to read ours by, no rival.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cost import cpu_s

from gpuwarden.sim.incident.daemon import free_port

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 120.0


def config(port: int, nodes: int, rate: float) -> str:
    """One page server, as many targets as there are nodes."""
    every = f"{round(1000 / rate)}ms"
    targets = "\n".join(
        f'      - {{targets: ["127.0.0.1:{port}"], labels: {{node: "n{number}", __metrics_path__: "/{number}"}}}}'
        for number in range(nodes)
    )
    return (
        f"global: {{scrape_interval: {every}, scrape_timeout: {every}}}\n"
        f"scrape_configs:\n  - job_name: load\n    static_configs:\n{targets}\n"
    )


def scrape(
    folder: Path, nodes: int, rate: float, seconds: float, pin: Callable[[int], Any]
) -> dict[str, Any]:
    """CPU per scrape; nothing where no Prometheus is installed."""
    if shutil.which("prometheus") is None:
        return {"runs": {"prometheus": {"absent": "scripts/system-packages install prometheus"}}}
    pages, own = free_port(), free_port()
    path = folder / "prometheus.yml"
    path.write_text(config(pages, nodes, rate))
    words = [sys.executable, str(HERE / "fleet_page.py"), str(pages), f"--seconds={seconds}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, preexec_fn=pin(1), text=True) as page:  # noqa: PLW1509
        command = [
            "prometheus",
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{own}",
            "--log.level=error",
        ]
        prometheus = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=pin(0))  # noqa: PLW1509
        try:
            assert page.stdout is not None
            page.stdout.readline()
            begun, begun_cpu = time.monotonic(), cpu_s(prometheus.pid)
            page.stdout.readline()
            took_s, used_s = time.monotonic() - begun, cpu_s(prometheus.pid) - begun_cpu
            said = json.loads(page.stdout.readline())
        finally:
            prometheus.terminate()
            prometheus.wait(TIMEOUT_S)
            page.terminate()
    per_1000 = round(used_s / max(1, said["reports"]) * 1000, 4)
    run = {**said, "cpu_s_per_1000": per_1000, "core": round(used_s / took_s, 3)}
    return {
        "prometheus_cpu_s_per_1000": per_1000,
        "prometheus_samples_per_scrape": said["samples"],
        "runs": {"prometheus": run},
    }
