"""The daemon loads grpc without its asyncio half, and whoever wants that half later gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def said(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "agent"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_the_daemon_does_without_it_and_it_can_be_had_later() -> None:
    program = """
import sys
from gpuwarden.adapters import grpc_plain
grpc_plain.load()
import gpuwarden.wiring, grpc
print([name for name in sys.modules if name.startswith("grpc.aio")], hasattr(grpc, "aio"))
import grpc.aio
print(callable(grpc.aio.server), callable(grpc.server))
"""
    assert said(program) == "[] False\nTrue True"


def test_where_grpc_is_there_already_nothing_changes() -> None:
    program = """
import grpc, grpc.aio
from gpuwarden.adapters import grpc_plain
grpc_plain.load()
print(callable(grpc.aio.server))
"""
    assert said(program) == "True"
