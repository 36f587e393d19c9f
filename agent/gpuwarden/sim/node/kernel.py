"""The kernel of a simulated node: pids (and their reuse), signals, death, and the Processes port."""

import signal
from collections.abc import Callable, Sequence

from gpuwarden.errors import Refused
from gpuwarden.model.ids import CgroupId, DeviceId, Pid, TenantId
from gpuwarden.model.owner import CgroupOwner, ProcessFacts
from gpuwarden.sim.node.clock import SimClock
from gpuwarden.sim.node.ledger import Ledger
from gpuwarden.sim.node.process import Group, Habit, Process

MIB = 2**20
TICKS_S = 100
Room = Callable[[Process, DeviceId], int]
"""How many bytes more a process may allocate on a device."""


class Kernel:
    """Holds every process; implements ``ports.Processes``."""

    def __init__(self, clock: SimClock, ledger: Ledger, *, version: int) -> None:
        self.clock = clock
        self.ledger = ledger
        self.version = version
        self.table: dict[int, Process] = {}
        """Alive, and zombies: what has a pid."""
        self.remains: list[Process] = []
        """Ended, with bytes the driver has not taken back."""
        self.groups: dict[str, Group] = {}
        self.on_exit: list[Callable[[Process], None]] = []
        self.has_exits = False
        self._exits: list[Pid] = []
        self._next_pid = 1_000
        self._next_inode = 100
        self._reuse: list[int] = []
        self.reused = 0
        self.room: Room = lambda process, device: 2**63
        """Set by the cards: nobody starts with bytes that are not there."""

    # --- what the world does ---

    def make_group(self, path: str) -> Group:
        """A new directory; one of the same name that was removed is another one."""
        old = self.groups.get(path)
        if old is not None:
            old.is_there = False
        self._next_inode += 1
        group = Group(path, self._next_inode, "" if self.version == 2 else "freezer")
        self.groups[path] = group
        return group

    def remove_group(self, group: Group) -> None:
        """Remove a directory."""
        group.is_there = False
        if self.groups.get(group.path) is group:
            del self.groups[group.path]

    def reuse(self, pid: int) -> None:
        """The next process gets this pid, once it is free."""
        self._reuse.append(pid)

    def spawn(
        self,
        comm: str,
        group: Group,
        owner: CgroupOwner,
        tenant: TenantId | None,
        habit: Habit,
        *,
        uid: int = 1000,
        parent: Process | None = None,
    ) -> Process:
        """Start a process. ``tenant`` None: the process group is the tenant."""
        number = self._pid()
        pid = Pid(pid=number, start=int(self.clock.now() * TICKS_S))
        process = Process(
            pid=pid,
            comm=comm,
            uid=uid,
            pgrp=parent.pgrp if parent else number,
            pgrp_start=parent.pgrp_start if parent else pid.start,
            group=group,
            owner=owner,
            tenant=tenant or TenantId(f"pgrp:{number}@{pid.start}"),
            habit=habit,
        )
        if parent is not None and tenant is None:
            process.tenant = parent.tenant
        if habit.device is not None and habit.used_mib:
            held = process.hides if habit.is_hidden else process.holds
            size = min(habit.used_mib * MIB, max(0, self.room(process, habit.device)))
            held.update({habit.device: size} if size else {})
        self.table[number] = process
        self.ledger.note("start", process.tenant, pids=(pid,), text=comm, action="")
        if habit.forks_every_s is not None:
            self.clock.later(habit.forks_every_s, lambda: self._fork(process))
        return process

    def alive(self) -> list[Process]:
        """Every process that runs or could."""
        return [p for p in self.table.values() if p.is_alive]

    def of(self, tenant: TenantId) -> list[Process]:
        """A tenant's live processes."""
        return [p for p in self.table.values() if p.is_alive and p.tenant == tenant]

    def is_frozen(self, process: Process) -> bool:
        """Whether its group or one above it is frozen."""
        path = process.group.path
        return any(
            path == g.path or path.startswith(g.path.rstrip("/") + "/")
            for g in self.groups.values()
            if g.is_frozen
        )

    def grow(self, seconds: float, room: Room) -> bool:
        """Let everybody allocate for so long; whether somebody's bytes moved."""
        moved = False
        for process in self.alive():
            habit = process.habit
            if not habit.grow_mib_s or habit.device is None:
                continue
            if process.is_leaving or process.is_detached:
                continue
            if process.is_stuck or self.is_frozen(process):
                continue
            moved |= _allocate(process, habit.device, seconds, room)
        return moved

    def bytes_of(self, tenant: TenantId, device: DeviceId) -> int:
        """What a tenant really holds on a device: hidden bytes and those of its dead too."""
        mine = [p for p in self.everyone() if p.tenant == tenant]
        return sum(p.holds.get(device, 0) + p.hides.get(device, 0) for p in mine)

    def everyone(self) -> list[Process]:
        """All that may hold bytes: the living, zombies, and the dead whose bytes are not back yet."""
        if not self.remains:
            return list(self.table.values())
        return list({id(p): p for p in (*self.table.values(), *self.remains)}.values())

    def deliver(self, process: Process, signum: int) -> None:
        """A signal, with all that can keep it waiting."""
        if not process.is_alive:
            return
        is_frozen = self.is_frozen(process)
        if signum == signal.SIGKILL:
            if process.is_stuck or (is_frozen and self.version == 1):
                process.has_kill = True
            else:
                self.end(process, "killed")
        elif is_frozen or process.is_stuck:
            process.has_term = True
        else:
            self._heard(process)

    def thawed(self, group: Group) -> None:
        """What waited in a group that runs again."""
        for process in self.members(group):
            self._resume(process)

    def set_stuck(self, process: Process, is_stuck: bool) -> None:
        """Put it to uninterruptible sleep, or wake it."""
        process.is_stuck = is_stuck
        if not is_stuck:
            self._resume(process)

    def end(self, process: Process, why: str) -> None:
        """It is dead; its bytes come back a little later, or never."""
        if not process.is_alive:
            return
        process.ended_at = self.clock.now()
        self._exits.append(process.pid)
        self.has_exits = True
        if process.habit.reaped:
            self.table.pop(process.pid.pid, None)
        else:
            process.is_zombie = True
        if process.holds or process.hides:
            self.remains.append(process)
            if not process.habit.leaks:
                self.clock.later(process.habit.free_s, lambda: self._free(process))
        self.ledger.note("exit", process.tenant, pids=(process.pid,), text=why)
        for told in list(self.on_exit):
            told(process)

    def members(self, group: Group) -> list[Process]:
        """Live processes of a group and everything below it."""
        below = group.path.rstrip("/") + "/"
        return [
            p
            for p in self.table.values()
            if p.is_alive and (p.group is group or p.group.path.startswith(below))
        ]

    # --- ports.Processes ---

    def facts(self, pid: int) -> ProcessFacts | None:
        process = self.table.get(pid)
        if process is None or not process.is_alive:
            return None
        group = process.group
        return ProcessFacts(
            pid=process.pid,
            ppid=1,
            pgrp=process.pgrp,
            session=process.pgrp,
            state="D" if process.is_stuck else "S",
            comm=process.comm,
            uid=process.uid,
            owner=process.owner,
            cgroup=CgroupId(path=group.path, inode=group.inode, hierarchy=group.hierarchy),
            pgrp_start=process.pgrp_start,
        )

    def reread(self, pid: Pid) -> ProcessFacts | None:
        facts = self.facts(pid.pid)
        return facts if facts is not None and facts.pid == pid else None

    def is_alive(self, pid: Pid) -> bool:
        process = self.table.get(pid.pid)
        return process is not None and process.pid == pid and process.is_alive

    def group(self, pgrp: int) -> Sequence[Pid]:
        return sorted(p.pid for p in self.alive() if p.pgrp == pgrp)

    def rotate(self, count: int) -> int:
        """Nothing is cached here: facts are always those of now."""
        return 0

    def is_stuck(self, pid: Pid) -> bool:
        process = self.table.get(pid.pid)
        return process is not None and process.pid == pid and process.is_stuck

    def signal(self, pid: Pid, signum: int) -> None:
        process = self.table.get(pid.pid)
        if process is None or process.pid != pid or not process.is_alive:
            raise Refused(f"pid {pid.pid} is another process now, or none")
        kind = "kill" if signum == signal.SIGKILL else "term"
        self.ledger.note(kind, process.tenant, pids=(pid,))
        self.deliver(process, signum)

    def exited(self) -> Sequence[Pid]:
        exits, self._exits, self.has_exits = self._exits, [], False
        return exits

    def filenos(self) -> Sequence[int]:
        return ()

    # --- inside ---

    def _pid(self) -> int:
        while self._reuse:
            number = self._reuse.pop(0)
            if number not in self.table:
                self.reused += 1
                return number
        self._next_pid += 1
        return self._next_pid

    def _fork(self, parent: Process) -> None:
        habit = parent.habit
        if not parent.is_alive or habit.forks_every_s is None:
            return
        if not self.is_frozen(parent) and not parent.is_stuck and parent.group.is_there:
            small = Habit(device=habit.device, used_mib=16, obeys=habit.obeys, exit_s=habit.exit_s)
            self.spawn(
                parent.comm,
                parent.group,
                parent.owner,
                parent.tenant,
                small,
                uid=parent.uid,
                parent=parent,
            )
        self.clock.later(habit.forks_every_s, lambda: self._fork(parent))

    def _heard(self, process: Process) -> None:
        habit = process.habit
        if habit.shrinks_on_term_mib is not None:
            habit.grow_mib_s, habit.goal_mib = -1e6, habit.shrinks_on_term_mib
        elif habit.obeys and not process.is_leaving:
            process.is_leaving = True
            self.clock.later(habit.exit_s, lambda: self._leave(process))

    def _leave(self, process: Process) -> None:
        if process.is_stuck or self.is_frozen(process):
            self.clock.later(0.05, lambda: self._leave(process))
        elif process.is_alive:
            self.end(process, "left on TERM")

    def _resume(self, process: Process) -> None:
        if process.is_stuck or self.is_frozen(process):
            return
        if process.has_kill:
            self.end(process, "killed")
        elif process.has_term:
            process.has_term = False
            self._heard(process)

    def _free(self, process: Process) -> None:
        process.holds.clear()
        process.hides.clear()
        if process in self.remains:
            self.remains.remove(process)


def _allocate(process: Process, device: DeviceId, seconds: float, room: Room) -> bool:
    habit = process.habit
    held = process.hides if habit.is_hidden else process.holds
    now = held.get(device, 0)
    step = int(habit.grow_mib_s * MIB * seconds)
    goal = habit.goal_mib * MIB
    want = min(now + step, goal) if step > 0 else max(now + step, goal)
    if want > now:
        want = now + min(want - now, max(0, room(process, device)))
    if want == now:
        return False
    if want <= 0:
        held.pop(device, None)
    else:
        held[device] = want
    return True
