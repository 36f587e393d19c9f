"""The record of what was done to the fleet: each change of it is seen, whoever makes it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.cli import main

WALL = 1_700_000_000.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    store = SqliteStore(tmp_path / "state" / "fleet.sqlite")
    with store.transaction():
        for number in range(1, 6):
            store.audit(WALL + number, "alice (operator)", "cordon", f"n{number} node: why")
    store.close()
    path = tmp_path / "a.toml"
    path.write_text(f'[aggregator]\nstate_dir = "{tmp_path / "state"}"\n')
    return path


def verify(config: Path, *words: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(main, ["audit", "verify", "-c", str(config), "--json", *words])
    return done.exit_code, json.loads(done.stdout)


def tamper(config: Path, statement: str) -> None:
    with sqlite3.connect(config.parent / "state" / "fleet.sqlite") as db:
        db.execute(statement)
    db.close()


def test_a_whole_record(config: Path) -> None:
    code, said = verify(config)
    assert (code, said["lines"], said["broken"], said["is_whole"]) == (0, 5, None, True)
    assert verify(config, "--head", str(said["head"]))[0] == 0


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET who='mallory' WHERE number=3", 3),
        ("UPDATE audit SET wall=0 WHERE number=1", 1),
        ("DELETE FROM audit WHERE number=2", 3),
        ("DELETE FROM audit WHERE number=1", 2),
        ("UPDATE audit SET number=number+10 WHERE number=4", 5),
        ("INSERT INTO audit VALUES (6, 0, 'x', 'y', 'z', 'forged')", 6),
    ],
)
def test_each_change_names_its_line(config: Path, statement: str, broken: int) -> None:
    tamper(config, statement)
    code, said = verify(config)
    assert (code, said["broken"]) == (1, broken)


def test_an_end_that_was_cut_off_shows_by_the_mark(config: Path) -> None:
    _, before = verify(config)
    tamper(config, "DELETE FROM audit WHERE number=5")
    assert verify(config)[0] == 0
    code, said = verify(config, "--head", str(before["head"]))
    assert (code, said["is_whole"]) == (1, False)


def test_the_list_is_for_people(config: Path) -> None:
    done = CliRunner().invoke(main, ["audit", "list", "-c", str(config), "-n", "2"])
    assert done.exit_code == 0
    assert "alice (operator)" in done.stdout
    assert "n5 node: why" in done.stdout
    assert "n3 node: why" not in done.stdout


def test_without_a_store_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f'[aggregator]\nstate_dir = "{tmp_path}"\n')
    done = CliRunner().invoke(main, ["audit", "verify", "-c", str(tmp_path / "a.toml")])
    assert done.exit_code == 3
