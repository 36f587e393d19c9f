"""A process as the kernel tells it, read by the observer itself and by no code of the agent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("freezer", "cpu", "memory", "pids")


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process now: its start in clock ticks tells it from a later one with its pid."""

    pid: int
    start: int
    state: str
    group: int


def life_of(pid: int) -> Life | None:
    """The process, or ``None`` when there is none (a zombie is none)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Life(pid=pid, start=int(fields[19]), state=fields[0], group=int(fields[2]))


def group_members(group: int) -> frozenset[int]:
    """Live members of a process group."""
    lives = (life_of(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return frozenset(life.pid for life in lives if life is not None and life.group == group)


def cgroup_folders(pid: int) -> tuple[Path, ...]:
    """The process's own cgroups: the unified one and the v1 controllers that can hurt it."""
    mounts = _mounts()
    folders = []
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        # 6:freezer:/docker/6f3c..., 0::/docker/6f3c...
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            mount = mounts.get(name)
            if mount is None or path == "/" or name not in ("", *CONTROLLERS):
                continue
            folder = mount / path.lstrip("/")
            if folder.is_dir() and folder not in folders:
                folders.append(folder)
    return tuple(folders)


def _mounts() -> dict[str, Path]:
    """Where each v1 controller, and under ``""`` the unified tree, is mounted."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        # 32 25 0:29 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        place = Path(left.split()[4])
        if kind == "cgroup2":
            found.setdefault("", place)
        elif kind == "cgroup":
            for option in options.split(","):
                if option in CONTROLLERS:
                    found.setdefault(option, place)
    return found
