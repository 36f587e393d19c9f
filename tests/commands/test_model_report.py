"""``gpuwarden model report``: a page that stands alone, and exit codes for scripts."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuwarden.cli import main
from tests.commands import drift_example

KEPT = Path(__file__).parents[2] / "docs" / "drift-report"
SIZE_MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stable")
    drift_example.write(folder, windows=3, is_stable=True)
    return folder


def test_the_page_kept_in_docs_is_that_of_today(tmp_path: Path) -> None:
    """To make it again: python -m tests.commands.drift_example docs/drift-report."""
    drift_example.write(tmp_path)
    reference, page, png = (
        tmp_path / "reference.csv",
        tmp_path / "r.html",
        tmp_path / "deep" / "png",
    )
    ran = drift_example.run(
        tmp_path, "--json", "--reference", reference, "--html", page, "--png", png
    )
    assert ran.exit_code == 1, ran.output
    said = json.loads(ran.output)["report"]
    assert [line.split()[0] for line in said["summary"]] == [
        "brightness",
        "site",
        "All",
        "Accuracy",
    ]
    kept, new = (KEPT / "report.html").read_text(), page.read_text()
    for line in said["summary"]:
        assert f"<li>{escape(line)}</li>" in kept
        assert f"<li>{escape(line)}</li>" in new
    assert new.count('src="data:image/png;base64,') == 4
    names = sorted(each.name for each in png.iterdir())
    assert names == ["distances.png", "features.png", "joint.png", "quality.png"]
    for each in KEPT.iterdir():
        assert each.stat().st_size < SIZE_MAX_BYTES


def test_a_stable_service_ends_with_0_and_a_kpi_is_told_with_its_lag(stable: Path) -> None:
    ran = drift_example.run(
        stable, "--kpi-table", stable / "days.csv", "--metric", "accuracy",
        "--kpi", "second_reads_per_1000",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    first, second = ran.output.splitlines()
    assert first == "No feature has drifted."
    assert second.startswith("second_reads_per_1000 falls with accuracy, 3 steps later")


def test_what_cannot_be_is_said(stable: Path, tmp_path: Path) -> None:
    ran = drift_example.run(stable, "--reference", stable / "days.csv")
    assert "no column 'age_years'" in ran.output
    assert drift_example.run(stable, "--metric", "accuracy").exit_code == 2
    assert drift_example.run(stable, "--kpi-table", stable / "days.csv").exit_code == 2
    ran = drift_example.run(stable, "--html", tmp_path / "no" / "r.html")
    assert ran.exit_code == 1
    assert "No such file" in ran.output
    (tmp_path / "profile.json").write_text('{"format": "other"}')
    ran = CliRunner().invoke(
        main,
        ["model", "report", "--profile", str(tmp_path / "profile.json"),
         "--from", str(stable / "live.csv")],
    )  # fmt: skip
    assert ran.exit_code == 1
    assert "profile: rows is missing" in ran.output or "profile: features is missing" in ran.output
