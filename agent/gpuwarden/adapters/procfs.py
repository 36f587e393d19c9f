"""The ``Processes`` port on /proc: stat and cgroup only, a pidfd before either is read.

``cmdline`` and ``environ`` are never opened: they can hang on a process that is stuck in the driver.
A process is read once, pidfd first, and remembered until that pidfd fires; all pidfds stand in one
epoll, so looking whether anybody exited costs one call for all of them.
"""

import errno
import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from gpuwarden.adapters.cgroup_owner import owner_of_bytes
from gpuwarden.adapters.cgroup_tree import read_all
from gpuwarden.adapters.procstat import ProcStat, parse_stat
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.ids import Pid
from gpuwarden.model.owner import ProcessFacts
from gpuwarden.ports import Cgroups

_MAX_FILE = 256 * 1024
_MAX_EVENTS = 64
_GONE = (errno.ENOENT, errno.ESRCH)
_NO_PIDFD = (errno.ENOSYS, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EINVAL)


@dataclass(slots=True)
class _Watched:
    facts: ProcessFacts
    pidfd: int | None
    cgroup: bytes = b""
    """``/proc/<pid>/cgroup`` just before all of it was last read anew in its turn; empty: not yet."""


@dataclass(slots=True)
class _Group:
    """A process group with remembered members: its start is kept when the leader goes."""

    start: int
    members: int


