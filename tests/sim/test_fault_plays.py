"""Each fault for real: the agent as a process, over the simulated driver, until it is over.

No time is judged here; a play's own deadline is one that only a hang reaches.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from click.testing import CliRunner

from gpuwarden.cli import main
from gpuwarden.sim.faults import command
from gpuwarden.sim.faults.judge import as_json
from gpuwarden.sim.faults.play import Part, Play
from gpuwarden.sim.faults.plays import PLAYS
from gpuwarden.sim.faults.scene import Scene
from gpuwarden.sim.incident.containers import MARK
from gpuwarden.sim.incident.daemon import with_our_code

pytestmark = [pytest.mark.serial, pytest.mark.timeout(300)]
IN_CONTAINERS = (
    *("application", "gsp", "protected", "fallen-off", "sxid-fabric"),
    *("fabric-manager", "mismatch-reload", "zombie"),
)
KEYS = ["fault", "scope", "rungs", "verified", "cordoned", "pages", "wrong_victims"]


LIKE_ANOTHER = frozenset({"gsp-crash", "remap-not-recorded", "nvlink5"})
"""Plays that take the steps of another one, for another number."""


def chosen(names: Sequence[str]) -> list[object]:
    """Plays as parameters; what waits for a value that is read once a minute, or is like another, is for the
    slow tier."""
    slow = {name for name, play in PLAYS.items() if play.within_s > 200} | LIKE_ANOTHER
    return [
        pytest.param(PLAYS[n], id=n, marks=[pytest.mark.slow] if n in slow else []) for n in names
    ]


@pytest.mark.root
@pytest.mark.parametrize("play", chosen(tuple(PLAYS)))
def test_on_plain_processes(play: Play) -> None:
    with Scene(play, 1, docker=None, keep=None) as scene:
        run = as_json(scene.play())
    assert run["missed"] == [], json.dumps(run, indent=2)
    assert run["real_containers"] is False


@pytest.mark.docker
class TestContainers:
    @pytest.fixture(autouse=True)
    def _left_nothing(self) -> Iterator[None]:
        yield
        with contextlib.closing(docker.DockerClient(base_url=os.environ["DOCKER_HOST"])) as client:
            assert client.containers.list(all=True, filters={"label": MARK}) == []
            assert client.images.list(name="gpuwarden-incident") == []

    @pytest.mark.parametrize("play", chosen(IN_CONTAINERS))
    def test_in_containers(self, play: Play) -> None:
        with Scene(play, 2, docker=os.environ["DOCKER_HOST"], keep=None) as scene:
            run = as_json(scene.play())
        assert run["missed"] == [], json.dumps(run, indent=2)
        assert run["real_containers"] is True


@pytest.mark.root
class TestAPlayCanFail:
    """What has to come is compared with what came: a wrong expectation is told, and exits 1."""

    @pytest.mark.parametrize(
        ("wrong", "word"),
        [
            (replace(PLAYS["application"], pages=1), "pages: 0, expected 1"),
            (replace(PLAYS["application"], scope="node"), "scope: app, expected node"),
            (replace(PLAYS["application"], cordoned=True), "cordoned: false, expected true"),
        ],
        ids=["pages", "scope", "cordoned"],
    )
    def test_by_exit_code(self, wrong: Play, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "PLAYS", {wrong.name: wrong})
        done = CliRunner().invoke(
            main, ["simulate", "fault", "application", "--json", "--no-docker"]
        )
        assert done.exit_code == 1, done.output
        assert word in json.loads(done.stdout)["missed"]

    def test_an_end_that_the_play_does_not_call_for_is_a_wrong_victim(self) -> None:
        """The agent empties the device for a reset; here that was not to be."""
        wrong = replace(PLAYS["gsp"], ends=frozenset({Part.BATCH}))
        with Scene(wrong, 1, docker=None, keep=None) as scene:
            run = as_json(scene.play())
        assert run["wrong_victims"] == 1
        assert any(line.startswith("wrong_victims: 1") for line in run["missed"])

    def test_a_repair_that_does_not_help_is_not_verified(self) -> None:
        """nvidia-smi says that it has reset the device, and has not."""
        with Scene(PLAYS["gsp"], 1, docker=None, keep=None) as scene:
            program = scene.tree.nvidia_smi
            program.write_text(program.read_text().replace("exec ", "exit 0; exec "))
            run = as_json(scene.play())
        assert run["rungs"] == ["reset-gpu", "hand-over"]
        assert run["verified"] is False
        assert run["missed"] != []


@pytest.mark.root
def test_the_command_prints_one_json_object() -> None:
    done = subprocess.run(
        [*COMMAND, "application", "--json", "--no-docker", "--seed", "4"],
        env=with_our_code(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    run = json.loads(done.stdout)
    assert list(run)[: len(KEYS)] == KEYS
    assert (done.returncode, run["missed"], run["fault"]) == (0, [], "application")


COMMAND = [sys.executable, "-m", "gpuwarden", "simulate", "fault"]


@pytest.mark.root
def test_an_interrupted_play_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as temporary:
        process = subprocess.Popen(
            [*COMMAND, "fallen-off", "--json", "--no-docker"],
            env={**with_our_code(os.environ), "TMPDIR": temporary},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            for _ in range(3000):
                if list(Path(temporary).glob("gpuwarden-fault-*/run/gpuwarden.sock")):
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"ended by itself: {process.wait(0.02)}")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode not in (0, None)
        assert list(Path(temporary).glob("gpuwarden-fault-*")) == []
