"""``simulate drift``: an aggregator, an agent and a service, and all that follows from a shift, or from none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from gpuwarden.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run(*words: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(main, ["simulate", "drift", *words, "--json"])
    said: dict[str, Any] = json.loads(done.stdout)
    return done.exit_code, said


def test_shift_verdict_queue_labels_loss_and_training_once() -> None:
    status, said = run("--seed", "7")
    assert (status, said["missed"]) == (0, [])
    assert said["verdict"]["features"] == ["contrast", "dose"]
    assert (said["retrain"]["calls"], said["retrain"]["calls_after_kill"]) == (1, 1)


def test_where_nothing_shifts_nothing_fires() -> None:
    status, said = run("--none", "--seed", "8")
    assert (status, said["missed"]) == (0, [])
    assert said["retrain"]["calls"] == 0
