"""The real agent, put together as ever, that ends itself by SIGKILL at one step of one action.

``python -m tests.kills.runner CONFIG STEP``; an empty STEP is none.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from gpuwarden.model.action import Action
from gpuwarden.wiring import run_agent


class FatalStep:
    """Implements ``ports.Steps``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def reached(self, action: Action, phase: str) -> None:
        if f"{action.kind.value}.{phase}" == self._name:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    config, step = sys.argv[1:]
    sys.exit(run_agent(Path(config), flags={"agent.log_format": "json"}, steps=FatalStep(step)))
