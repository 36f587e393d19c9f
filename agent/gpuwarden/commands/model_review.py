"""``gpuwarden model review``: predictions that people should look at, and what they said of them, as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.commands.output import EXIT_PROBLEM, Column, Out, answers, end
from gpuwarden.commands.words import plain
from gpuwarden.config_types import parse_bytes

if TYPE_CHECKING:
    from gpuwarden.evaluate.quality.review import LineFault
    from gpuwarden.evaluate.quality.sampling import Prediction

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _size(context: click.Context, asked: click.Parameter, value: str) -> int:
    try:
        return parse_bytes(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group("review")
def review() -> None:
    """Predictions for people to look at, as JSON lines."""


@review.command("sample")
@click.argument("predictions", type=FILE)
@click.option("--budget", type=click.IntRange(1, 1_000_000), default=200, show_default=True,
              help="How many people will look at.")  # fmt: skip
@click.option("--below", type=click.FloatRange(0, 1), default=0.7, show_default=True,
              help="Confidence below which a prediction is a candidate; disputed ones always are.")  # fmt: skip
@click.option("--floor", type=click.IntRange(0, 10_000), default=5, show_default=True,
              help="So many of each segment come first.")  # fmt: skip
@click.option("--bytes-max", callback=_size, default="16MiB", show_default=True)
def sample(predictions: Path, budget: int, below: float, floor: int, bytes_max: int) -> None:
    """Of PREDICTIONS, a JSON line each (id, segment, prediction, confidence, ...): by segment, the most doubtful first.

    Prints JSON lines with `label` and `reviewer` to fill in.
    """
    from gpuwarden.evaluate.quality.review import ReviewQueue
    from gpuwarden.evaluate.quality.sampling import Sampler

    faults: Counter[LineFault] = Counter()
    sampler = Sampler(budget, confidence_below=below, floor=floor)
    sampler.add(_predictions(predictions, faults))
    queue = ReviewQueue(bytes_max)
    queue.add(sampler.sample())
    for line in queue.export():
        click.echo(line)
    dropped = f"; {queue.dropped.total()} too many bytes" if queue.dropped else ""
    click.echo(
        f"{len(queue)} of {sampler.predictions} predictions{dropped}{_told(faults)}", err=True
    )


@review.command("import")
@click.argument("queue", type=FILE)
@click.argument("filled", type=FILE)
@click.option(
    "--label", "labels", multiple=True, help="A label that is allowed; may be given again."
)
@answers
def import_(out: Out, queue: Path, filled: Path, labels: tuple[str, ...]) -> None:
    """What FILLED, written by people, says of the predictions in QUEUE, as `review sample` printed it.

    Exit code 1 where a line does not count; all others do.
    """
    from gpuwarden.evaluate.quality.review import ReviewQueue, harvest, imported

    faults: Counter[LineFault] = Counter()
    waiting = ReviewQueue(1 << 40)
    waiting.add(_predictions(queue, faults))
    found = imported(_lines(filled), waiting, labels=frozenset(labels) if labels else None)
    by_segment = harvest(found.corrections)
    if out.is_json:
        out.data({"segments": by_segment, "faults": found.faults, "counts": found.counts})
    else:
        out.show([f"{len(found.corrections)} corrections{_told(Counter(found.counts))}"])
        out.show([f"line {number}: {why.value}" for number, why in found.faults[:20]])
        rows = [
            [
                plain(name) or "-",
                str(each.labels),
                str(each.right),
                str(each.undecided),
                str(len(each.gold or ())),
            ]
            for name, each in by_segment.items()
        ]
        out.show([out.table(_COLUMNS, rows)])
    if found.counts or faults:
        end(EXIT_PROBLEM)


_COLUMNS = (
    Column("segment"),
    Column("looked at", is_number=True),
    Column("right", is_number=True),
    Column("undecided", is_number=True),
    Column("fit for gold", is_number=True),
)


def _told(faults: Counter[LineFault]) -> str:
    return "".join(f"; {count} {why.value}" for why, count in sorted(faults.items()))


def _lines(path: Path) -> Iterator[str]:
    """Never more of a line than is looked at: what is longer comes in pieces, each of which is too long."""
    from gpuwarden.evaluate.quality.review import LINE_MAX_CHARS

    with path.open("rb") as file:
        while raw := file.readline(4 * LINE_MAX_CHARS + 1):
            yield raw.decode("utf-8", "replace")


def _predictions(path: Path, faults: Counter[LineFault]) -> Iterator[Prediction]:
    from gpuwarden.evaluate.quality.review import prediction_of
    from gpuwarden.evaluate.quality.sampling import Prediction

    for line in _lines(path):
        if line.strip():
            found = prediction_of(line)
            if isinstance(found, Prediction):
                yield found
            else:
                faults[found] += 1
