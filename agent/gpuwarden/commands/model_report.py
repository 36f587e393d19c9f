"""``gpuwarden model report``: live rows against a profile, as text, as a page and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.commands import live_times
from gpuwarden.commands.output import EXIT_PROBLEM, Out, answers, end
from gpuwarden.commands.words import plain
from gpuwarden.errors import Refused, Unsupported

if TYPE_CHECKING:
    from gpuwarden.evaluate.inputs import Floats
    from gpuwarden.model.drift_report import DriftReport, KpiTrack

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("report")
@click.option("--profile", "reference", type=FILE, required=True, help="From `model profile`.")
@click.option(
    "--from", "live", type=FILE, required=True, help="Live rows in order of time: CSV or Parquet."
)
@click.option(
    "--reference",
    "rows",
    type=FILE,
    help="The reference's own rows: all numbers together are looked at, too.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="One page, pictures inside."
)
@click.option(
    "--png", type=click.Path(path_type=Path, file_okay=False), help="A folder for the pictures."
)
@click.option("--title", default="Drift report", show_default=True)
@click.option(
    "--window-rows", type=click.IntRange(100, 10_000_000), default=1000, show_default=True
)
@click.option("--time-column", help="Unix seconds or ISO 8601.")
@click.option("--truth", help="A column of labels; with --prediction.")
@click.option("--prediction", help="A column of what the model said.")
@click.option(
    "--kpi-table",
    type=FILE,
    help="One row a step of time, with a model's and the business' numbers.",
)
@click.option("--metric", "metrics", multiple=True, help="A column of the model's in it.")
@click.option("--kpi", "kpis", multiple=True, help="A column of the business' in it.")
@click.option("--lags", type=click.IntRange(0, 500), default=7, show_default=True)
@click.option(
    "--season", type=click.IntRange(2, 100_000), help="Steps of a season of the KPI table."
)
@answers
def report(
    out: Out,
    reference: Path,
    live: Path,
    rows: Path | None,
    html: Path | None,
    png: Path | None,
    title: str,
    window_rows: int,
    time_column: str | None,
    truth: str | None,
    prediction: str | None,
    kpi_table: Path | None,
    metrics: tuple[str, ...],
    kpis: tuple[str, ...],
    lags: int,
    season: int | None,
) -> None:  # fmt: skip
    """Live rows against the reference, window by window: which features have drifted, since when, how far; whether
    accuracy has dropped; whether a KPI moves with it. Exit code 1 where something has."""
    try:
        tracks = _kpis(kpi_table, metrics, kpis, lags, season)
        made = _report(
            reference, live, rows, title, window_rows, (time_column, truth, prediction), tracks
        )
    except ImportError as error:
        raise Unsupported(f"needs numpy ({error}): pip install 'gpuwarden[aggregator]'") from error
    except ValueError as error:
        raise Refused(str(error)) from error
    written = _written(made, html, png) if html is not None or png is not None else []
    if out.is_json:
        out.data({"report": made, "files": written})
    else:
        lines = [*made.summary, *(each.told for each in made.kpis), *made.remarks]
        out.show([*(plain(line) for line in lines), *(plain(str(path)) for path in written)])
    has_lost = made.quality is not None and made.quality.verdict_window is not None
    found = [*(each.drifts for each in made.features), *(each.is_drift for each in made.joint)]
    if has_lost or any(found):
        end(EXIT_PROBLEM)


def _report(
    reference: Path,
    live: Path,
    reference_rows: Path | None,
    title: str,
    window_rows: int,
    named: tuple[str | None, str | None, str | None],
    kpis: tuple[KpiTrack, ...],
) -> DriftReport:
    from gpuwarden.adapters import tablefile
    from gpuwarden.evaluate.drift import profile_file
    from gpuwarden.evaluate.drift.report import LiveColumns, LiveRows, Times, numbers_of

    with reference.open("rb") as file:
        known = profile_file.read(file.read(profile_file.TEXT_MAX_BYTES + 1))
    time, truth, prediction = named
    with tablefile.columns(live) as table:
        rows = LiveRows(
            known,
            table.header,
            columns=LiveColumns(time=time, truth=truth, prediction=prediction),
            window_rows=window_rows,
            times=Times(read=live_times.seconds_of, show=live_times.shown),
            rows=None
            if reference_rows is None
            else _rows(reference_rows, numbers_of(known, table.header), window_rows),
        )
        for batch in table.batches:
            rows.add(batch)
    return rows.report(title=title, kpis=kpis)


def _rows(table: Path, names: tuple[str, ...], size: int) -> Floats | None:
    from gpuwarden.adapters import tablefile
    from gpuwarden.evaluate.drift.joint import ReferenceRows, matrix

    if not names:
        return None
    chosen = ReferenceRows(size)
    with tablefile.columns(table) as file:
        if unknown := [name for name in names if name not in file.header]:
            raise Refused(f"{table}: no column {unknown[0]!r}")
        places = [file.header.index(name) for name in names]
        for batch in file.batches:
            chosen.add(matrix([batch[place] for place in places]))
    return chosen.rows()


def _kpis(
    table: Path | None,
    metrics: tuple[str, ...],
    kpis: tuple[str, ...],
    lags: int,
    season: int | None,
) -> tuple[KpiTrack, ...]:
    if table is None:
        if metrics or kpis:
            raise click.UsageError("--metric and --kpi are columns of --kpi-table")
        return ()
    if not metrics or not kpis:
        raise click.UsageError("--kpi-table: which columns? --metric and --kpi")
    from gpuwarden.commands.model_kpi import columns_of
    from gpuwarden.evaluate.quality.kpi import tracks

    columns = columns_of(table, (*metrics, *kpis))
    return tracks(
        {name: columns[name] for name in metrics},
        {name: columns[name] for name in kpis},
        lags=lags,
        season=season,
    )


def _written(made: DriftReport, html: Path | None, png: Path | None) -> list[Path]:
    from gpuwarden.adapters.plots import drawn
    from gpuwarden.commands.report_page import page

    pictures = drawn(made)
    written = []
    try:
        if png is not None:
            png.mkdir(parents=True, exist_ok=True)
            for name, picture in pictures.items():
                (png / f"{name}.png").write_bytes(picture)
                written.append(png / f"{name}.png")
        if html is not None:
            html.write_text(page(made, pictures), encoding="utf-8")
            written.append(html)
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error
    return written
