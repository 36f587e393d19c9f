"""A cgroup of our own for one process: to freeze it, or to limit it. Left as it was found."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.contract.nvml_contract import NotHere

ROOT = Path("/sys/fs/cgroup")
PAUSE_S = 0.0005


class Freezer:
    """Freezes one process: by v2 cgroup, by v1 freezer, or by SIGSTOP where we may not make groups."""

    def __init__(self, pid: int, directory: Path | None) -> None:
        self._pid = pid
        self._directory = directory
        is_v2 = directory is not None and (directory / "cgroup.freeze").exists()
        self.how = "SIGSTOP" if directory is None else "cgroup v2" if is_v2 else "cgroup v1"

    def freeze(self) -> None:
        if self.how == "SIGSTOP" or self._directory is None:
            os.kill(self._pid, signal.SIGSTOP)
        elif self.how == "cgroup v2":
            (self._directory / "cgroup.freeze").write_text("1")
        else:
            (self._directory / "freezer.state").write_text("FROZEN")

    def thaw(self) -> None:
        with suppress(OSError):
            if self.how == "SIGSTOP" or self._directory is None:
                os.kill(self._pid, signal.SIGCONT)
            elif self.how == "cgroup v2":
                (self._directory / "cgroup.freeze").write_text("0")
            else:
                (self._directory / "freezer.state").write_text("THAWED")

    def wait_frozen(self, timeout_s: float) -> float | None:
        """Monotonic seconds at which it was; None when it is not in time (a call in the driver)."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self._is_frozen():
                return time.monotonic()
            time.sleep(PAUSE_S)
        return None

    def _is_frozen(self) -> bool:
        if self.how == "SIGSTOP" or self._directory is None:
            stat = Path(f"/proc/{self._pid}/stat").read_text(errors="replace")
            return stat.rpartition(")")[2].split()[0] == "T"
        if self.how == "cgroup v2":
            return "frozen 1" in (self._directory / "cgroup.events").read_text()
        return (self._directory / "freezer.state").read_text().strip() == "FROZEN"


def _roots(*names: str) -> Iterator[Path]:
    """Hierarchies in which groups can be made: the v2 tree first."""
    if (ROOT / "cgroup.controllers").exists():
        yield ROOT
    for name in names:
        if (ROOT / name / "cgroup.procs").exists():
            yield ROOT / name


@contextmanager
def _group(pid: int, *names: str) -> Iterator[Path | None]:
    """A new group with this process in it; None where we may make none. Removed afterwards."""
    made, home = None, None
    for root in _roots(*names):
        directory = root / f"gpuwarden-gpu-check-{os.getpid()}"
        try:
            directory.mkdir()
            (directory / "cgroup.procs").write_text(str(pid))
        except OSError:
            with suppress(OSError):
                directory.rmdir()
            continue
        made, home = directory, root
        break
    try:
        yield made
    finally:
        if made is not None and home is not None:
            with suppress(OSError):
                (home / "cgroup.procs").write_text(str(pid))
            end = time.monotonic() + 5.0
            while made.exists() and time.monotonic() < end:
                with suppress(OSError):
                    made.rmdir()
                    break
                time.sleep(0.05)


@contextmanager
def freezer(pid: int) -> Iterator[Freezer]:
    """Whatever this host allows; the process is thawed at the end."""
    with _group(pid, "unified", "freezer") as directory:
        made = Freezer(pid, directory)
        try:
            yield made
        finally:
            made.thaw()


@contextmanager
def leaf(pid: int) -> Iterator[str]:
    """Path of a v2 group of its own for the process; NotHere where there is none to be had."""
    with _group(pid, "unified") as directory:
        if directory is None:
            raise NotHere("no cgroup v2 tree in which we may make a group")
        yield str(directory)
