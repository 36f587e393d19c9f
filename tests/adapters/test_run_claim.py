"""One agent a run directory: dead sockets are replaced, live ones and other things are not."""

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.adapters.run_claim import RunClaim
from gpuwarden.errors import ConfigError, Refused
from tests.adapters.node_socket import ROOT, run_folder, serving, socket_of
from tests.adapters.view_board import Board
from tests.sample_view import view


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with run_folder() as folder:
        yield folder


def test_a_socket_of_a_dead_agent_is_replaced(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_of(run_dir)))
        dead.listen()
    assert socket_of(run_dir).exists()
    with serving(run_dir, Board(view())), NodeClient(socket_of(run_dir)) as client:
        assert client.view().serial == 1


def test_a_second_agent_is_told_the_pid_of_the_first(run_dir: Path) -> None:
    with serving(run_dir, Board(view())):
        with pytest.raises(Refused, match=rf"another agent is running \(pid {os.getpid()}\)"):
            RunClaim(run_dir)
        with NodeClient(socket_of(run_dir)) as client:
            assert client.view().serial == 1


def test_a_live_socket_without_its_lock_still_counts(run_dir: Path) -> None:
    with serving(run_dir, Board(view())):
        (run_dir / "agent.lock").unlink()
        with pytest.raises(Refused, match=rf"another agent is running \(pid {os.getpid()}\)"):
            RunClaim(run_dir)


def test_the_lock_dies_with_its_holder(run_dir: Path) -> None:
    script = f"""
        import os, sys
        from pathlib import Path
        from gpuwarden.adapters.run_claim import RunClaim
        RunClaim(Path({str(run_dir)!r}))
        os.kill(os.getpid(), 9)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        timeout=60,
        check=False,
    )
    assert (run_dir / "agent.lock").read_text().strip().isdigit()
    RunClaim(run_dir).release()


def test_what_is_no_socket_is_not_removed(run_dir: Path) -> None:
    socket_of(run_dir).write_text("precious")
    with pytest.raises(Refused, match="not a socket"):
        RunClaim(run_dir)
    assert socket_of(run_dir).read_text() == "precious"


def test_a_folder_others_may_write_in_is_refused(run_dir: Path) -> None:
    run_dir.chmod(0o777)
    with pytest.raises(Refused, match="others may write there"):
        RunClaim(run_dir)


def test_a_path_too_long_for_a_socket_is_a_config_error(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.run_dir"):
        RunClaim(run_dir / ("x" * 100))
