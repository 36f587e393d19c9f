"""The private Slurm's one node as an administrator sees and changes it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.adapters.trees import soon

ROOT = Path(__file__).resolve().parents[2]
OTHERS = "RMA 4711, do not touch"


def scontrol(*args: str) -> str:
    """What an administrator's scontrol prints."""
    made = subprocess.run(
        ["scontrol", *args], capture_output=True, text=True, timeout=30, check=True
    )
    return made.stdout


def node_name() -> str:
    return str(re.findall(r"NodeName=(\S+)", scontrol("show", "node"))[0])


def state() -> str:
    """``IDLE+DRAIN``"""
    return str(re.findall(r"State=(\S+)", scontrol("show", "node", node_name()))[0])


def reason() -> str:
    found = re.findall(r"Reason=(.*) \[", scontrol("show", "node", node_name()))
    return found[0] if found else ""


def drain(why: str = OTHERS) -> None:
    """As an administrator does."""
    scontrol("update", f"NodeName={node_name()}", "State=DRAIN", f"Reason={why}")


def is_well() -> bool:
    return state() in ("IDLE", "MIXED", "ALLOCATED")


@contextmanager
def in_service() -> Iterator[None]:
    """The node takes jobs before, and again after, whatever was done to it."""
    _resume()
    try:
        yield
    finally:
        _resume()


def _resume() -> None:
    if not is_well():
        subprocess.run(
            ["scontrol", "update", f"NodeName={node_name()}", "State=RESUME"],
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert soon(is_well, 60.0), f"the node does not come back: {state()}"


@contextmanager
def controller_stopped() -> Iterator[None]:
    """slurmctld does not answer meanwhile."""
    pid = int((ROOT / ".services" / "slurm.pid").read_text().split()[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
