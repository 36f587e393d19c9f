"""The machine with a systemd of its own: what it is, what it leaves, and how tests inside it are reported."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.agent import until

ROOT = Path(__file__).resolve().parent.parent
MACHINE = ROOT / "scripts" / "machine"
SUITE = ROOT / "tests" / "data" / "machine_suite.py"
CALL_TIMEOUT_S = 100


def machine(*words: str, code: int = 0) -> str:
    """`scripts/machine WORDS`; what it said."""
    ran = subprocess.run(
        [MACHINE, *words],
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def suite(counts: Path, *options: str, require: str = "", code: int = 1) -> str:
    """Output of a pytest run on this side over the suite of every outcome."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(SUITE), *options],
        cwd=ROOT,
        env={
            **os.environ,
            "GPUWARDEN_TEST_REQUIRE": require,
            "GPUWARDEN_TEST_COUNTS": str(counts),
        },
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.systemd(outside=True)
def test_outcomes_in_the_machine_are_shown_and_counted_here(tmp_path: Path) -> None:
    output = suite(
        tmp_path / "counts", "-k", "not beside and not hangs and not run and not reached"
    )
    assert (tmp_path / "counts").read_text() == "4 2 1\n"
    assert "FAILED tests/data/machine_suite.py::test_that_fails - AssertionError" in output
    assert "ERROR tests/data/machine_suite.py::test_with_a_teardown_that_fails" in output
    assert "a reason of its own" in output
    assert "what the test printed" in output
    assert "what the teardown raised" in output


@pytest.mark.systemd(outside=True)
def test_tests_on_this_side_run_on_around_those_in_the_machine(tmp_path: Path) -> None:
    """The folder of the first is left for that of the last, with one in between that is set up elsewhere."""
    last = f"{ROOT}/tests/test_machine.py::test_nothing_it_writes_is_seen_here"
    suite(tmp_path / "counts", last, "-k", "beside_it or passes or nothing_it_writes", code=0)
    assert (tmp_path / "counts").read_text() == "4 0 0\n"


@pytest.mark.systemd(outside=True)
def test_skip_in_the_machine_fails_where_systemd_is_required(tmp_path: Path) -> None:
    output = suite(tmp_path / "counts", "-k", "skips", require="systemd")
    assert (tmp_path / "counts").read_text() == "0 1 0\n"
    assert "systemd was required, yet this test skipped: a reason of its own" in output


@pytest.mark.systemd(outside=True)
def test_hang_and_end_of_the_run_in_the_machine_are_failures(tmp_path: Path) -> None:
    output = suite(tmp_path / "counts", "-k", "hangs or run or reached")
    assert (tmp_path / "counts").read_text() == "0 3 0\n"
    assert "Timeout (>1.0s)" in output
    assert "signal.pause()" in output, "the place where it hung"
    assert output.count("the run in the machine broke off") >= 2


@pytest.mark.systemd
def test_it_is_a_machine_of_its_own() -> None:
    assert Path("/run/systemd/system").is_dir()
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert (Path("/sys/fs/cgroup") / "init.scope" / "cgroup.procs").read_text() == "1\n"
    assert os.listdir("/sys/class/net") == ["lo"]
    units = ["dbus.socket", "systemd-logind.service", "multi-user.target"]
    subprocess.run(["systemctl", "is-active", *units], timeout=CALL_TIMEOUT_S, check=True)


@pytest.mark.systemd
def test_it_may_not_write_to_this_clone_and_what_it_writes_elsewhere_is_not_seen() -> None:
    with pytest.raises(OSError, match="Read-only"):
        (ROOT / "written-by-a-test").touch()
    Path("/etc/written-by-a-test").touch()


@pytest.mark.systemd(outside=True)
def test_nothing_it_writes_is_seen_here() -> None:
    machine("run", "systemd", "touch", "/usr/bin/written-by-a-test")
    machine("run", "systemd", "test", "-e", "/usr/bin/written-by-a-test")
    assert not Path("/usr/bin/written-by-a-test").exists()


@pytest.mark.systemd(outside=True)
def test_second_machine_boots_beside_it_and_its_end_takes_all_along() -> None:
    """With the plug pulled, not even a unit that hears no TERM lives on, nor anything of its groups."""
    name = f"t{os.getpid()}"
    lower = subprocess.Popen(["sleep", "1000"])  # a pid before that of its systemd
    booted = subprocess.Popen(
        [MACHINE, "boot", name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        until("it is up", lambda: is_up(name))
        join(name, lower.pid)  # as a child of systemd is where pids begin anew
        assert machine("run", name, "cat", "/proc/sys/kernel/hostname") == f"{name}\n"
        assert "x y" in machine("run", name, "-E", "WORD=x y", "printenv", "WORD")
        machine("run", name, "sh", "-c", "exit 7", code=7)
        assert "runs already" in machine("boot", name, code=1)
        machine(
            "enter",
            name,
            "systemd-run",
            "sh",
            "-c",
            f"trap '' TERM; : {name}; while :; do sleep 1; done",
        )
        until("the unit runs", lambda: len(of_it(f": {name};")) == 1)
    finally:
        machine("stop", name)
        booted.kill()  # where it had not got so far as to have a group
        booted.wait(CALL_TIMEOUT_S)
        machine("stop", name)
        lower.kill()
        lower.wait(CALL_TIMEOUT_S)
    assert of_it(f": {name};") == of_it(f"--machine={name}") == []
    assert "does not run" in machine("enter", name, "true", code=1)
    machine("stop", name)


def join(name: str, pid: int) -> None:
    """A process becomes one of the group in which the machine's systemd is."""
    clone = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    group = f"/sys/fs/cgroup/gpuwarden-{clone}-{name}/payload/init.scope/cgroup.procs"
    script = f"mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo {pid} >{group}"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    subprocess.run(command, timeout=CALL_TIMEOUT_S, check=True)


def is_up(name: str) -> bool:
    asked = subprocess.run(
        [MACHINE, "enter", name, "systemctl", "is-system-running"],
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
        check=False,
    )
    return asked.stdout == "running\n"


def of_it(word: str) -> list[int]:
    """Processes with the word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.mark.systemd(outside=True)
@pytest.mark.parametrize("name", ["", "-x", "../x", "A b", "x" * 40])
def test_names_that_are_none(name: str) -> None:
    assert "not a name for a machine" in machine("stop", name, code=1)


@pytest.mark.systemd(outside=True)
def test_where_no_machine_can_boot_it_says_so_in_one_line() -> None:
    """Root without CAP_SYS_ADMIN, as in most containers; and a user who is not root."""
    said = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", MACHINE, "lacks"],
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
        check=True,
    )
    assert said.stdout.startswith("this machine does not let root mount what a container needs: ")
    assert said.stdout.count("\n") == 1
    assert said.stderr == ""
