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
from gpuwarden.adapters.run_claim import RunClaim, StateClaim
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
        from gpuwarden.adapters.run_claim import RunClaim, StateClaim
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


def test_a_lock_that_is_a_link_is_refused_and_its_target_untouched(run_dir: Path) -> None:
    precious = run_dir / "precious"
    precious.write_text("precious")
    (run_dir / "agent.lock").symlink_to(precious)
    with pytest.raises(Refused, match=r"agent\.lock.*move it away"):
        RunClaim(run_dir)
    assert precious.read_text() == "precious"


def test_nobody_else_can_take_the_locks(run_dir: Path) -> None:
    """A reader's descriptor is enough to lock a file: then no agent could start any more."""
    claim, state = RunClaim(run_dir), StateClaim(run_dir / "state")
    for path in (run_dir / "agent.lock", run_dir / "state" / "journal"):
        assert path.stat().st_mode & 0o077 == 0
    claim.release()
    state.release()


def test_a_state_folder_of_an_older_agent_is_closed_to_others(run_dir: Path) -> None:
    folder = run_dir / "state" / "journal"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    StateClaim(run_dir / "state").release()
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("which", [".", "journal"])
def test_a_journal_others_may_write_is_not_believed(run_dir: Path, which: str) -> None:
    (run_dir / "state" / "journal").mkdir(parents=True)
    (run_dir / "state" / which).chmod(0o777)
    with pytest.raises(Refused, match=r"others may write there.*agent\.state_dir"):
        StateClaim(run_dir / "state")


def test_a_journal_that_is_a_link_is_refused(run_dir: Path) -> None:
    (run_dir / "elsewhere").mkdir(mode=0o700)
    (run_dir / "state").mkdir()
    (run_dir / "state" / "journal").symlink_to(run_dir / "elsewhere")
    with pytest.raises(Refused, match="not a directory"):
        StateClaim(run_dir / "state")


def test_one_writer_a_journal(run_dir: Path) -> None:
    first = StateClaim(run_dir / "state")
    with pytest.raises(Refused, match="another agent keeps its journal"):
        StateClaim(run_dir / "state")
    first.release()
    StateClaim(run_dir / "state").release()
