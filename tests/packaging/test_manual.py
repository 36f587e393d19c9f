"""The manual pages and completion that scripts/package makes: they name every verb, option and setting."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gpuwarden.cli import VERBS, main
from gpuwarden.config import Config

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


def pages_of(package: str, config: str, folder: Path) -> dict[str, str]:
    (folder / "etc/gpuwarden").mkdir(parents=True)
    shutil.copy(ROOT / "packaging" / config, folder / "etc/gpuwarden")
    subprocess.run(
        [sys.executable, str(ROOT / "scripts/package.d/manual.py"), str(folder), package, "1.2.3"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent"), "SOURCE_DATE_EPOCH": "1000000000"},
        check=True,
        timeout=TIMEOUT_S,
    )
    found = {}
    for path in folder.rglob("*.gz"):
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        found[path.stem] = (folder / path.stem).read_text(encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agent")


@pytest.fixture(scope="module")
def pages(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    aggregator = tmp_path_factory.mktemp("aggregator")
    found = pages_of("gpuwarden", "agent.toml", tree)
    return {**pages_of("gpuwarden-aggregator", "aggregator.toml", aggregator), **found}


def plain(troff: str) -> str:
    return troff.replace("\\-", "-").replace("\\e", "\\").replace("\\&", "")


def each_verb(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from each_verb(below, f"{path} {name}")


def test_there_is_one_for_every_daemon_and_file(pages: dict[str, str]) -> None:
    assert sorted(pages) == [
        "agent.toml.5",
        "aggregator.toml.5",
        "gpuwarden-agent.8",
        "gpuwarden-aggregator.8",
        "gpuwarden.8",
    ]


def test_every_verb_and_option_is_named(pages: dict[str, str]) -> None:
    text = plain(pages["gpuwarden.8"])
    verbs = list(each_verb(main, "gpuwarden"))
    assert len(verbs) > 2 * len(VERBS)
    for path, command in verbs[1:]:
        assert f".SS {path}" in text, path
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in text, f"{path} {parameter.opts}"


def test_every_setting_is_named(pages: dict[str, str]) -> None:
    text = plain(pages["agent.toml.5"])
    for name in Config.model_fields["agent"].default.model_dump():
        assert f"\n.B agent.{name}\n" in text, name


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_they_are_well_formed(pages: dict[str, str], tree: Path) -> None:
    for name in pages:
        if not (tree / name).exists():
            continue
        command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(tree / name)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.stderr == "", name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there(shell: str, pages: dict[str, str], tree: Path) -> None:
    assert pages
    text = (tree / f"usr/lib/gpuwarden/completion/gpuwarden.{shell}").read_text(encoding="utf-8")
    assert f"_GPUWARDEN_COMPLETE={shell}_complete" in text


def test_completion_offers_every_verb() -> None:
    asked = {"COMP_WORDS": "gpuwarden ", "COMP_CWORD": "1", "_GPUWARDEN_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden"],
        env={**os.environ, **asked, "PYTHONPATH": str(ROOT / "agent")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    offered = {line.split(",")[1] for line in done.stdout.splitlines()}
    assert set(VERBS) <= offered
