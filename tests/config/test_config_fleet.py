"""[fleet] of an agent: what may be said, and what would not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwarden.config_files import load
from gpuwarden.errors import ConfigError


def said(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(f"[fleet]\n{text}\n")
    return path


def test_by_itself_a_node_belongs_to_no_fleet(tmp_path: Path) -> None:
    cfg = load(said(tmp_path, ""), environ={}).config.fleet
    assert (cfg.aggregator, cfg.listen) == ((), None)


def test_an_aggregator_or_several(tmp_path: Path) -> None:
    one = load(said(tmp_path, 'aggregator = "a:9440"'), environ={}).config.fleet
    assert one.aggregator == ("a:9440",)
    two = load(said(tmp_path, 'aggregator = ["a:9440", "b:9440"]'), environ={}).config.fleet
    assert two.aggregator == ("a:9440", "b:9440")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_every_address_is_none_that_could_be_asked(tmp_path: Path, host: str) -> None:
    path = said(tmp_path, f'listen = "{host}:9442"')
    with pytest.raises(ConfigError, match="advertise: missing"):
        load(path, environ={})
    path = said(tmp_path, f'listen = "{host}:9442"\nadvertise = "gpu-07:9442"')
    assert load(path, environ={}).config.fleet.advertise == "gpu-07:9442"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('local_kinds = ["explode"]', "fleet.local_kinds"),
        ('aggregator = ["a:1", "nowhere"]', "fleet.aggregator: expected HOST:PORT"),
        ('aggregator = ["a:1", "a:1"]', "fleet.aggregator: expected up to 8 different"),
        ('aggregator = "nowhere"', "fleet.aggregator: expected HOST:PORT"),
        ("local_actions = -1", "fleet.local_actions"),
        ('group = ""', "fleet.group"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(said(tmp_path, text), environ={})
