"""Which tasks of the host hold a GPU and are stuck, which are dead and still listed, which are services.

One pass reads ``stat`` of every process, and more (``schedstat``, the threads, the links in ``fd``) only of
those that matter; ``cmdline``, ``environ`` and ``maps`` are never opened: they can hang on a stuck process.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gpuwarden.adapters.procstat import ProcStat, parse_stat
from gpuwarden.model.device import Listing, ProcessUse
from gpuwarden.model.health import GpuTask, Remains
from gpuwarden.model.ids import Pid

INITIAL_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of the kernel: the pids there are those that the driver names."""
# /dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm; also one that was deleted under its user
_DEVICE = re.compile(r"/dev/nvidia(?:\d{1,3}|ctl|-uvm)(?: \(deleted\))?\Z")
_MAX_FILES = 4096
_MAX_THREADS = 1024
_MAX_TASKS = 64
"""So many stuck tasks, and so many remains, are told of; a host with more is ill enough by then."""
_STAT_BYTES = 1024
_SYSTEM_UID_MAX = 999
"""Services run as root or as a system user: what an ordinary user calls by their name is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One pass. ``stuck`` and ``remains`` are empty where the host's pids cannot be seen."""

    stuck: tuple[GpuTask, ...] = ()
    remains: tuple[Remains, ...] = ()
    named: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Processes of the wanted names that run, by name, outside any pid namespace of their own."""
    sees_host: bool = False


class GpuTasks:
    """Remembers from one pass to the next who was stuck, and how much CPU time it had had."""

    def __init__(self, proc: str, wanted: Iterable[str]) -> None:
        """``wanted``: names as the kernel cuts them, at 15 bytes."""
        self._proc = proc
        self._wanted = frozenset(name.encode() for name in wanted)
        self._before: dict[tuple[int, int, int], tuple[int, float]] = {}
        """(pid, start, thread) in state D -> its CPU time, and since when it has had no more."""

    def look(self, now: float, listings: Sequence[Listing]) -> Found:
        """One pass at ``now``; ``listings``: what the driver says of who holds bytes."""
        held = _held(listings)
        sees_host = self._sees_host()
        pids = self._pids()
        if pids is None:
            return Found()
        seen: dict[tuple[int, int, int], tuple[int, float]] = {}
        stuck: list[GpuTask] = []
        dead: dict[int, ProcStat] = {}
        named: dict[str, list[int]] = {}
        for pid in pids:
            raw = self._raw(pid)
            closing = raw.rfind(b")")
            name, state = raw[raw.find(b"(") + 1 : closing], raw[closing + 2 : closing + 3]
            if name in self._wanted and state not in (b"Z", b"X") and self._is_hosts(pid):
                named.setdefault(name.decode("ascii", "replace"), []).append(pid)
            if pid not in held and state != b"D":
                continue
            stat = parse_stat(raw)
            if stat is None:
                continue
            if pid in held and not stat.is_running:
                dead[pid] = stat
            elif sees_host and len(stuck) < _MAX_TASKS:
                stuck += self._stuck(stat, pid in held, now, seen)
        self._before = seen
        return Found(
            stuck=tuple(stuck),
            remains=self._remains(held, set(pids), dead) if sees_host else (),
            named={name: tuple(them) for name, them in named.items()},
            sees_host=sees_host,
        )

    def _sees_host(self) -> bool:
        """Whether the pids here are the host's: in a container the driver's pids are other processes."""
        for who in ("1", "self"):
            try:
                return os.readlink(f"{self._proc}/{who}/ns/pid") == INITIAL_NAMESPACE
            except OSError:
                continue
        return False

    def _is_hosts(self, pid: int) -> bool:
        """Whether a process is the system's and no container's; where that cannot be read, it may be."""
        try:
            if os.stat(f"{self._proc}/{pid}").st_uid > _SYSTEM_UID_MAX:
                return False
            return os.readlink(f"{self._proc}/{pid}/ns/pid") == INITIAL_NAMESPACE
        except OSError:
            return True

    def _pids(self) -> list[int] | None:
        try:
            return [int(n) for n in os.listdir(self._proc) if n.isascii() and n.isdigit()]
        except OSError:
            return None

    def _raw(self, pid: int) -> bytes:
        """``stat`` of a process; empty when it has ended."""
        return _read(f"{self._proc}/{pid}/stat")

    def _stuck(
        self,
        stat: ProcStat,
        is_held: bool,
        now: float,
        seen: dict[tuple[int, int, int], tuple[int, float]],
    ) -> list[GpuTask]:
        """The process, when a task of it has been in state D without CPU time since the last pass."""
        since: float | None = None
        for thread in self._threads(stat, is_held):
            key = (stat.pid, stat.start, thread)
            cpu_ns = self._cpu_ns(stat.pid, thread)
            if cpu_ns is None:
                continue
            before = self._before.get(key)
            began = before[1] if before is not None and before[0] == cpu_ns else now
            seen[key] = (cpu_ns, began)
            if began < now:
                since = began if since is None else min(since, began)
        if since is None:
            return []
        holds = self._device_of(stat.pid) or ("listed" if is_held else "")
        if not holds:
            return []
        pid = Pid(pid=stat.pid, start=stat.start)
        return [GpuTask(pid=pid, comm=_shown(stat.comm), since=since, holds=holds)]

    def _threads(self, stat: ProcStat, is_held: bool) -> Iterator[int]:
        """Threads in state D; of a process that the driver does not list, its first one alone."""
        if stat.state == "D":
            yield stat.pid
        if not is_held or stat.threads <= 1:
            return
        folder = f"{self._proc}/{stat.pid}/task"
        for name in _names(folder, _MAX_THREADS):
            if name.isdecimal() and int(name) != stat.pid:
                thread = parse_stat(_read(f"{folder}/{name}/stat"))
                if thread is not None and thread.state == "D":
                    yield int(name)

    def _cpu_ns(self, pid: int, thread: int) -> int | None:
        """``860324 165970 3``: ns on a CPU, ns waiting for one, turns."""
        words = _read(f"{self._proc}/{pid}/task/{thread}/schedstat").split()
        return int(words[0]) if words and words[0].isdigit() else None

    def _device_of(self, pid: int) -> str:
        """The first NVIDIA device file that a process has open; empty: none, or not readable."""
        folder = f"{self._proc}/{pid}/fd"
        for name in _names(folder, _MAX_FILES):
            try:
                target = os.readlink(f"{folder}/{name}")
            except OSError:
                continue
            if _DEVICE.match(target):
                return target.removesuffix(" (deleted)")
        return ""

    def _remains(
        self, held: Mapping[int, list[ProcessUse]], alive: set[int], dead: Mapping[int, ProcStat]
    ) -> tuple[Remains, ...]:
        found = []
        for pid, rows in held.items():
            stat = dead.get(pid)
            if stat is None and pid in alive:
                continue
            for row in rows:
                if row.used_bytes:
                    found.append(
                        Remains(
                            device=row.device,
                            raw_pid=pid,
                            used_bytes=row.used_bytes,
                            is_zombie=stat is not None,
                            comm=_shown(stat.comm) if stat is not None else "",
                            parent=stat.ppid if stat is not None else None,
                        )
                    )
        return tuple(found[:_MAX_TASKS])


def _held(listings: Sequence[Listing]) -> dict[int, list[ProcessUse]]:
    held: dict[int, list[ProcessUse]] = {}
    for listing in listings:
        for row in listing.rows:
            held.setdefault(row.raw_pid, []).append(row)
    return held


def _names(folder: str, most: int) -> list[str]:
    try:
        return os.listdir(folder)[:most]
    except OSError:
        return []


def _read(path: str) -> bytes:
    """The beginning of a file of /proc; empty when it is not there (any more) or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        return os.read(fd, _STAT_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _shown(comm: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in comm)[:32]
