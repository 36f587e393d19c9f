"""What ``check-config`` and ``config show`` say of the aggregator's file, and of tables with names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.config_files import load, load_as
from tests.commands.cli_run import run

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_file_of_the_aggregator_is_right() -> None:
    shipped = str(ROOT / "packaging" / "aggregator.toml")
    result = run("check-config", "--aggregator", "-c", shipped)
    assert (result.exit_code, result.output.startswith("ok: ")) == (0, True)


def test_the_mistakes_in_an_aggregators_file(tmp_path: Path) -> None:
    path = tmp_path / "aggregator.toml"
    path.write_text('[aggregator]\nlisten = "x"\n[sight]\nsilent_after = "60s"\n')
    result = run("check-config", "--aggregator", "-c", str(path))
    assert result.exit_code == 1
    assert "aggregator.toml:2: aggregator.listen: expected HOST:PORT" in result.output
    assert 'did you mean "silent_after_s"?' in result.output
    assert "2 mistakes" in result.output


@pytest.mark.parametrize("door", ["enrol_listen", "metrics_listen"])
def test_what_is_shown_of_an_aggregator_can_be_read_back(tmp_path: Path, door: str) -> None:
    path = tmp_path / "aggregator.toml"
    path.write_text(
        f'[aggregator]\n{door} = "none"\n[permit.cordon]\nratio = "5%"\nmost = 7\nwindow_s = 60\n'
    )
    first = load_as(AggregatorConfig, path, "aggregator.d", True, {}).config
    assert getattr(first.aggregator, door) is None
    path.write_text(run("config", "show", "--aggregator", "-c", str(path)).output)
    assert load_as(AggregatorConfig, path, "aggregator.d", True, {}).config == first


def test_tables_with_names_of_their_own_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        '[fleet]\ngroup = "a b"\ndomains = { rack = "r 12", "the row" = "\\u0007" }\n'
        '[placement.realtime]\nadmit = ["high"]\n[placement."a b"]\nadmit = ["low"]\nrefuse = true\n'
    )
    first = load(path, environ={}).config
    assert first.placement["a b"].refuse
    path.write_text(run("config", "show", "-c", str(path)).output)
    assert load(path, environ={}).config == first
