"""Drains of our own and of others, on a real slurmctld and slurmd."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.cordon.slurm import SlurmBackend
from gpuwarden.adapters.tool import SAFE_PATH, Tool
from gpuwarden.clock import SystemClock
from gpuwarden.config_cordon import SlurmCordon
from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import Subject
from tests.adapters import slurm_node
from tests.adapters.slurm_node import OTHERS
from tests.adapters.test_slurm import SLEEP, job

pytestmark = pytest.mark.slurm

GPU0 = Subject(device=DeviceId("GPU-0"), index=0)
GPU1 = Subject(device=DeviceId("GPU-1"), index=1)
ONE, TWO = "inc-6985e9a1-4", "inc-6985e9a2-9"


@pytest.fixture(autouse=True)
def _in_service() -> Iterator[None]:
    with slurm_node.in_service():
        yield


def backend(timeout_s: float = 20.0) -> SlurmBackend:
    cfg = SlurmCordon(timeout_s=timeout_s)
    return SlurmBackend.of(cfg, SystemClock(), dict(os.environ))


def meddling(folder: Path, when: str, command: str) -> SlurmBackend:
    """An administrator runs ``command`` right after the first scontrol whose words begin so."""
    real = shutil.which("scontrol", path=SAFE_PATH)
    script = folder / "scontrol"
    script.write_text(
        "#!/bin/sh\n"
        f'{real} "$@"; code=$?\n'
        f'case "$*" in {shlex.quote(when)}*) [ -e {folder}/done ] || {{ : >{folder}/done; {real} {command}; }};; esac\n'
        "exit $code\n"
    )
    script.chmod(0o755)
    conf = {"SLURM_CONF": os.environ["SLURM_CONF"]}
    tool = Tool(name=str(script), clock=SystemClock(), timeout_s=20.0, env=conf)
    return SlurmBackend(tool, slurm_node.node_name())


def test_drained_with_our_reason_and_resumed() -> None:
    slurm = backend()
    assert slurm.cordon(GPU0, ONE, "lost fault of GPU 0") == "drained"
    assert slurm_node.state() == "IDLE+DRAIN"
    assert slurm_node.reason() == f"gpuwarden: {ONE}; lost fault of GPU 0"
    assert slurm.cordon(GPU0, ONE, "told again") == "drained already"
    assert slurm_node.reason() == f"gpuwarden: {ONE}; lost fault of GPU 0"
    assert slurm.uncordon(GPU0, ONE, []) == "resumed"
    assert "DRAIN" not in slurm_node.state()
    assert slurm_node.reason() == ""
    assert slurm.uncordon(GPU0, ONE, []) == "not drained"


def test_another_agent_knows_the_drain_of_the_one_before() -> None:
    backend().cordon(GPU0, ONE, "lost")
    assert backend().uncordon(GPU0, ONE, []) == "resumed"


def test_two_devices_of_one_node() -> None:
    slurm = backend()
    slurm.cordon(GPU0, ONE, "GPU 0 is lost")
    assert slurm.cordon(GPU1, TWO, "GPU 1 hangs") == "drained"
    assert slurm_node.reason() == f"gpuwarden: {ONE}; GPU 0 is lost | {TWO}; GPU 1 hangs"
    assert slurm.uncordon(GPU0, ONE, [TWO]) == "others stand"
    assert slurm_node.state() == "IDLE+DRAIN"
    assert slurm_node.reason() == f"gpuwarden: {TWO}; GPU 1 hangs"
    assert slurm.uncordon(GPU1, TWO, []) == "resumed"
    assert "DRAIN" not in slurm_node.state()


def test_one_incident_of_two_devices_stands_until_both_are_well() -> None:
    slurm = backend()
    slurm.cordon(GPU0, ONE, "GPU 0 is lost")
    slurm.cordon(GPU1, ONE, "GPU 1 is lost")
    assert slurm.uncordon(GPU0, ONE, [ONE]) == "others stand"
    assert slurm_node.state() == "IDLE+DRAIN"
    assert slurm.uncordon(GPU1, ONE, []) == "resumed"


def test_a_foreign_drain_is_never_touched() -> None:
    slurm_node.drain()
    slurm = backend()
    assert slurm.cordon(GPU0, ONE, "lost") == "foreign"
    assert (slurm_node.state(), slurm_node.reason()) == ("IDLE+DRAIN", OTHERS)
    assert slurm.uncordon(GPU0, ONE, []) == "foreign"
    assert (slurm_node.state(), slurm_node.reason()) == ("IDLE+DRAIN", OTHERS)


@pytest.mark.parametrize(
    "why",
    [
        "gpuwarden was wrong here",
        f"gpuwarden: {ONE}; lost | waits for a part",
        "gpuwarden: all of it",
        f"kept down after gpuwarden: {ONE}",
    ],
)
def test_what_only_looks_like_ours_is_foreign(why: str) -> None:
    slurm_node.drain(why)
    assert backend().uncordon(GPU0, ONE, []) == "foreign"
    assert slurm_node.reason() == why


def test_our_reason_given_by_another_user_is_theirs() -> None:
    backend().cordon(GPU0, ONE, "lost")
    tool = Tool(
        name="scontrol",
        clock=SystemClock(),
        timeout_s=20.0,
        env={"SLURM_CONF": os.environ["SLURM_CONF"]},
    )
    other = SlurmBackend(tool, slurm_node.node_name(), user="daemon")
    assert other.uncordon(GPU0, ONE, []) == "foreign"
    assert slurm_node.state() == "IDLE+DRAIN"


def test_an_administrator_who_takes_our_drain_over_keeps_it() -> None:
    slurm = backend()
    slurm.cordon(GPU0, ONE, "lost")
    slurm_node.drain()
    assert slurm.uncordon(GPU0, ONE, []) == "foreign"
    assert (slurm_node.state(), slurm_node.reason()) == ("IDLE+DRAIN", OTHERS)


def test_an_administrator_who_comes_in_between_wins(tmp_path: Path) -> None:
    theirs = f'update NodeName={slurm_node.node_name()} State=DRAIN "Reason={OTHERS}"'
    slurm = meddling(tmp_path, "update", theirs)
    assert slurm.cordon(GPU0, ONE, "lost") == "foreign"
    assert slurm_node.reason() == OTHERS


def test_an_administrator_who_resumes_it_is_not_drained_again() -> None:
    slurm = backend()
    slurm.cordon(GPU0, ONE, "lost")
    subprocess.run(
        ["scontrol", "update", f"NodeName={slurm_node.node_name()}", "State=RESUME"], check=True
    )
    assert slurm.uncordon(GPU0, ONE, []) == "not drained"


def test_a_job_goes_on_while_its_node_drains(tmp_path: Path) -> None:
    with job(tmp_path, SLEEP) as (job_id, _):
        slurm = backend()
        assert slurm.cordon(GPU0, ONE, "lost") == "drained"
        assert slurm_node.state() in ("MIXED+DRAIN", "ALLOCATED+DRAIN")
        running = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job_id}", "--format=%T"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert running.stdout.strip() == "RUNNING"
        assert slurm.uncordon(GPU0, ONE, []) == "resumed"
        assert "DRAIN" not in slurm_node.state()


def test_a_node_that_is_down_is_left_alone_and_told_later() -> None:
    name = slurm_node.node_name()
    slurm_node.scontrol("update", f"NodeName={name}", "State=DOWN", "Reason=fan")
    slurm = backend()
    with pytest.raises(Unavailable, match="DOWN"):
        slurm.cordon(GPU0, ONE, "lost")
    assert slurm_node.reason() == "fan"
    assert slurm.uncordon(GPU0, ONE, []) == "not drained"
    assert slurm_node.reason() == "fan"


def test_a_drained_node_that_went_down_stays_down() -> None:
    name = slurm_node.node_name()
    slurm = backend()
    slurm.cordon(GPU0, ONE, "lost")
    slurm_node.scontrol("update", f"NodeName={name}", "State=DOWN", f"Reason={slurm_node.reason()}")
    slurm.uncordon(GPU0, ONE, [])
    assert slurm_node.state().startswith("DOWN")
    assert "DRAIN" not in slurm_node.state()


def test_a_controller_that_is_away_and_comes_back() -> None:
    slurm = backend(timeout_s=2.0)
    slurm.cordon(GPU0, ONE, "lost")
    with slurm_node.controller_stopped(), pytest.raises(Unavailable, match="did not end"):
        slurm.uncordon(GPU0, ONE, [])
    assert slurm_node.state() == "IDLE+DRAIN"
    assert backend().uncordon(GPU0, ONE, []) == "resumed"


def test_no_controller_at_all(tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    text = Path(os.environ["SLURM_CONF"]).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("SlurmctldPort=")]
    conf.write_text("\n".join([*lines, "SlurmctldPort=1", ""]))
    slurm = SlurmBackend.of(SlurmCordon(conf=conf, timeout_s=2.0), SystemClock(), {})
    with pytest.raises((Unavailable, Unsupported)):
        slurm.cordon(GPU0, ONE, "lost")


def test_a_host_that_is_no_node() -> None:
    tool = Tool(
        name="scontrol",
        clock=SystemClock(),
        timeout_s=20.0,
        env={"SLURM_CONF": os.environ["SLURM_CONF"]},
    )
    with pytest.raises(Unsupported, match=r"cordon\.slurm\.node"):
        SlurmBackend(tool, None, host="elsewhere").cordon(GPU0, ONE, "lost")


@pytest.mark.parametrize(
    "why",
    [
        "quotes \" and ' in it",
        "line\nState=RESUME\nbreaks",
        "State=RESUME Reason=x",
        "| inc-1-1; another [root@2026]",
        "x" * 5000,
        "ümlaut \x1b[31m",
        "",
    ],
)
def test_any_text_is_a_reason_we_know_again(why: str) -> None:
    slurm = backend()
    assert slurm.cordon(GPU0, ONE, why) == "drained"
    assert slurm_node.state() == "IDLE+DRAIN"
    assert slurm.cordon(GPU1, TWO, why) == "drained"
    assert slurm.uncordon(GPU0, ONE, []) == "resumed"