class ProcFs:
    """Implements ``ports.Processes``. Owned by one thread.

    At most ``capacity`` processes are remembered; the longest known gives way (``evicted`` counts).
    ``has_pidfd=False`` is the degraded form for kernels before 5.3: start times are compared instead,
    before and after.
    """

    def __init__(
        self,
        cgroups: Cgroups | None,
        *,
        proc: str = "/proc",
        capacity: int = 8192,
        has_pidfd: bool = True,
    ) -> None:
        self._cgroups = cgroups
        self._proc = proc
        self._capacity = capacity
        self._has_pidfd = has_pidfd
        self._epoll = select.epoll()
        self._watched: dict[int, _Watched] = {}
        self._exited: list[Pid] = []
        self._by_fd: dict[int, int] = {}
        self._groups: dict[int, _Group] = {}
        self._rotation: list[int] = []
        self.evicted = 0

    def facts(self, pid: int) -> ProcessFacts | None:
        self._collect()
        entry = self._watched.get(pid)
        if entry is not None and (entry.pidfd is not None or self._is_still(entry.facts.pid)):
            return entry.facts
        if entry is not None:
            self._note_exit(pid)
        pidfd = self._pidfd(pid)
        facts = self._read(pid, pidfd)
        if facts is None:
            _close(pidfd)
            return None
        self._remember(facts, pidfd)
        return facts

    def reread(self, pid: Pid) -> ProcessFacts | None:
        pidfd = self._pidfd(pid.pid)
        try:
            facts = self._read(pid.pid, pidfd)
        finally:
            _close(pidfd)
        if facts is None or facts.pid != pid:
            return None
        entry = self._watched.get(pid.pid)
        if entry is not None and entry.facts.pid == pid:
            self._leave_group(entry.facts)
            self._enter_group(facts)
            entry.facts = facts
        return facts

    def is_alive(self, pid: Pid) -> bool:
        self._collect()
        entry = self._watched.get(pid.pid)
        if entry is not None and entry.pidfd is not None:
            return entry.facts.pid == pid
        return self._is_still(pid)

    def group(self, pgrp: int) -> Sequence[Pid]:
        """Without whom a login hangs on, and nobody of the agent's own group or of init's."""
        if pgrp in (0, 1, os.getpgrp()):
            return ()
        members: list[Pid] = []
        for name in os.listdir(self._proc):
            if not name.isascii() or not name.isdigit():
                continue
            try:
                stat = self._stat(int(name))
            except Unavailable:
                continue
            if stat is None or stat.pgrp != pgrp or not stat.is_running:
                continue
            if not stat.keeps_session and stat.pid not in (1, os.getpid()):
                members.append(Pid(pid=stat.pid, start=stat.start))
        return members

    def is_stuck(self, pid: Pid) -> bool:
        stat = self._stat(pid.pid)
        return stat is not None and stat.start == pid.start and stat.state == "D"

    def signal(self, pid: Pid, signum: int) -> None:
        """``Refused`` also when it has exited, and for init, kernel threads and the agent itself."""
        if pid.pid in (1, 2, os.getpid()) or pid.pid <= 0:
            raise Refused(f"pid {pid.pid} is never signalled")
        pidfd = self._pidfd(pid.pid)
        try:
            stat = self._stat(pid.pid)
            if stat is None or not stat.is_running:
                raise Refused(f"pid {pid.pid} has exited")
            if stat.start != pid.start:
                raise Refused(f"pid {pid.pid} is another process now (its start time changed)")
            if stat.ppid == 2:
                raise Refused(f"pid {pid.pid} is a kernel thread")
            if pidfd is None:
                os.kill(pid.pid, signum)
            else:
                signal.pidfd_send_signal(pidfd, signum)
        except ProcessLookupError as error:
            raise Refused(f"pid {pid.pid} has exited") from error
        except PermissionError as error:
            raise Unavailable(f"no permission to signal pid {pid.pid}") from error
        finally:
            _close(pidfd)

    def exited(self) -> Sequence[Pid]:
        self._collect()
        if len(self._by_fd) < len(self._watched):
            self._collect_unwatched()
        gone, self._exited = self._exited, []
        return gone

    def filenos(self) -> Sequence[int]:
        return (self._epoll.fileno(),)

    def rotate(self, count: int) -> int:
        """Re-read the next ``count`` remembered processes; how many changed cgroup or process group."""
        self._collect()
        moved = 0
        for _ in range(min(count, len(self._watched))):
            if not self._rotation:
                self._rotation = list(self._watched)
            entry = self._watched.get(self._rotation.pop())
            if entry is None:
                continue
            before = entry.facts
            cgroup = self._cgroup_now(entry)
            if cgroup == entry.cgroup != b"":
                continue
            after = self.reread(before.pid)
            if after is not None:
                entry.cgroup = cgroup
                moved += (after.owner, after.pgrp) != (before.owner, before.pgrp)
        return moved

    def _cgroup_now(self, entry: _Watched) -> bytes:
        """The text that names its cgroup; empty where anything else of it has changed, or cannot be read."""
        facts = entry.facts
        try:
            cgroup, stat = self._contents(facts.pid.pid, "cgroup"), self._stat(facts.pid.pid)
        except (OSError, Unavailable):
            return b""
        if stat is None or entry.pidfd is None:
            return b""
        now = (stat.start, stat.ppid, stat.pgrp, stat.session, stat.comm)
        then = (facts.pid.start, facts.ppid, facts.pgrp, facts.session, facts.comm)
        return cgroup if now == then else b""

    def close(self) -> None:
        for pid in list(self._watched):
            self._drop(pid)
        self._epoll.close()

    def _read(self, pid: int, pidfd: int | None) -> ProcessFacts | None:
        """Everything about the process the pidfd stands for; ``None`` when it ended meanwhile."""
        stat = self._stat(pid)
        if stat is None or not stat.is_running:
            return None
        try:
            owner = owner_of_bytes(self._contents(pid, "cgroup"))
            uid = os.stat(f"{self._proc}/{pid}").st_uid
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise Unavailable(f"/proc/{pid}: {error.strerror}") from error
        if pidfd is None:
            again = self._stat(pid)
            is_same = again is not None and again.is_running and again.start == stat.start
        else:
            is_same = not _has_fired(pidfd)
        if not is_same:
            return None
        return ProcessFacts(
            pid=Pid(pid=pid, start=stat.start),
            ppid=stat.ppid,
            pgrp=stat.pgrp,
            session=stat.session,
            state=stat.state,
            comm=stat.comm,
            uid=uid,
            owner=owner,
            cgroup=self._cgroups.locate(owner) if self._cgroups else None,
            pgrp_start=self._group_start(stat),
        )

    def _group_start(self, stat: ProcStat) -> int:
        """Start of the group's leader; when it is gone, what was known, else of this first member."""
        if stat.pid == stat.pgrp:
            return stat.start
        leader = self._stat(stat.pgrp) if stat.pgrp > 0 else None
        if leader is not None and leader.pgrp == stat.pgrp:
            return leader.start
        known = self._groups.get(stat.pgrp)
        return known.start if known else stat.start

    def _enter_group(self, facts: ProcessFacts) -> None:
        group = self._groups.setdefault(facts.pgrp, _Group(facts.pgrp_start, 0))
        group.start = facts.pgrp_start
        group.members += 1

    def _leave_group(self, facts: ProcessFacts) -> None:
        group = self._groups[facts.pgrp]
        group.members -= 1
        if group.members == 0:
            del self._groups[facts.pgrp]

    def _remember(self, facts: ProcessFacts, pidfd: int | None) -> None:
        while len(self._watched) >= self._capacity:
            self._drop(next(iter(self._watched)))
            self.evicted += 1
        if pidfd is not None:
            self._epoll.register(pidfd, select.EPOLLIN)
            self._by_fd[pidfd] = facts.pid.pid
        self._enter_group(facts)
        self._watched[facts.pid.pid] = _Watched(facts, pidfd)

    def _collect(self) -> None:
        """Take note of every remembered process whose pidfd fired."""
        while fired := self._epoll.poll(0, _MAX_EVENTS):
            for fd, _ in fired:
                self._note_exit(self._by_fd[fd])

    def _collect_unwatched(self) -> None:
        """The same for those without a pidfd, one stat each."""
        for pid, entry in list(self._watched.items()):
            if entry.pidfd is None and not self._is_still(entry.facts.pid):
                self._note_exit(pid)

    def _note_exit(self, pid: int) -> None:
        self._exited.append(self._watched[pid].facts.pid)
        self._drop(pid)

    def _drop(self, pid: int) -> None:
        entry = self._watched.pop(pid)
        self._leave_group(entry.facts)
        if entry.pidfd is not None:
            del self._by_fd[entry.pidfd]
            self._epoll.unregister(entry.pidfd)
            os.close(entry.pidfd)

    def _pidfd(self, pid: int) -> int | None:
        """A pidfd, or ``None`` where there is none to be had: gone, not supported, out of descriptors."""
        if not self._has_pidfd:
            return None
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            if error.errno in (*_GONE, *_NO_PIDFD):
                return None
            raise Unavailable(f"pidfd of {pid}: {error.strerror}") from error

    def _is_still(self, pid: Pid) -> bool:
        stat = self._stat(pid.pid)
        return stat is not None and stat.start == pid.start and stat.is_running

    def _stat(self, pid: int) -> ProcStat | None:
        """Fields of ``stat``; ``None`` when there is no such process, ``Unavailable`` when unreadable."""
        try:
            raw = self._contents(pid, "stat")
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise Unavailable(f"/proc/{pid}/stat: {error.strerror}") from error
        stat = parse_stat(raw)
        if stat is None:
            raise Unavailable(f"/proc/{pid}/stat is no stat line")
        return stat

    def _contents(self, pid: int, name: str) -> bytes:
        fd = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_all(fd, _MAX_FILE)
        finally:
            os.close(fd)


def _has_fired(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _close(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)
