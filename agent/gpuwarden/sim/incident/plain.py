"""The scene in plain processes: each member its own process group, told apart by its name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from gpuwarden.errors import Unavailable
from gpuwarden.sim.host import SimHost, read_until
from gpuwarden.sim.incident.cast import Member
from gpuwarden.sim.incident.proc import group_members, life_of
from gpuwarden.sim.incident.stage import READY_WITHIN_S, Fate, Player

STOP_WITHIN_S = 5.0


class PlainStage:
    """Implements ``Stage`` with ``fork`` and ``exec`` alone."""

    has_containers = False

    def __init__(self, host: SimHost, folder: Path) -> None:
        self._host = host
        self._programs = folder / "programs"
        self._programs.mkdir()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._counted: tuple[Player, ...] = ()

    def start(self, member: Member) -> Player:
        """Start a member and wait for its memory."""
        process = self._spawn(member)
        read_until(process, b"ready", member.name, READY_WITHIN_S)
        life = life_of(process.pid)
        if life is None:
            raise Unavailable(f"{member.name} ended at once")
        return Player(
            member=member,
            place=str(process.pid),
            pid=process.pid,
            start=life.start,
            pids=group_members(process.pid),
        )

    def launch(self, member: Member) -> None:
        """Start a member and do not wait."""
        self._spawn(member)

    def _spawn(self, member: Member) -> subprocess.Popen[bytes]:
        program = self._programs / member.name
        program.symlink_to(self._host.built.workload)  # the link's name becomes the process's
        process = subprocess.Popen(
            [str(program), *member.arguments],
            env={**self._host.env({}), "NVIDIA_VISIBLE_DEVICES": str(member.device)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running[member.name] = process
        return process

    def opened(self, players: tuple[Player, ...]) -> None:
        """Nothing to prepare: a process that was hurt shows it."""
        self._counted = players

    def fate(self, player: Player) -> Fate:
        """Alive, not stopped, all of it, under the same start."""
        status = self._running[player.member.name].poll()
        if status is not None:
            return Fate(is_running=False, exit_status=status, marks=(_ended(status),))
        marks = []
        life = life_of(player.pid)
        if life is None or life.start != player.start:
            marks.append("its first process is gone")
        elif life.state in "Tt":
            marks.append("it was stopped by a signal")
        if player.pids - group_members(player.pid):
            marks.append("one of its processes is gone")
        return Fate(is_running=life is not None, marks=tuple(marks))

    def fate_of_launched(self, member: Member) -> Fate:
        """How it ended; an end by itself has status 0."""
        status = self._running[member.name].poll()
        marks = () if status in (None, 0) else (_ended(status or 0),)
        return Fate(is_running=status is None, exit_status=status, marks=marks)

    def is_successor(self, player: Player, pid: int) -> bool:
        """Nobody restarts a plain process."""
        return False

    def dismiss(self, player: Player) -> None:
        """End its process group, politely; it is gone when this returns."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(player.pid, signal.SIGTERM)
        try:
            self._running[player.member.name].wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{player.member.name} does not end") from error

    def close(self) -> None:
        """End every process group and reap."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        end = time.monotonic() + STOP_WITHIN_S
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
            if process.stdout is not None:
                process.stdout.close()
        self._running.clear()


def _ended(status: int) -> str:
    return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"
