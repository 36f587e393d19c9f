"""The incident for real: the agent as a process, over the simulated driver, until it is over.

No time is asserted here: how long things take is measured by ``gpuwarden simulate incident`` and its
bounds, on a machine that does nothing else. What happened, and to whom, is the same on any.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from gpuwarden.sim.incident.cast import Role, Trigger, Variant
from gpuwarden.sim.incident.containers import MARK
from gpuwarden.sim.incident.daemon import with_our_code
from gpuwarden.sim.incident.judge import as_json, judge, victims
from gpuwarden.sim.incident.proc import cgroup_folders, group_members, life_of
from gpuwarden.sim.incident.scene import Evidence, Scene
from gpuwarden.sim.incident.touches import Touches

pytestmark = [pytest.mark.serial, pytest.mark.timeout(180)]  # the agent needs a core when it does
NOT_ABOUT_TIME = ("noticed_s", "decided_s", "bytes_back_s", "slo_back_s", "cause_written_s")


def failures(evidence: Evidence) -> list[str]:
    """What was missed, but for how long something took."""
    run = as_json(evidence)
    late = [f"{name}: {run[name]}" for name in NOT_ABOUT_TIME if run[name] is not None]
    return [
        text
        for text in run["missed"]
        if not any(text.startswith(entry.partition(":")[0]) for entry in late)
    ]


@pytest.fixture(scope="module")
def plain() -> Iterator[Evidence]:
    with Scene(1, Variant(), docker=None, keep=None) as scene:
        yield scene.play()


@pytest.fixture(scope="module")
def by_latency() -> Iterator[Evidence]:
    with Scene(2, Variant(trigger=Trigger.SLO), docker=None, keep=None) as scene:
        yield scene.play()


class TestLatencyAlone:
    """Nobody is over a quota and nothing is broken: only the service's own histogram tells."""

    def test_the_neighbour_is_named_and_evicted_and_no_version_is_rolled_back(
        self, by_latency: Evidence
    ) -> None:
        assert failures(by_latency) == []
        run = as_json(by_latency)
        assert run["offender"]["name"] in run["verdict"]
        assert (run["ended"], run["rollbacks"], run["locked_up_s"]) == ("evicted", 0, None)
        assert run["offender"]["peak_bytes"] <= run["offender"]["quota_bytes"]
        assert not by_latency.xids


class TestPlainProcesses:
    def test_the_offender_is_evicted_and_nobody_else_is_touched(self, plain: Evidence) -> None:
        assert failures(plain) == []
        assert as_json(plain)["ended"] == "evicted"
        assert not plain.fate.is_running
        assert as_json(plain)["real_containers"] is False

    def test_the_cause_is_in_the_journal_with_the_action(self, plain: Evidence) -> None:
        offender = plain.offender.member
        assert plain.cause["quota"] == offender.quota_bytes
        # The driver's word may accuse it before a list has shown how far it went.
        assert plain.cause["bytes"] > 0
        assert plain.cause["action"] in ("freeze", "restart-off", "term", "kill")
        assert {i.id for i in plain.incidents} >= {plain.cause["incident"]}

    def test_the_clock_starts_at_the_drivers_first_byte_over_quota(self, plain: Evidence) -> None:
        run = as_json(plain)
        assert 0 < run["noticed_s"] <= run["decided_s"]
        assert run["locked_up_s"] > 0
        assert run["offender"]["peak_bytes"] > plain.cast.lock_up_bytes

    def test_what_stands_in_the_journal_has_been_noticed_and_decided(self, plain: Evidence) -> None:
        """The journal is read as it grows; a picture of the agent may come a little later."""
        assert plain.cause_at is not None
        late = replace(plain, decided_at=plain.cause_at + 1.0, noticed_at=None)
        measures, _ = judge(late)
        assert measures.decided_s == measures.noticed_s == measures.cause_written_s

    def test_a_hand_laid_on_a_bystander_is_a_wrong_victim(self, plain: Evidence) -> None:
        large = plain.cast.of(Role.LARGE).name
        for hurt in (
            replace(plain, marks={**plain.marks, large: ("it was stopped by a signal",)}),
            replace(plain, blamed={large: "holds more than its quota"}),
        ):
            assert set(victims(hurt, "evicted")) == {large}
            assert judge(hurt)[0].wrong_victims == 1

    def test_a_cordon_of_a_device_that_works_again_is_not_an_eviction(
        self, plain: Evidence
    ) -> None:
        cordoned = [type(i).FromString(i.SerializeToString()) for i in plain.incidents]
        cordoned[0].steps.add(kind="cordon", text="GPU 0 stays locked up")
        measures, _ = judge(replace(plain, incidents=tuple(cordoned)))
        assert measures.ended == "cordoned"

    def test_an_offender_that_came_back_is_seen(self, plain: Evidence) -> None:
        assert judge(replace(plain, fate=replace(plain.fate, restarts=1)))[0].has_come_back
        assert judge(replace(plain, fate=replace(plain.fate, is_running=True)))[0].has_come_back

    def test_a_device_that_never_locked_up_shows_nothing(self, plain: Evidence) -> None:
        assert not judge(replace(plain, xids=()))[0].was_locked_up

    def test_ignoring_term_does_not_help(self) -> None:
        with Scene(2, Variant(is_stubborn=True), docker=None, keep=None) as scene:
            evidence = scene.play()
        assert failures(evidence) == []
        assert evidence.fate.exit_status == -signal.SIGKILL

    def test_a_device_that_stays_locked_is_cordoned_and_people_are_paged(self) -> None:
        with Scene(3, Variant(is_persistent=True), docker=None, keep=None) as scene:
            evidence = scene.play()
        assert failures(evidence) == []
        assert any("gpu-reset -i 0" in page for page in as_json(evidence)["pages"])


