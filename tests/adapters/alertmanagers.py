"""A real Alertmanager of a test's own: it notifies the test's receiver, and can be stopped and started again."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from gpuwarden.clock import SystemClock

WITHIN_S = 60.0
CLOCK = SystemClock()
CONFIG = """
global:
  resolve_timeout: 1h
route:
  receiver: hook
  group_by: [node, gpu]
  group_wait: 500ms
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: {hook}
        send_resolved: true
"""


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Alertmanager:
    """One replica. What it remembers of what it has notified outlasts its stop."""

    def __init__(
        self, folder: Path, hook: str, *, gossip: int | None = None, peer: int | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        (folder / "alertmanager.yml").write_text(CONFIG.format(hook=hook))
        (self.port,) = free_ports(1)
        self._cluster = ["--cluster.listen-address="]
        if gossip is not None:
            self._cluster = [
                f"--cluster.listen-address=127.0.0.1:{gossip}",
                f"--cluster.advertise-address=127.0.0.1:{gossip}",
                f"--cluster.peer=127.0.0.1:{peer}",
                "--cluster.settle-timeout=1s",
                "--cluster.peer-timeout=1s",
            ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Alertmanager:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus-alertmanager",
                    f"--config.file={self._folder / 'alertmanager.yml'}",
                    f"--storage.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--data.maintenance-interval=1s",
                    *self._cluster,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = CLOCK.now() + WITHIN_S
        while not self._is_ready():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert CLOCK.now() < end, "Alertmanager did not get ready"
            CLOCK.sleep(0.05)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WITHIN_S)
            self._process = None

    def alerts(self) -> list[dict[str, Any]]:
        """What it holds now."""
        return alerts(self.url)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def alerts(url: str) -> list[dict[str, Any]]:
    """What the Alertmanager at an address holds now."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found
