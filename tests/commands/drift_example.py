"""A simulated drift as files: a reference, live rows, and days with a KPI; and the report kept under docs/.

``python -m tests.commands.drift_example docs/drift-report`` makes that report again.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from gpuwarden.cli import main

ROWS, WINDOWS = 1000, 48
SHIFT_AT, LOSS_AT, RAMP = 26, 30, 6
BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
HEADER = ("time", "age_years", "dose_mgy", "brightness", "contrast", "site", "truth", "prediction")


def write(folder: Path, *, windows: int = WINDOWS, is_stable: bool = False) -> None:
    """``reference.csv``, ``live.csv`` (an hour a window) and ``days.csv`` into ``folder``."""
    r = np.random.default_rng(7)
    _rows(folder / "reference.csv", r, [(0.0, 0.96)] * 20)
    shares = []
    for window in range(windows):
        share = min(1.0, max(0.0, (window - SHIFT_AT) / RAMP))
        lost = 0.06 if window >= LOSS_AT else 0.0
        shares.append((0.0, 0.96) if is_stable else (share, 0.96 - lost))
    _rows(folder / "live.csv", r, shares)
    _days(folder / "days.csv", r)


def _rows(path: Path, r: np.random.Generator, windows: list[tuple[float, float]]) -> None:
    """``windows``: how far the scanner's change has come, and the accuracy."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(HEADER)
        for window, (share, accuracy) in enumerate(windows):
            is_new = r.random(ROWS) < 0.45 * share
            columns = [
                r.normal(58, 14, ROWS).clip(18, 99).round(1),
                r.lognormal(1.1, 0.3, ROWS).round(3),
                r.normal(118 + 14 * share, 17, ROWS).round(1),
                r.normal(0.62, 0.08, ROWS).round(4),
                np.where(
                    is_new, "east", r.choice(["north", "south", "west"], ROWS, p=[0.5, 0.3, 0.2])
                ),
            ]
            truth = np.where(r.random(ROWS) < 0.2, "malign", "benign")
            is_right = r.random(ROWS) < accuracy
            said = np.where(is_right, truth, np.where(truth == "malign", "benign", "malign"))
            for n, row in enumerate(zip(*columns, truth, said, strict=True)):
                at = BEGIN + timedelta(hours=window, seconds=3.6 * n)
                out.writerow([at.isoformat(timespec="seconds"), *row])


def _days(path: Path, r: np.random.Generator) -> None:
    days = 120
    accuracy = 0.96 - 0.02 * (np.arange(days) > 70) + 0.012 * r.normal(size=days)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["accuracy", "second_reads_per_1000"])
        for n in range(days):
            late = accuracy[max(0, n - 3)]
            out.writerow([f"{accuracy[n]:.4f}", f"{40 + 600 * (0.96 - late) + 4 * r.normal():.2f}"])


def run(folder: Path, *words: str | Path) -> Result:
    """The report of what ``write`` wrote."""
    profile = folder / "profile.json"
    made = CliRunner().invoke(
        main,
        ["model", "profile", "--from", str(folder / "reference.csv"), "--out", str(profile),
         *(f"--column={name}" for name in HEADER[1:6])],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    return CliRunner().invoke(
        main,
        ["model", "report", "--profile", str(profile), "--from", str(folder / "live.csv"),
         "--time-column", "time", "--truth", "truth", "--prediction", "prediction",
         *map(str, words)],
    )  # fmt: skip


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as made_in:
        write(Path(made_in))
        ran = run(
            Path(made_in), "--html", target / "report.html", "--png", target,
            "--reference", Path(made_in) / "reference.csv",
            "--kpi-table", Path(made_in) / "days.csv", "--metric", "accuracy",
            "--kpi", "second_reads_per_1000", "--title", "Drift of triage, version 1.4 (simulated)",
        )  # fmt: skip
        sys.stdout.write(ran.output)
        assert ran.exit_code == 1, ran.exception
