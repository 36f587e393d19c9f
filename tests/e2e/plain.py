"""Workloads as plain processes under names of their own: each is the leader of its process group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from gpuwarden.sim.host import SimHost, Workload

COMPANY = ("sh", "-c", 'sleep 600 >&- & exec "$0" "$@"')


class Plain:
    """Starts workloads of one simulated host; a link's name is what its process is called."""

    def __init__(self, host: SimHost, folder: Path) -> None:
        self._host = host
        self._folder = folder
        self._groups: list[subprocess.Popen[bytes]] = []

    def run(
        self,
        name: str,
        *words: str,
        device: int = 0,
        wait: bool = True,
        has_company: bool = False,
    ) -> Workload:
        """``workload WORDS``, called ``name`` (at most 15 characters count). ``has_company``: with
        another process in its group, which uses no GPU."""
        program = self._folder / name
        if not program.exists():
            program.symlink_to(self._host.built.workload)
        environment = {**self._host.env(), "NVIDIA_VISIBLE_DEVICES": str(device)}
        process = subprocess.Popen(
            [*(COMPANY if has_company else ()), str(program), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._groups.append(process)
        workload = Workload(process)
        if wait:
            workload.wait_ready()
        return workload

    def close(self) -> None:
        for process in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def group_of(workload: Workload) -> list[int]:
    """Live members of its process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        # 4711 (comm with (brackets)) S ppid pgrp ...
        state, _, pgrp = text.rpartition(")")[2].split()[:3]
        if int(pgrp) == workload.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found
