"""``gpuwarden service review``: predictions that wait for people at the aggregator, out and in again as JSON lines."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.adapters.evaluation_client import EvaluationClient
from gpuwarden.commands.fleet import asks_fleet
from gpuwarden.commands.output import EXIT_PROBLEM, Column, Out, answers, end
from gpuwarden.commands.words import plain

if TYPE_CHECKING:
    from gpuwarden.wire.v1 import evaluation_pb2 as pb

Connect = Callable[[], EvaluationClient]
asks = functools.partial(asks_fleet, make=EvaluationClient)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
LINES_A_CALL = 1000
CALL_MAX_BYTES = 192 * 1024
LINE_MAX_BYTES = 1 << 20
FAULTS_SHOWN = 20
_READ = ("service", "id", "label", "reviewer", "score")


@click.group("review")
def review() -> None:
    """Predictions of services that people should look at, as JSON lines."""


@review.command("export")
@click.argument("service")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=200, show_default=True,
              help="How many people will look at.")  # fmt: skip
@click.option("--segment", default=None, help="Only of this one.")
@asks
def export(connect: Connect, service: str, limit: int, segment: str | None) -> None:
    """Of SERVICE, what waits: the most doubtful first. `label` and `reviewer` are to be filled in.

    They wait on until somebody imports what people have said.
    """
    many = 0
    with connect() as client:
        for page in client.review_queue(service, segment, limit):
            for line in page.lines:
                click.echo(line)
            many += len(page.lines)
    given_up = f"; {page.dropped} given up for want of room" if page.dropped else ""
    click.echo(f"{many} of {page.waiting} that wait{given_up}", err=True)


@review.command("import")
@click.argument("file", type=FILE)
@click.option(
    "--label", "labels", multiple=True, help="An answer that is allowed; may be given again."
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Look only: nothing is kept.")
@asks
@answers
def import_(
    connect: Connect, out: Out, file: Path, labels: tuple[str, ...], is_dry_run: bool
) -> None:
    """What people say in FILE, lines as `review export` printed them. By vote, each prediction counts once.

    Exit code 1 where a line does not count; all others do.
    """
    faults: list[tuple[int, str]] = []
    counts: Counter[str] = Counter()
    tallies: dict[tuple[str, str], Counter[str]] = {}
    kappas: dict[tuple[str, str], float] = {}
    corrections = unlabelled = 0
    with connect() as client:
        for numbers, lines in _calls(_lines(file)):
            said = client.import_reviews(lines, labels, is_dry_run=is_dry_run)
            corrections += said.corrections
            unlabelled += said.unlabelled
            for fault in said.faults:
                counts[fault.why] += 1
                faults.append((numbers[fault.index], fault.why))
            for each in said.tallies:
                _add(tallies, kappas, each)
    if out.is_json:
        out.data(
            {
                "corrections": corrections,
                "unlabelled": unlabelled,
                "faults": faults,
                "segments": [
                    {"service": s, "segment": g, **counter, "kappa": kappas.get((s, g))}
                    for (s, g), counter in sorted(tallies.items())
                ],
                "dry_run": is_dry_run,
            }
        )
    else:
        told = "".join(f"; {count} {why}" for why, count in sorted(counts.items()))
        out.show([f"{corrections} corrections; {unlabelled} not filled in{told}"])
        out.show([f"line {number}: {why}" for number, why in faults[:FAULTS_SHOWN]])
        rows = [
            [
                plain(s),
                plain(g) or "-",
                *(str(c[n]) for n in _TOLD),
                f"{c['gold_right']} of {c['gold_answers']}" if c["gold_answers"] else "-",
                f"{kappas[s, g]:.2f}" if (s, g) in kappas else "-",
            ]
            for (s, g), c in sorted(tallies.items())
        ]
        out.show([out.table(_COLUMNS, rows)])
    if faults:
        end(EXIT_PROBLEM)


_TOLD = ("decided", "right", "undecided", "counted", "gold")
_COLUMNS = (
    Column("service"),
    Column("segment"),
    *(Column(name, is_number=True) for name in _TOLD),
    Column("gold answers", is_number=True),
    Column("kappa", is_number=True),
)


def _add(
    tallies: dict[tuple[str, str], Counter[str]],
    kappas: dict[tuple[str, str], float],
    told: pb.ReviewTally,
) -> None:
    """Kappas of several calls, which are of other predictions each, by their numbers."""
    key = (told.service, told.segment)
    mine = tallies.setdefault(key, Counter())
    many = told.decided + told.undecided
    if told.HasField("kappa") and many:
        before = mine["decided"] + mine["undecided"] if key in kappas else 0
        kappas[key] = (kappas.get(key, 0.0) * before + told.kappa * many) / (before + many)
    for name in (*_TOLD, "gold_answers", "gold_right"):
        mine[name] += getattr(told, name)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered from 1, without empty ones; never more of a line than is looked at."""
    with click.open_file(str(path), "rb") as file:
        number = 0
        while raw := file.readline(LINE_MAX_BYTES):
            number += 1
            line = raw.decode("utf-8", "replace").strip("\ufeff \t\r\n")
            if line:
                yield number, _slim(line)


def _slim(line: str) -> str:
    """What is read of a line, so that many fit a call; what is no object goes as it begins, to be refused."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return line[:200]
    if not isinstance(said, dict):
        return line[:200]
    return json.dumps({name: said[name] for name in _READ if name in said})


def _calls(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[list[int], list[str]]]:
    numbers: list[int] = []
    held: list[str] = []
    size = 0
    for number, line in lines:
        if held and (len(held) >= LINES_A_CALL or size + len(line) > CALL_MAX_BYTES):
            yield numbers, held
            numbers, held, size = [], [], 0
        numbers.append(number)
        held.append(line)
        size += len(line)
    if held:
        yield numbers, held