@pytest.mark.docker
class TestContainers:
    @pytest.fixture
    def address(self) -> str:
        return os.environ["DOCKER_HOST"]

    @pytest.fixture(autouse=True)
    def _left_nothing(self, address: str) -> Iterator[None]:
        yield
        with contextlib.closing(docker.DockerClient(base_url=address)) as client:
            assert client.containers.list(all=True, filters={"label": MARK}) == []
            assert client.images.list(name="gpuwarden-incident") == []

    @pytest.mark.parametrize(
        ("seed", "variant"),
        [
            (2, Variant()),  # restart policy always
            (5, Variant(is_stubborn=True)),  # on-failure
            (6, Variant(has_no_grace=True)),
            (7, Variant(is_persistent=True)),
        ],
    )
    def test_the_incident(self, address: str, seed: int, variant: Variant) -> None:
        with Scene(seed, variant, docker=address, keep=None) as scene:
            evidence = scene.play()
        assert failures(evidence) == []
        assert as_json(evidence)["real_containers"] is True

    def test_a_moved_service_runs_on_the_other_device(self, address: str) -> None:
        variant = Variant(is_persistent=True, allows_restart=True)
        with Scene(9, variant, docker=address, keep=None) as scene:
            evidence = scene.play()
        protected = {m.name for m in evidence.cast.members if m.tenant_class == "protected"}
        assert evidence.moved == dict.fromkeys(protected, 1)
        assert as_json(evidence)["wrong_victims"] == 0

    def test_a_pause_of_a_bystander_does_not_stay_unseen(self, address: str) -> None:
        """A freeze and a thaw within a millisecond leave the state as it was, and a mark."""
        with contextlib.closing(docker.DockerClient(base_url=address)) as client:
            sleeper = client.containers.run(
                "gpuwarden-test:busybox", ["sleep", "60"], detach=True, network_mode="none"
            )
            try:
                sleeper.reload()
                touches = Touches()
                touches.watch("sleeper", cgroup_folders(sleeper.attrs["State"]["Pid"]))
                assert touches.marks("sleeper") == ()
                sleeper.pause()
                sleeper.unpause()
                assert any("freez" in mark for mark in touches.marks("sleeper"))
                touches.close()
            finally:
                sleeper.remove(force=True)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder for one command (tmp_path is too long for a socket's address)."""
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as folder:
        yield Path(folder)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "gpuwarden", "simulate", "incident", "--no-docker", *words]


def environment() -> dict[str, str]:
    return with_our_code(os.environ)


def test_the_command_prints_one_json_object() -> None:
    done = subprocess.run(
        command("--json", "--seed", "4", "--no-grace"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    run: dict[str, Any] = json.loads(done.stdout)
    assert {*NOT_ABOUT_TIME, "wrong_victims", "real_containers"} <= run.keys()
    assert (run["seed"], run["ended"], run["wrong_victims"]) == (4, "evicted", 0)
    assert done.returncode == (1 if run["missed"] else 0)
    assert [text for text in run["missed"] if text.partition(":")[0] not in NOT_ABOUT_TIME] == []


def test_for_people_it_ends_with_the_whole_explanation() -> None:
    """Who, how much, each step with its outcome, what was withheld, what to do next."""
    done = subprocess.run(
        command("--seed", "4", "--stubborn"),
        env={**environment(), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    _, said, explained = done.stdout.partition("What `gpuwarden explain` says of it:\n")
    assert said, done.stdout
    for heading in ("Who ", "Memory over time", "Evidence", "What happened", "What to do next"):
        assert f"\n{heading}" in explained
    steps = explained.partition("What happened")[2].partition("Withheld")[0]
    assert re.search(r" term +done ", steps), steps
    assert re.search(r" kill +done ", steps), steps
    assert max(len(line) for line in explained.splitlines()) <= 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number: int, temporary: Path) -> None:
    process = subprocess.Popen(
        command("--json"),
        env={**environment(), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    folder = _until_agent_is_up(process, temporary)
    children = _descendants(process.pid)
    assert len(children) >= 5  # driver, agent, members
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not folder.exists()
    assert {pid for pid in children if life_of(pid) is not None} == set()
    assert group_members(process.pid) == set()


def _until_agent_is_up(process: subprocess.Popen[bytes], temporary: Path) -> Path:
    for _ in range(2000):
        for folder in temporary.glob("gpuwarden-incident-*"):
            # every member but the passing one has its program by then
            if (folder / "run" / "gpuwarden.sock").exists() and _programs(folder) >= 4:
                return folder
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"ended by itself: {process.communicate()!r}")
    pytest.fail("the agent did not come up")


def _programs(folder: Path) -> int:
    programs = folder / "programs"
    return len(list(programs.iterdir())) if programs.exists() else 0


def _descendants(pid: int) -> set[int]:
    """Every process below one, by the parents that /proc names."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {pid}
