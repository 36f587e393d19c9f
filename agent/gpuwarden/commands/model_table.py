"""``gpuwarden model expect`` and ``model check``: what a table is expected to be, and whether one is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.commands.output import EXIT_PROBLEM, Column, Out, answers, end
from gpuwarden.commands.words import plain
from gpuwarden.errors import ConfigError

if TYPE_CHECKING:
    from gpuwarden.evaluate.quality.table import Expectations, TableFinding

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("expect")
@click.argument("good", type=FILE)
@click.option("--key", "keys", multiple=True, help="A column that names a row; may be given again.")
@answers
def expect(out: Out, good: Path, keys: tuple[str, ...]) -> None:
    """Learn what to expect from a GOOD table (CSV or Parquet); prints JSON for `model check --expect`."""
    import dataclasses

    from gpuwarden.adapters.tablefile import opened
    from gpuwarden.evaluate.quality.expectations import Learner, to_text

    with opened(good) as table:
        unknown = [key for key in keys if key not in table.header]
        if unknown:
            raise click.BadParameter(
                f"no column {plain(unknown[0])!r} in {good}", param_hint="--key"
            )
        learner = Learner(table.header)
        for batch in table.batches:
            learner.add(batch)
    learned = learner.expectations()
    if keys:
        unbound = tuple(  # the next table's rows have other names
            dataclasses.replace(each, low=None, high=None, categories=None)
            if each.name in keys
            else each
            for each in learned.columns
        )
        learned = dataclasses.replace(learned, columns=unbound, key=keys, duplicates_max=0.0)
    if out.is_json:
        out.data({"expectations": learned})
    else:
        click.echo(to_text(learned), nl=False)


@click.command("check")
@click.argument("data", type=FILE)
@click.option("--expect", "expected", type=FILE, required=True, help="From `model expect`.")
@answers
def check(out: Out, data: Path, expected: Path) -> None:
    """Is a table (CSV or Parquet) what it is expected to be? Exit code 1 where something is beyond its limit."""
    from gpuwarden.adapters.tablefile import opened
    from gpuwarden.evaluate.quality.table import TableCheck

    with opened(data) as table:
        checking = TableCheck(_expectations(expected), table.header)
        for batch in table.batches:
            checking.add(batch)
    report = checking.report()
    if out.is_json:
        out.data({"rows": report.rows, "is_well": report.is_well, "findings": report.findings})
    else:
        beyond = sum(each.is_beyond for each in report.findings)
        out.show([f"{report.rows} rows; beyond their limits: {beyond}"])
        if report.findings:
            out.show([out.table(_COLUMNS, [_row(each) for each in report.findings])])
    if not report.is_well:
        end(EXIT_PROBLEM)


def _expectations(path: Path) -> Expectations:
    from gpuwarden.evaluate.quality.expectations import TEXT_MAX_CHARS, from_text

    with path.open("rb") as file:
        raw = file.read(TEXT_MAX_CHARS + 1)
    found = from_text(raw.decode("utf-8", "replace"))
    if isinstance(found, tuple):
        raise ConfigError(tuple(f"{path}: {fault}" for fault in found))
    return found


_COLUMNS = (
    Column("column", may_wrap=True),
    Column("finding"),
    Column("rows", is_number=True),
    Column("share", is_number=True),
    Column("limit", is_number=True),
    Column("examples", may_wrap=True, from_width=90),
)


def _row(found: TableFinding) -> list[str]:
    about = "~" if found.is_estimate else ""
    return [
        plain(found.column) or "-",
        found.fault.value if found.is_beyond else f"({found.fault.value})",
        f"{about}{found.count:.0f}",
        "-" if found.share is None else f"{about}{found.share:.2%}",
        "-" if found.limit is None or found.share is None else f"{found.limit:.2%}",
        ", ".join(found.examples) or "-",
    ]
