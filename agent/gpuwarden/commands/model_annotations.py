"""``gpuwarden model annotations``: how far people's labels can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.commands.output import EXIT_PROBLEM, Column, Out, answers, end
from gpuwarden.commands.words import plain
from gpuwarden.errors import Refused

if TYPE_CHECKING:
    from gpuwarden.evaluate.quality.annotation import Accuracy, AnnotationReport, AnnotatorReport
    from gpuwarden.evaluate.quality.kappa import Kappa

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("annotations")
@click.argument("labels", type=FILE)
@click.option("--gold", type=FILE, help="A table of item and label: what is right.")
@click.option("--asked", type=click.FloatRange(0, 1), default=0.9, show_default=True,
              help="Gold accuracy that is expected of each.")  # fmt: skip
@answers
def annotations_verb(out: Out, labels: Path, gold: Path | None, asked: float) -> None:
    """Gold accuracy, agreement and votes of LABELS, a table (CSV or Parquet) of item, annotator and label.

    Exit code 1 where somebody's whole interval of gold accuracy is below --asked.
    """
    from gpuwarden.evaluate.quality.annotation import Answer, report

    right = {} if gold is None else {item: label for item, label in _rows(gold, ("item", "label"))}
    found = report(
        (
            Answer(item=item, annotator=annotator, label=label)
            for item, annotator, label in _rows(labels, ("item", "annotator", "label"))
        ),
        right,
        asked=asked,
    )
    if out.is_json:
        out.data(_plain(found))
    else:
        _show(out, found)
    if any(each.is_below for each in found.annotators):
        end(EXIT_PROBLEM)


def _rows(path: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    from gpuwarden.adapters.tablefile import opened

    with opened(path) as table:
        missing = [name for name in wanted if name not in table.header]
        if missing:
            raise Refused(f"{path}: no column {missing[0]!r}; there have to be {', '.join(wanted)}")
        places = [table.header.index(name) for name in wanted]
        for batch in table.batches:
            for row in batch:
                if len(row) == len(table.header) and all(row[k] not in (None, "") for k in places):
                    yield tuple(str(row[k]) for k in places)


def _plain(found: AnnotationReport) -> Mapping[str, object]:
    return {
        "answers": found.answers,
        "repeated": found.repeated,
        "gold": found.gold,
        "votes": found.votes,
        "fleiss": found.fleiss,
        "fleiss_people": found.fleiss_people,
        "annotators": found.annotators,
    }


def _show(out: Out, found: AnnotationReport) -> None:
    votes = ", ".join(f"{count} {vote.value}" for vote, count in found.votes.items())
    out.show(
        [
            f"{found.answers} answers of {len(found.annotators)} people; {found.repeated} repeated",
            f"votes: {votes}",
            f"Fleiss' kappa of {found.fleiss.items} items with {found.fleiss_people} answers: {_kappa(found.fleiss)}",
            out.table(_COLUMNS, [_row(each) for each in found.annotators]),
            *(
                f"{plain(each.annotator)}: gold accuracy is below what is asked"
                for each in found.annotators
                if each.is_below
            ),
        ]
    )


_COLUMNS = (
    Column("annotator", min_width=9),
    Column("answers", is_number=True),
    Column("gold"),
    Column("others' vote"),
    Column("kappa"),
)


def _row(each: AnnotatorReport) -> list[str]:
    return [
        plain(each.annotator),
        str(each.answers),
        _share(each.gold),
        _share(each.majority),
        _kappa(each.kappa),
    ]


def _share(found: Accuracy) -> str:
    if found.share is None:
        return "-"
    return f"{found.share:.0%} of {found.count} ({found.low:.0%} to {found.high:.0%})"


def _kappa(found: Kappa) -> str:
    if found.value is None:
        return found.why
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
