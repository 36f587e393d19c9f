"""The aggregator's file: read as the agent's is, with every mistake named at its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpuwarden.aggregator.wiring import load
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import ConfigError

SHIPPED = Path(__file__).resolve().parents[2] / "packaging" / "aggregator.toml"


def uncommented(text: str) -> str:
    """The shipped example with every setting in force: ``# grace_s = "300s"  # ...`` is one."""
    return re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)


def test_the_shipped_example_says_the_defaults(tmp_path: Path) -> None:
    assert load(SHIPPED) == AggregatorConfig()
    (tmp_path / "a.toml").write_text(uncommented(SHIPPED.read_text(encoding="utf-8")))
    assert load(tmp_path / "a.toml") == AggregatorConfig()


def test_drop_ins_lie_beside_it_and_are_not_the_agents(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[aggregator]\nlisten = "127.0.0.1:1"\n')
    for folder, text in (
        ("aggregator.d", "[sight]\ngrace_s = 7\n"),
        ("conf.d", "[nonsense]\n"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.toml").write_text(text)
    cfg = load(tmp_path / "a.toml", {"aggregator.log_format": "json"})
    assert (cfg.aggregator.listen, cfg.sight.grace_s) == ("127.0.0.1:1", 7.0)
    assert cfg.aggregator.log_format == "json"


def test_every_mistake_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        '[aggregator]\nlisten = "nowhere"\n[permit]\nttl_s = "2h"\n[sight]\nsilent = 3\n'
        '[permit.cordon]\nratio = "500%"\nmost = 1\nwindow_s = 1\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "a.toml")
    said = "\n".join(caught.value.faults)
    for part in (
        "a.toml:2: aggregator.listen: expected HOST:PORT",
        "a.toml:4: permit.ttl_s: expected",
        'sight.silent: unknown key "silent"',
        "permit.cordon.ratio",
    ):
        assert part in said


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://gpuwarden@db.example:5432/fleet?sslmode=verify-full",
        "postgresql:///fleet?host=/run/postgresql",
        "file:/etc/gpuwarden/database",
    ],
)
def test_a_database_is_named_without_its_password(tmp_path: Path, address: str) -> None:
    (tmp_path / "a.toml").write_text(f'[aggregator]\nstore = "{address}"\n')
    assert load(tmp_path / "a.toml").aggregator.store == address


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:hunter2@db/fleet",
        "postgresql://user@db/fleet?password=hunter2",
        "mysql://hunter2",
        "hunter2",
    ],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    (tmp_path / "a.toml").write_text(f'[aggregator]\nstore = "{address}"\n')
    with pytest.raises(ConfigError, match="expected an address such as postgresql://") as caught:
        load(tmp_path / "a.toml")
    assert "hunter2" not in str(caught.value)
