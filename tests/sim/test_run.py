"""`simulate run` and `simulate inject` from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwarden.sim.driver.build import Built
from gpuwarden.sim.host import SimHost
from gpuwarden.sim.injections import INJECTIONS
from tests.sim.sight import GIB, until

SIMULATE = [sys.executable, "-m", "gpuwarden.sim"]


def _environment(**more: str) -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[2] / "agent")
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{source}:{before}" if before else source, **more}


def _run(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    more = {"GPUWARDEN_SIM_DIR": str(folder)} if folder else {}
    return subprocess.run(
        [*SIMULATE, *words],
        env=_environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def _compiled(built: Built) -> None:
    """Where there is no compiler, these tests have nothing to run."""


SEE = (
    "import pynvml as n; n.nvmlInit()\n"
    "for i in range(n.nvmlDeviceGetCount()):\n"
    "  h = n.nvmlDeviceGetHandleByIndex(i)\n"
    "  print(len(n.nvmlDeviceGetComputeRunningProcesses(h)), n.nvmlDeviceGetUUID(h))\n"
)


def test_the_command_sees_devices_and_processes() -> None:
    said = _run(
        *("run", "--devices", "3", "--processes", "4", "--profile", "L4", "--seed", "9"),
        *("--", sys.executable, "-c", SEE),
    )
    assert said.returncode == 0, said.stderr
    lines = [line.split() for line in said.stdout.splitlines()]
    assert [count for count, _ in lines] == ["4"] * 3
    again = _run("run", "--devices", "3", "--seed", "9", "--", sys.executable, "-c", SEE)
    assert [line.split()[1] for line in again.stdout.splitlines()] == [uuid for _, uuid in lines]


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)]
)
def test_the_exit_status_is_the_commands(script: str, status: int) -> None:
    assert _run("run", "--", "sh", "-c", script).returncode == status


def test_options_after_the_dashes_belong_to_the_command() -> None:
    said = _run("run", "--quiet", "--", "sh", "-c", 'echo "$@"', "sh", "--devices", "9", "-x")
    assert said.stdout == "--devices 9 -x\n"
    assert said.stderr == ""


def test_a_command_that_does_not_exist() -> None:
    said = _run("run", "--quiet", "--", "no-such-command-here")
    assert said.returncode == 127
    assert "no-such-command-here: command not found" in said.stderr


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("run", "--devices", "17", "--", "true"), 2, "--devices"),
        (("run", "--profile", "A101", "--", "true"), 2, "--profile"),
        (("run", "--mig", "3", "--", "true"), 2, "indices below 1"),
        (("run", "--mig", "a", "--", "true"), 2, "device indices"),
        (("run", "--profile", "T4", "--mig", "0", "--", "true"), 3, "MIG"),
        (("inject", "xid", "0", "79"), 2, "--dir"),
        (("inject", "--dir", "/nowhere", "dance"), 2, "--dir"),
    ],
)
def test_wrong_usage_says_what_was_expected(words: tuple[str, ...], status: int, why: str) -> None:
    said = _run(*words)
    assert said.returncode == status
    assert why in said.stderr


def _start(*words: str) -> tuple[subprocess.Popen[str], Path]:
    running = subprocess.Popen(
        [*SIMULATE, "run", *words],
        env=_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    line = running.stderr.readline()
    assert line.startswith("simulated host: GPUWARDEN_SIM_DIR="), line
    return running, Path(line.strip().partition("=")[2])


def _ended(running: subprocess.Popen[str]) -> int:
    status = running.wait(20)
    for stream in (running.stdout, running.stderr):
        if stream is not None:
            stream.close()
    return status


def _pids_below(folder: Path) -> set[int]:
    """Processes whose environment or arguments name the host's folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if bytes(folder) in text:
                found.add(int(entry.name))
    return found


def test_term_ends_command_host_and_processes() -> None:
    running, folder = _start("--processes", "3", "--", "sleep", "600")
    assert len(_pids_below(folder)) >= 4  # driver, three holders; perhaps the command already
    assert until(lambda: len(_pids_below(folder)) >= 5)
    running.send_signal(signal.SIGTERM)
    assert _ended(running) == 128 + signal.SIGTERM
    assert _pids_below(folder) == set()
    assert not folder.exists()


def test_a_host_without_a_command_stays_until_a_signal() -> None:
    running, folder = _start("--devices", "2")
    assert running.poll() is None
    assert _run("info", "--dir", str(folder)).returncode == 0
    running.send_signal(signal.SIGINT)
    assert _ended(running) == 0
    assert not folder.exists()


def test_nothing_outlives_a_run_that_is_killed() -> None:
    running, folder = _start("--processes", "3")
    running.kill()
    _ended(running)
    assert until(lambda: _pids_below(folder) == set() and not folder.exists())


# --- inject ---

WORDS = {"device": "0", "number": "1", "decimal": "1.5", "bytes": "1GiB", "text": "hello"}


@pytest.mark.parametrize("name", sorted(set(INJECTIONS) - {"retire", "fabric", "reload"}))
def test_every_injection_can_be_typed(host: SimHost, name: str) -> None:
    words = ["inject", name]
    for parameter in INJECTIONS[name].parameters:
        value = parameter.choices[0] if parameter.choices else WORDS.get(parameter.kind)
        if parameter.kind == "function":
            value = "nvmlDeviceGetName"
        if parameter.is_required:
            words.append(str(value))
        elif parameter.kind == "flag":
            words.append("--" + parameter.name.replace("_", "-"))
        elif parameter.kind != "device":
            words += ["--" + parameter.name.replace("_", "-"), str(value)]
    said = _run(*words, folder=host.folder)
    assert said.returncode == 0, said.stderr


def test_a_refusal_and_an_absent_host_have_codes(host: SimHost, tmp_path: Path) -> None:
    refused = _run("inject", "retire", "0", folder=host.folder)
    assert (refused.returncode, "no page retirement" in refused.stderr) == (1, True)
    absent = _run("inject", "lose", "0", folder=tmp_path)
    assert absent.returncode == 3
    unknown = _run("inject", "hang", "nvmlDeviceGetNam", folder=host.folder)
    assert unknown.returncode == 2
    assert "nearest: nvmlDeviceGetName" in unknown.stderr


def test_info_and_counters_as_json(host: SimHost) -> None:
    host.start_workload("hold", "--size", "1GiB")
    info = json.loads(_run("info", "-o", "json", folder=host.folder).stdout)
    assert [device["used"] for device in info["devices"]] == [GIB, 0]
    counters = json.loads(_run("counters", "-o", "json", folder=host.folder).stdout)
    assert counters == {}
