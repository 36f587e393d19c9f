"""The agent as it runs, put together as ever, that notes the moment of each step of each page.

``latency_agent.py CONFIG FILE``: to FILE go lines ``<phase> <device> <monotonic ns>``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from gpuwarden.model.action import Action, Kind
from gpuwarden.wiring import run_agent


class Stamps:
    """Implements ``ports.Steps``: ``deciding`` is reached once the decision is made, before it is on disk."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def reached(self, action: Action, phase: str) -> None:
        if action.kind is Kind.PAGE:
            line = f"{phase} {action.device or '-'} {time.monotonic_ns()}\n"
            os.write(self._fd, line.encode("ascii", "replace"))


if __name__ == "__main__":
    config, stamps = sys.argv[1:]
    sys.exit(run_agent(Path(config), flags={"agent.log_format": "json"}, steps=Stamps(stamps)))
