"""The undisturbed run of each play, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kills.deaths import Run, perform
from tests.kills.plays import PLAYS, Play

Undisturbed = Callable[[Play], Run]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """How a play goes when nobody dies."""
    folder = tmp_path_factory.mktemp("undisturbed")
    runs: dict[str, Run] = {}

    def of(play: Play) -> Run:
        if play.name not in runs:
            runs[play.name] = perform(play, folder / play.name)
        return runs[play.name]

    return of


@pytest.fixture(scope="session")
def every_run(undisturbed: Undisturbed) -> list[Run]:
    """All of them."""
    return [undisturbed(play) for play in PLAYS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a run keeps its journal."""
    return tmp_path / "journal"
