"""The plays of ``simulate rollout``: what they promise, and that a missed bound shows."""

import json
import os

import pytest
from click.testing import CliRunner

from gpuwarden.cli import main
from gpuwarden.sim.rollout import good


def run(*words: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(main, ["simulate", "rollout", *words, "--json"])
    said: dict[str, object] = json.loads(done.stdout)
    return done.exit_code, said


def test_a_good_version_reaches_all_traffic_within_the_cap() -> None:
    status, said = run("good-version", "--seed", "3")
    assert (status, said["missed"]) == (0, [])
    assert said["reached_100"] is True


def test_a_cap_that_is_not_kept_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The play measures what was told; it does not take the gate's word."""
    monkeypatch.setattr(good, "CAP", 0.1)
    status, said = run("good-version")
    assert status == 1
    assert "points within a day" in str(said["missed"])


@pytest.mark.docker
@pytest.mark.root
def test_a_bad_version_is_found_frozen_and_rolled_back_in_real_containers() -> None:
    assert os.environ["DOCKER_HOST"]
    status, said = run("bad-version")
    assert (status, said["missed"]) == (0, [])
    assert said["real_containers"] is True
    assert said["share"] == 0.05
