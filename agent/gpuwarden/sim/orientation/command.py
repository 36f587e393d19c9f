"""``gpuwarden simulate orientation``: every left-right flip in the generated DICOM set, and nothing else?"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table


@click.command("orientation")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option(
    "--every",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Only each N-th case of the set.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder for the images, two files a case, by the case's number.",
)
def orientation(as_json: bool, every: int, keep: Path | None) -> None:
    """Make DICOM images whose left is known, preprocess them rightly and wrongly, and judge each.

    Exit code 1 unless every left-right flip is found, nothing else is called one, and what cannot be known is
    said to be so.
    """
    try:
        from gpuwarden.sim.orientation.cases import cases
        from gpuwarden.sim.orientation.trial import summary, tried
    except ImportError as error:
        raise click.ClickException(
            f"needs numpy and pydicom ({error}): pip install 'gpuwarden[aggregator,dicom]'"
        ) from error
    chosen = itertools.islice(enumerate(cases()), 0, None, every)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        found = summary(tried(case, keep, f"{number:04d}-") for number, case in chosen)
    else:
        with tempfile.TemporaryDirectory(prefix="gpuwarden-orientation-") as folder:
            found = summary(tried(case, Path(folder)) for _, case in chosen)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show(found)
    sys.exit(0 if found["ok"] else 1)


def _show(found: dict[str, Any]) -> None:
    table = Table("truth", "cases", "right", box=None, pad_edge=False)
    for kind, counts in found["kinds"].items():
        table.add_row(kind, str(counts["cases"]), str(counts["right"]))
    Console().print(table)
    swaps = found["left_right"]
    click.echo(
        f"left and right changed places in {swaps['cases']}: {swaps['found']} found; "
        f"false alarms: {found['false_alarms']}; cases: {found['cases']}"
    )
    for each in found["wrong"]:
        click.echo(f"wrong: {each['name']}: {each['outcome']} and not {each['truth']}")
