"""``gpuwarden model kpi``: do a model's numbers and the business' numbers move together."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.commands.output import Column, Out, answers
from gpuwarden.commands.words import plain
from gpuwarden.errors import Refused, Unsupported

if TYPE_CHECKING:
    from gpuwarden.evaluate.quality.kpi import Association

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("kpi")
@click.argument("table", type=FILE)
@click.option("--metric", "metrics", multiple=True, required=True, help="A column of the model's.")
@click.option("--kpi", "kpis", multiple=True, required=True, help="A column of the business'.")
@click.option("--lags", type=click.IntRange(0, 500), default=7, show_default=True,
              help="How many steps later the KPI may move.")  # fmt: skip
@click.option("--leads", type=click.IntRange(0, 500), default=0, show_default=True,
              help="How many steps earlier.")  # fmt: skip
@click.option(
    "--season", type=click.IntRange(2, 100_000), help="Steps of a season, such as 24 or 7."
)
@answers
def kpi(
    out: Out,
    table: Path,
    metrics: tuple[str, ...],
    kpis: tuple[str, ...],
    lags: int,
    leads: int,
    season: int | None,
) -> None:
    """TABLE (CSV or Parquet): one row a step of time, in order. Slopes, intervals and corrected p-values by pair and lag."""
    try:
        from gpuwarden.evaluate.quality.kpi import associations, strongest, told
    except ImportError as error:
        raise Unsupported(f"needs numpy ({error}): pip install 'gpuwarden[aggregator]'") from error
    columns = columns_of(table, (*metrics, *kpis))
    try:
        found = associations(
            {name: columns[name] for name in metrics},
            {name: columns[name] for name in kpis},
            lags=lags,
            leads=leads,
            season=season,
        )
    except ValueError as error:
        raise Refused(str(error)) from error
    best = strongest(found)
    if out.is_json:
        out.data({"associations": found, "strongest": best})
        return
    out.show(
        [*(plain(told(each)) for each in best), out.table(_SHOWN, [_row(each) for each in best])]
    )


def columns_of(path: Path, names: tuple[str, ...]) -> dict[str, list[float | None]]:
    """These columns of a table as numbers, up to the number of steps that is judged and one more."""
    from gpuwarden.adapters.tablefile import opened
    from gpuwarden.evaluate.quality.kpi import POINTS_MAX
    from gpuwarden.evaluate.quality.table import number_of

    with opened(path) as file:
        for name in names:
            if name not in file.header:
                raise Refused(f"{path}: no column {name!r}")
        places = {name: file.header.index(name) for name in names}
        found: dict[str, list[float | None]] = {name: [] for name in names}
        rows = itertools.chain.from_iterable(file.batches)
        for row in itertools.islice(rows, POINTS_MAX + 1):
            for name, place in places.items():
                found[name].append(number_of(row[place]) if place < len(row) else None)
    return found


_SHOWN = (
    Column("metric", may_wrap=True),
    Column("kpi", may_wrap=True),
    Column("lag", is_number=True),
    Column("points", is_number=True),
    Column("r", is_number=True),
    Column("slope", is_number=True),
    Column("95 %"),
    Column("p", is_number=True),
    Column("q", is_number=True),
)


def _row(each: Association) -> list[str]:
    from gpuwarden.evaluate.quality.kpi import chance_of

    def number(value: float | None, form: str = ".3g") -> str:
        return "-" if value is None else format(value, form)

    return [
        plain(each.metric),
        plain(each.kpi),
        str(each.lag),
        str(each.points),
        number(each.correlation, ".2f"),
        number(each.slope),
        f"{number(each.low)} to {number(each.high)}",
        "-" if each.p is None else chance_of(each.p),
        "-" if each.q is None else chance_of(each.q),
    ]
