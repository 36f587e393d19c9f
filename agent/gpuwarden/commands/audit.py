"""``gpuwarden audit``: what operators and nodes have done to the fleet, and whether that record is whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.commands.output import EXIT_PROBLEM, Column, Out, Styled, answers, end
from gpuwarden.commands.words import clock

if TYPE_CHECKING:
    from gpuwarden.aggregator.store import AuditLine

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The aggregator's main file [/etc/gpuwarden/aggregator.toml]: it says where the store is.",
)


@click.group()
def audit() -> None:
    """What was done to the fleet: invitations, certificates, orders. On the aggregator's host."""


@audit.command()
@config_option
@click.option("--head", default="", help="The mark of an earlier run: it has to be in the chain.")
@answers
def verify(config_path: Path | None, head: str, out: Out) -> None:
    """Is the record whole? Exit code 1 when a line was changed, moved or taken out.

    Write the mark that it prints down elsewhere: with --head, the next run also sees whether the end was cut off.
    """
    from gpuwarden.aggregator.store import Verifier

    verifier, is_found = Verifier(), not head
    for line in _lines(config_path):
        verifier.take(line)
        is_found = is_found or verifier.head == head
    is_whole = verifier.broken is None and is_found
    if out.is_json:
        said = {"lines": verifier.count, "head": verifier.head, "broken": verifier.broken}
        out.data({**said, "is_whole": is_whole})
    elif verifier.broken is not None:
        out.show([Styled(f"line {verifier.broken} is not what it was", "bold red")])
    elif not is_found:
        out.show(
            [Styled("the mark that was given is not in the chain: lines are missing", "bold red")]
        )
    else:
        out.show([f"{verifier.count} lines, whole; mark {verifier.head or 'none yet'}"])
    if not is_whole:
        end(EXIT_PROBLEM)


@audit.command("list")
@config_option
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@answers
def list_(config_path: Path | None, limit: int, out: Out) -> None:
    """The newest lines, oldest first."""
    from collections import deque

    found = deque(_lines(config_path), maxlen=limit)
    if out.is_json:
        out.data({"lines": list(found)})
        return
    columns = (
        Column("N", is_number=True),
        Column("WHEN"),
        Column("WHO"),
        Column("WHAT"),
        Column("DETAIL", may_wrap=True),
    )
    rows = [[str(e.number), clock(e.wall), e.who, e.what, e.detail] for e in found]
    out.show([out.table(columns, rows)] if rows else ["nothing yet"])


def _lines(config_path: Path | None) -> "Iterator[AuditLine]":
    from gpuwarden.aggregator.opening import audit_lines
    from gpuwarden.aggregator.wiring import load

    return audit_lines(load(config_path))
