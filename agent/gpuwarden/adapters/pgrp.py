"""The ``Runtime`` port for a bare process group: what no manager owns, down to plain processes.

Only members of that very group are ever signalled: not other groups of the session, not the login
shell or sshd that the session hangs on (``ProcFs.group`` leaves them out), not init, not the agent.
"""

import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence

from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.tenancy import key_of, tenant_id
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, Pid
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts

_PASSES = 20


class ProcessGroups:
    """Implements ``ports.Runtime``; each call reads /proc afresh, so any thread may call."""

    def __init__(self, clock: Clock, timeout_s: float, open_proc: Callable[[], ProcFs]) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._open_proc = open_proc

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        raise Refused("a process group has nobody who could describe it")

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """Nobody restarts a bare process group."""
        return {}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        """TERM to every member, KILL to those left after ``grace_s``; gone when this returns."""
        processes = self._open_proc()
        try:
            if grace_s > 0:
                left = self._signal(processes, target, signal.SIGTERM)
                _wait(left, grace_s)
            until = self._clock.now() + self._timeout_s
            for _ in range(_PASSES):
                left = self._signal(processes, target, signal.SIGKILL)
                if not left:
                    return
                _wait(left, max(0.0, until - self._clock.now()))
            raise Unavailable(f"{target.tenant}: {len(left)} processes do not go away")
        finally:
            processes.close()

    def restart(self, target: Target, grace_s: float) -> None:
        raise Unsupported("nobody here knows how to start a bare process group again")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("a bare process group cannot be started again elsewhere")

    def _signal(self, processes: ProcFs, target: Target, signum: int) -> Sequence[Pid]:
        """Signal the members that still are this tenant's; those hit."""
        pgrp = int(key_of(target.tenant)) if key_of(target.tenant).isdecimal() else 0
        if not target.tenant.startswith("pgrp:") or pgrp <= 1:
            raise Refused(f"{target.tenant} is no process group to act on")
        hit: list[Pid] = []
        for pid in processes.group(pgrp):
            facts = processes.reread(pid)
            if facts is None or not _is_of(target, tenant_id(facts), pid):
                continue
            try:
                processes.signal(pid, signum)
            except Refused:
                continue
            hit.append(pid)
        return hit


def _is_of(target: Target, tenant: str, pid: Pid) -> bool:
    """The same group; once its leader is gone its name may tell another start, so known pids count."""
    return tenant == target.tenant or pid in target.pids


def _wait(pids: Sequence[Pid], seconds: float) -> None:
    """Until all have ended, or the time is up."""
    poll = select.poll()
    fds: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                fd = os.pidfd_open(pid.pid)
            except OSError:
                continue
            fds[fd] = pid.pid
            poll.register(fd, select.POLLIN)
        waiting = set(fds)
        while waiting and seconds > 0:
            fired = poll.poll(seconds * 1000)
            if not fired:
                return
            for fd, _ in fired:
                poll.unregister(fd)
                waiting.discard(fd)
    finally:
        for fd in fds:
            os.close(fd)
