"""Markers: skipped with the reason, or failed where required. Each case is a pytest run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import prerequisites

ROOT = Path(__file__).resolve().parent.parent
RUN_TIMEOUT_S = 60

# `vm` is missing (an empty PATH) and `slow` is never missing where it is required.
SUITE = """
import pytest

def test_free(): pass

@pytest.mark.vm
def test_vm(): raise AssertionError("ran without its prerequisite")

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.slow
def test_slow_that_skips(): pytest.skip("a reason of its own")

@pytest.mark.slow
@pytest.mark.vm
def test_slow_on_vm(): raise AssertionError("ran without its prerequisite")
"""


def run(
    folder: Path, suite: str = SUITE, require: str = "", *options: str
) -> tuple[int, str, str | None]:
    """Exit code, output and the line for scripts/test of one pytest run over `suite`."""
    (folder / "test_suite.py").write_text(suite, encoding="utf-8")
    counts = folder / "counts"
    settings = [
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(folder),
        "-p",
        "tests.conftest",
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", *settings, *options, str(folder / "test_suite.py")],
        env={
            "PATH": str(folder),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "agent")]),
            "GPUWARDEN_TEST_REQUIRE": require,
            "GPUWARDEN_TEST_COUNTS": str(counts),
            "DOCKER_HOST": "unix:///somebody/elses.sock",
        },
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    counted = counts.read_text(encoding="utf-8") if counts.exists() else None
    return ran.returncode, ran.stdout + ran.stderr, counted


def test_missing_prerequisite_is_a_skip_with_its_reason(tmp_path: Path) -> None:
    code, output, counted = run(tmp_path)
    assert code == 0
    assert counted == "1 0 4\n"
    assert "vm: no qemu-system-x86_64 on PATH (Debian: apt-get install qemu-system-x86)" in output


def test_required_and_missing_ends_the_run(tmp_path: Path) -> None:
    code, output, counted = run(tmp_path, SUITE, "vm,slow")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "required, and not here: vm: no qemu-system-x86_64 on PATH" in output
    assert counted is None


def test_required_tests_may_not_skip_themselves(tmp_path: Path) -> None:
    code, output, counted = run(tmp_path, SUITE, "slow")
    assert code == pytest.ExitCode.TESTS_FAILED
    # The one that needs the vm too is excused: nobody required a vm.
    assert counted == "2 1 2\n"
    assert "slow was required, yet this test skipped: a reason of its own" in output


def test_module_that_skips_itself_fails_where_something_is_required(tmp_path: Path) -> None:
    suite = "import pytest\npytest.importorskip('no_such_module')\ndef test_x(): pass\n"
    assert run(tmp_path, suite)[0] == pytest.ExitCode.NO_TESTS_COLLECTED
    code, output, _ = run(tmp_path, suite, "slow")
    assert code == pytest.ExitCode.INTERRUPTED
    assert "skipped itself as a whole" in output


def test_unknown_requirement_names_the_known_ones(tmp_path: Path) -> None:
    code, output, _ = run(tmp_path, SUITE, "dokcer")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "no such marker: dokcer (known: alertmanager, containerd, docker, go," in output


def test_counts_of_parallel_runs_are_not_doubled(tmp_path: Path) -> None:
    assert run(tmp_path, SUITE, "", "-n", "2")[2] == "1 0 4\n"


def test_own_pid_as_a_parameter_gives_every_worker_the_same_names(tmp_path: Path) -> None:
    suite = (
        "import os, pytest\n"
        "@pytest.mark.parametrize('pid', [1, os.getpid()])\n"
        "def test_x(pid): pass\n"
    )
    assert run(tmp_path, suite, "", "-n", "2")[2] == "2 0 0\n"


def test_docker_of_the_machine_is_never_used(tmp_path: Path) -> None:
    suite = (
        "import os\n"
        "def test_x(): assert os.environ.get('DOCKER_HOST') != 'unix:///somebody/elses.sock'\n"
    )
    assert run(tmp_path, suite)[0] == 0


def test_every_marker_but_serial_has_a_probe() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        lines = tomllib.load(file)["tool"]["pytest"]["ini_options"]["markers"]
    assert {line.partition(":")[0] for line in lines} - {"serial"} == prerequisites.PROBES.keys()


def test_services_environment_reads_what_the_shell_writes(tmp_path: Path) -> None:
    file = tmp_path / "env"
    subprocess.run(
        [
            "bash",
            "-c",
            'printf "export %s=%q\\n" DOCKER_HOST "unix:///a b/\'c.sock" > "$1"',
            "-",
            file,
        ],
        check=True,
        timeout=RUN_TIMEOUT_S,
    )
    assert prerequisites.services_environment(file) == {"DOCKER_HOST": "unix:///a b/'c.sock"}
    assert prerequisites.services_environment(tmp_path / "absent") == {}
