"""Running the command line in this process, and as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from gpuwarden.cli import main

ROOT = Path(__file__).resolve().parents[2]
AWAY = "/nonexistent/agent.sock"


def run(
    *arguments: str, width: int = 80, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """One call; ``output`` is what a terminal of that width would show, without colours."""
    environ = {"COLUMNS": str(width), "NO_COLOR": "1", **(env or {})}
    return CliRunner().invoke(main, list(arguments), input=stdin, env=environ)


def start(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The same as a process, for what runs until it is interrupted."""
    return subprocess.Popen(
        [sys.executable, "-m", "gpuwarden", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent"), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
