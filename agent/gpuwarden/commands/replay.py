"""``gpuwarden replay``: makes every decision of a journal again and prints any difference."""

from itertools import islice
from pathlib import Path

import click

from gpuwarden.commands.output import EXIT_PROBLEM, Column, Out, Part, Styled, answers, end
from gpuwarden.commands.words import clock
from gpuwarden.errors import Unavailable
from gpuwarden.node.replay import Difference, Replay, differences

DIFFERENCES_SHOWN = 1000


@click.command()
@click.argument("journal", type=click.Path(path_type=Path, exists=True))
@answers
def replay(out: Out, journal: Path) -> None:
    """Re-run the decisions of JOURNAL (a folder or one segment) and print any difference.

    Exit code 1 when a decision would be another one now, or nothing could be replayed.
    """
    met = Replay()
    try:
        found = list(islice(differences(journal, met), DIFFERENCES_SHOWN))
    except OSError as error:
        raise Unavailable(f"{journal}: {error.strerror or error}") from error
    records = met.reading.records if met.reading is not None else 0
    gaps = met.reading.gaps if met.reading is not None else 0
    if out.is_json:
        out.data(
            {
                "ticks": met.ticks,
                "records": records,
                "gaps": gaps,
                "without_config": met.without_config,
                "differences": found,
            }
        )
    else:
        out.show(_told(met, records, gaps, found, out))
    if found or not met.ticks:
        end(EXIT_PROBLEM)


def _told(met: Replay, records: int, gaps: int, found: list[Difference], out: Out) -> list[Part]:
    parts: list[Part] = [f"{met.ticks} decisions replayed, {records} records read"]
    if gaps:
        parts.append(Styled(f"{gaps} places could not be read (torn or corrupt records)", "yellow"))
    if met.without_config:
        parts.append(
            Styled(f"{met.without_config} ticks come before any configuration: skipped", "yellow")
        )
    if not found:
        is_good = met.ticks > 0
        parts.append(
            Styled("every decision is the same", "bold green")
            if is_good
            else Styled("nothing to replay", "bold red")
        )
        return parts
    columns = (
        Column("WHEN", min_width=19),
        Column("FIELD"),
        Column("RECORDED", may_wrap=True),
        Column("NOW", may_wrap=True),
    )
    rows = [[clock(each.wall), each.field, each.recorded, each.replayed] for each in found]
    return [*parts, out.table(columns, rows), Styled(f"{len(found)} differences", "bold red")]
