"""The operator's own command: what it is given, what its status means, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.make import make_sinks
from gpuwarden.clock import SystemClock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.ports_oncall import Sink
from tests.adapters import sink_schemas
from tests.adapters.sink_notices import evil, notice

CLOCK = SystemClock()


def sink(*command: str, timeout_s: float = 30.0) -> Sink:
    cfg = OncallConfig.model_validate({"exec": [{"command": command, "timeout_s": timeout_s}]})
    return make_sinks(cfg, Secrets({}), CLOCK, "node-1")["exec"]


def script(folder: Path, text: str) -> str:
    path = folder / "page"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_is_given_the_message_and_its_arguments_as_they_are(tmp_path: Path) -> None:
    text = f'cat >"{tmp_path}/in"; printf "%s\\n" "$@" >"{tmp_path}/args"; env >"{tmp_path}/env"'
    receipt = sink(script(tmp_path, text), "--to", "$(touch x); *").deliver(evil())
    assert receipt.text == "exit status 0"
    sink_schemas.check("exec", json.loads((tmp_path / "in").read_text()))
    assert (tmp_path / "args").read_text() == "--to\n$(touch x); *\n"
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (1, Unavailable),
        (75, Unavailable),
        (64, Refused),
        (65, Refused),
        (77, Refused),
        (78, Refused),
    ],
)
def test_what_its_status_means(status: int, error: type[GpuwardenError], tmp_path: Path) -> None:
    with pytest.raises(error, match=f"exit status {status}") as raised:
        sink(script(tmp_path, f"echo geheim >&2; exit {status}")).deliver(notice())
    assert "geheim" not in str(raised.value)


def test_one_that_is_not_there() -> None:
    with pytest.raises(Unsupported):
        sink("/nonexistent/page").deliver(notice())


def test_past_its_deadline_all_of_it_is_killed(tmp_path: Path) -> None:
    """It has started another that ignores TERM and holds its output open."""
    text = f'(trap "" TERM; echo $BASHPID $$ >"{tmp_path}/pids"; exec sleep 1000) & wait'
    command = script(tmp_path, text.replace("$BASHPID ", ""))
    with pytest.raises(Unavailable, match="did not end"):
        sink(command, timeout_s=1.0).deliver(notice())
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    for _ in range(500):
        if not any(_is_alive(pid) for pid in pids):
            return
        CLOCK.sleep(0.02)
    pytest.fail("something of it still runs")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def test_one_that_never_reads_is_not_waited_for() -> None:
    assert sink(sys.executable, "-c", "pass").deliver(evil()).text == "exit status 0"
