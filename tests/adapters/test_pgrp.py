"""Bare process groups: their members and nobody else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gpuwarden.adapters.pgrp import ProcessGroups
from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.procstat import ProcStat
from gpuwarden.adapters.tenancy import tenant_id
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from tests.adapters.trees import sleeper, wait_gone


@pytest.fixture
def groups() -> ProcessGroups:
    return ProcessGroups(SystemClock(), 10.0, lambda: ProcFs(None))


@contextmanager
def group(script: str) -> Iterator[tuple[int, list[int]]]:
    """A session of its own; its leader and the pids that the script printed."""
    with subprocess.Popen(
        ["bash", "-c", f"{script}; exec 1>&-; wait"], start_new_session=True, stdout=subprocess.PIPE
    ) as leader:
        assert leader.stdout is not None
        pids = [int(pid) for pid in leader.stdout.read().split()]
        try:
            yield leader.pid, pids
        finally:
            for pid in (leader.pid, *pids):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue


def target_of(pid: int) -> Target:
    """As the agent would have it: the member that holds bytes, named by its group."""
    processes = ProcFs(None)
    facts = processes.facts(pid)
    processes.close()
    assert facts is not None
    pgrp_facts = TenantId(f"pgrp:{facts.pgrp}@{facts.pgrp_start}")
    return Target(tenant=pgrp_facts, runtime="pgrp", pids=(facts.pid,))


CHILDREN = "for i in 1 2 3; do sleep 300 >&- & echo $!; done"
STUBBORN = "trap '' TERM; for i in 1 2 3; do sleep 300 >&- & echo $!; done"


@pytest.mark.parametrize(("script", "grace_s"), [(CHILDREN, 5.0), (STUBBORN, 0.2), (CHILDREN, 0.0)])
def test_stop_ends_the_group_and_no_other(
    groups: ProcessGroups, script: str, grace_s: float
) -> None:
    with sleeper() as bystander, group(script) as (leader, children):
        groups.stop(target_of(children[0]), grace_s)
        assert all(wait_gone(pid) for pid in (leader, *children))
        assert bystander.poll() is None


def test_other_groups_of_the_session_live(groups: ProcessGroups) -> None:
    # job control gives each background job a group of its own
    script = "set -m; sleep 300 >&- & echo $!; sleep 301 >&- & echo $!; set +m"
    with group(script) as (leader, (one, other)):
        assert os.getpgid(one) != os.getpgid(other)
        groups.stop(target_of(one), 0.0)
        assert wait_gone(one)
        assert os.getpgid(other) == other
        assert os.getpgid(leader) == leader


def test_group_lives_on_without_its_leader(groups: ProcessGroups) -> None:
    with group(CHILDREN) as (leader, children):
        target = target_of(children[1])
        os.kill(leader, 9)
        assert wait_gone(leader)
        groups.stop(target, 0.0)
        assert wait_gone(children[1])


def test_stopping_what_is_gone_is_done(groups: ProcessGroups) -> None:
    with group(CHILDREN) as (_, children):
        target = target_of(children[0])
        groups.stop(target, 0.0)
        groups.stop(target, 0.0)


def test_another_group_of_the_same_number_lives(groups: ProcessGroups) -> None:
    with sleeper() as process:
        other = Target(tenant=TenantId(f"pgrp:{process.pid}@1"), runtime="pgrp")
        groups.stop(other, 0.0)
        assert process.poll() is None


def test_own_group_and_init_s_are_never_touched(groups: ProcessGroups) -> None:
    mine = os.getpgrp()
    with subprocess.Popen(["sleep", "60"]) as child:
        assert os.getpgid(child.pid) == mine
        groups.stop(Target(tenant=TenantId(f"pgrp:{mine}@1"), runtime="pgrp"), 0.0)
        assert child.poll() is None
        assert list(ProcFs(None).group(mine)) == []
        child.kill()
    for tenant in ("pgrp:1@1", "pgrp:0@1", "pgrp:x@1", "unit:7", "pgrp:@"):
        with pytest.raises(Refused):
            groups.stop(Target(tenant=TenantId(tenant), runtime="pgrp"), 0.0)


def stat(comm: str, *, pid: int = 7, session: int = 7, tty: int = 0) -> ProcStat:
    return ProcStat(
        pid=pid,
        comm=comm,
        state="S",
        ppid=1,
        pgrp=7,
        session=session,
        tty=tty,
        threads=1,
        start=1,
    )


@pytest.mark.parametrize(
    ("one", "keeps"),
    [
        (stat("sshd"), True),
        (stat("sshd-session"), True),
        (stat("login", pid=8), True),
        (stat("systemd"), True),
        (stat("tmux: server"), True),
        (stat("bash", tty=34816), True),
        (stat("-zsh", tty=34816), True),
        (stat("bash", pid=8, tty=34816), False),
        (stat("bash"), False),
        (stat("python", tty=34816), False),
    ],
)
def test_who_keeps_a_login(one: ProcStat, keeps: bool) -> None:
    assert one.keeps_session is keeps


def test_login_shell_of_a_terminal_is_left_out(groups: ProcessGroups) -> None:
    """A shell that leads a terminal, with a child in its own group (no job control)."""
    program = """
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "+m", "-c", "sleep 300 & echo $! $$; wait; sleep 300; true"])
print(os.read(fd, 100).decode(), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        child, shell = (int(word) for word in holder.stdout.readline().split())
        assert os.getpgid(child) == shell
        groups.stop(target_of(child), 0.0)
        assert wait_gone(child)
        assert os.getsid(shell) == shell, "the shell lives"
        holder.kill()


def test_nobody_restarts_or_moves_a_group(groups: ProcessGroups) -> None:
    target = Target(tenant=TenantId("pgrp:7@1"), runtime="pgrp")
    assert groups.restart_off(target) == {}
    with pytest.raises(Unsupported):
        groups.relocate(target, DeviceId("GPU-x"), 1)


def test_tenant_name_matches_what_stop_compares() -> None:
    processes = ProcFs(None)
    with sleeper() as process:
        facts = processes.facts(process.pid)
        assert facts is not None
        if tenant_id(facts).startswith("pgrp:"):
            assert tenant_id(facts) == target_of(process.pid).tenant
    processes.close()
