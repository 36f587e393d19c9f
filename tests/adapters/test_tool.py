"""Command-line tools: deadlines, bounds, no shell."""

import json
import os
import stat
from pathlib import Path

import pytest

from gpuwarden.adapters.tool import MAX_OUTPUT_BYTES, Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable, Unsupported
from tests.adapters.trees import wait_gone


def script(folder: Path, body: str, timeout_s: float = 20.0, **env: str) -> Tool:
    """A program of this test's own."""
    path = folder / "probe-tool"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    search = f"{folder}:/usr/bin:/bin"
    return Tool(name="probe-tool", clock=SystemClock(), timeout_s=timeout_s, path=search, env=env)


def test_arguments_are_passed_as_they_are(tmp_path: Path) -> None:
    tool = script(tmp_path, 'for one in "$@"; do echo "[$one]"; done; echo oops >&2; exit 3')
    answer = tool.run("a b", "$(id)", "; rm x", "*", "")
    assert answer.out == "[a b]\n[$(id)]\n[; rm x]\n[*]\n[]\n"
    assert (answer.status, answer.why) == (3, "oops")


def test_environment_is_minimal(tmp_path: Path) -> None:
    os.environ["GPUWARDEN_SECRET"] = "x"
    answer = script(tmp_path, "env", SLURM_CONF="/etc/s").run()
    names = {line.partition("=")[0] for line in answer.out.splitlines()}
    assert names <= {"PATH", "LC_ALL", "SLURM_CONF", "PWD", "_", "SHLVL", "OLDPWD"}
    assert "SLURM_CONF=/etc/s" in answer.out
    del os.environ["GPUWARDEN_SECRET"]


def test_deadline_kills_the_tool_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    tool = script(tmp_path, f"sleep 300 & echo $! $$ > {pids}; wait", timeout_s=1.0)
    with pytest.raises(Unavailable, match="did not end"):
        tool.run()
    assert all(wait_gone(int(pid)) for pid in pids.read_text().split())


def test_deadline_counts_output_that_never_ends(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="did not end"):
        script(tmp_path, "while :; do echo x; sleep 0.05; done", timeout_s=0.5).run()


def test_deadline_counts_a_child_that_keeps_the_pipe(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    tool = script(tmp_path, f"sleep 300 & echo $! > {pids}; exit 0", timeout_s=0.5)
    with pytest.raises(Unavailable, match="did not end"):
        tool.run()
    assert wait_gone(int(pids.read_text()))


def test_a_flood_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="more than it ever should"):
        script(tmp_path, "exec yes").run()
    assert MAX_OUTPUT_BYTES <= 4 * 2**20


def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    assert script(tmp_path, r"printf '\377x\n'").run().out == "\ufffdx\n"


def test_absent_and_broken_tools(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no probe-tool"):
        Tool(name="probe-tool", clock=SystemClock(), timeout_s=1, path=str(tmp_path)).run()
    tool = script(tmp_path, "")
    (tmp_path / "probe-tool").write_bytes(b"\x7fELF garbage")
    with pytest.raises(Unavailable):
        tool.run()


def test_standard_input_is_empty(tmp_path: Path) -> None:
    assert json.loads(script(tmp_path, 'printf "[%s]" "$(wc -c)"').run().out) == [0]
