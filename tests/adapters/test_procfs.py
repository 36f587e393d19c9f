"""Processes by /proc and pidfd: real ones of our own."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.procstat import parse_stat
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.ids import Pid
from tests.adapters.trees import join, real_group, real_hierarchies, sleeper, wait_gone

REST = b" S 7 4711 4710 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 88123 1 2 3"


@pytest.fixture(params=[True, False], ids=["pidfd", "degraded"])
def processes(request: pytest.FixtureRequest) -> Iterator[ProcFs]:
    reader = ProcFs(None, has_pidfd=request.param)
    yield reader
    reader.close()


@pytest.mark.parametrize(
    "comm",
    [b"python", b"", b")", b"a) S 1 (b", b"x\ny", b"\\n", b"(((", b"))) Z 0", b"\xff\xfe", b" "],
)
def test_stat_of_any_name(comm: bytes) -> None:
    stat = parse_stat(b"4711 (" + comm + b")" + REST)
    assert stat is not None
    assert (stat.pid, stat.state, stat.ppid, stat.pgrp) == (4711, "S", 7, 4711)
    assert (stat.session, stat.threads, stat.start) == (4710, 3, 88123)
    assert stat.comm == comm.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "raw", [b"", b"4711", b"4711 (a", b"4711 (a) S 1 2", b"(a)" + REST, b"4711 (a) SS" + REST[2:]]
)
def test_what_is_no_stat_line(raw: bytes) -> None:
    assert parse_stat(raw) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read(raw: bytes) -> None:
    parse_stat(raw)
    stat = parse_stat(b"1 (" + raw + b")" + REST)
    assert stat is not None
    assert stat.start == 88123


@pytest.mark.parametrize("name", ["a) S 1 (b", "new\nline", "\udcff\udcfe", "back\\slash", "("])
def test_real_process_of_an_odd_name(processes: ProcFs, tmp_path: Path, name: str) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, tmp_path / name)
    with sleeper([str(tmp_path / name), "300"]) as process:
        facts = processes.facts(process.pid)
        assert facts is not None
        assert (facts.pid.pid, facts.ppid, facts.pgrp) == (process.pid, os.getpid(), process.pid)
        assert facts.uid == os.getuid()
        assert facts.comm[0] in (name[0], "\ufffd")
        processes.signal(facts.pid, signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


def test_exit_is_seen_once_and_wakes(processes: ProcFs) -> None:
    with sleeper() as process:
        facts = processes.facts(process.pid)
        assert facts is not None
        assert processes.is_alive(facts.pid)
        assert list(processes.exited()) == []
        process.kill()
        assert wait_gone(process.pid)
        if processes._has_pidfd:
            assert select.select(processes.filenos(), [], [], 10)[0]
        assert not processes.is_alive(facts.pid), "a zombie is not alive"
        assert list(processes.exited()) == [facts.pid]
        assert list(processes.exited()) == []
        assert processes.facts(process.pid) is None
        assert processes.reread(facts.pid) is None
        with pytest.raises(Refused, match="exited"):
            processes.signal(facts.pid, signal.SIGTERM)


def test_no_such_process(processes: ProcFs) -> None:
    assert processes.facts(2**22 + 1) is None
    assert not processes.is_alive(Pid(pid=2**22 + 1, start=1))
    assert not processes.is_stuck(Pid(pid=2**22 + 1, start=1))


def test_start_time_must_match(processes: ProcFs) -> None:
    with sleeper() as process:
        facts = processes.facts(process.pid)
        assert facts is not None
        other = Pid(pid=process.pid, start=facts.pid.start + 1)
        assert not processes.is_alive(other)
        assert processes.reread(other) is None
        with pytest.raises(Refused, match="another process"):
            processes.signal(other, signal.SIGKILL)
        assert process.poll() is None


@pytest.mark.parametrize("pid", [1, os.getpid(), 0, -1, 2])
def test_never_signalled(processes: ProcFs, pid: int) -> None:
    with pytest.raises(Refused):
        processes.signal(Pid(pid=pid, start=0), signal.SIGTERM)


def test_group_members_and_the_start_of_the_leader(processes: ProcFs) -> None:
    script = "sleep 300 >&- & sleep 301 >&- & exec 1>&-; wait"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=-1) as leader:
        assert leader.stdout is not None
        leader.stdout.read()  # closed: both children run
        members = processes.group(leader.pid)
        assert len(members) == 3
        children = [member for member in members if member.pid != leader.pid]
        first = processes.facts(children[0].pid)
        lead = processes.facts(leader.pid)
        assert first is not None
        assert lead is not None
        assert first.pgrp_start == lead.pid.start
        leader.kill()
        leader.wait()
        second = processes.facts(children[1].pid)
        assert second is not None
        assert second.pgrp_start == lead.pid.start, "remembered while members are"
        fresh = ProcFs(None)
        late = fresh.facts(children[0].pid)
        assert late is not None
        assert late.pgrp_start == late.pid.start
        assert set(processes.group(leader.pid)) == set(children)
        for child in children:
            processes.signal(child, signal.SIGKILL)
            assert wait_gone(child.pid)
        fresh.close()


def test_memory_is_bounded() -> None:
    with sleeper() as one, sleeper() as two, sleeper() as three:
        processes = ProcFs(None, capacity=2)
        fds = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            for process in (one, two, three):
                assert processes.facts(process.pid) is not None
        assert processes.evicted == 13
        assert len(os.listdir("/proc/self/fd")) == fds + 2
        processes.close()


def test_unreadable_process_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77/stat").write_bytes(b"garbage")
    processes = ProcFs(None, proc=str(tmp_path), has_pidfd=False)
    with pytest.raises(Unavailable, match="no stat line"):
        processes.facts(77)


@pytest.mark.root
def test_a_process_that_moves_is_seen_before_acting() -> None:
    everywhere = real_hierarchies()
    cgroups = CgroupFs()
    processes = ProcFs(cgroups)
    with real_group(*everywhere) as old, real_group(*everywhere) as new, sleeper() as process:
        join(process.pid, old, *everywhere)
        decided = processes.facts(process.pid)
        assert decided is not None
        assert decided.cgroup is not None
        assert decided.cgroup.path == old
        join(process.pid, new, *everywhere)
        assert processes.facts(process.pid) == decided, "remembered"
        now = processes.reread(decided.pid)
        assert now is not None
        assert now.cgroup is not None
        assert now.cgroup.path == new
        assert process.pid not in cgroups.members(decided.cgroup)
        assert cgroups.kill(decided.cgroup) == 0
        assert process.poll() is None
        join(process.pid, old, *everywhere)
        assert processes.rotate(10) == 1
        assert processes.rotate(10) == 0
        join(process.pid, new, *everywhere)
        assert processes.rotate(10) == 1, "it had stood still before"
        again = processes.facts(process.pid)
        assert again is not None
        assert again.cgroup is not None
        assert again.cgroup.path == new
        process.kill()
        process.wait()
    processes.close()


@pytest.mark.root
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", ["pidfd", "degraded"])
@pytest.mark.parametrize("rounds", [60, pytest.param(5_000, marks=pytest.mark.slow)])
def test_a_reused_pid_is_never_hit(way: str, rounds: int) -> None:
    """Ten thousand times in the slow tier, both ways together."""
    script = Path(__file__).parent / "reuse_pids.py"
    done = subprocess.run(
        [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            sys.executable,
            str(script),
            str(rounds),
            way,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=100 + rounds / 5,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    counts = {"rounds": rounds, "refused": rounds, "wrong": 0, "confused": 0}
    assert json.loads(done.stdout) == counts
