"""``gpuwarden incidents``: what happened, newest first."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands import panes
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Part, Styled, answers, end
from gpuwarden.commands.reading import asks_agent


@click.command()
@asks_agent
@answers
@click.option("--open", "is_open_only", is_flag=True, help="Leave the closed ones out.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most."
)
def incidents(connect: Callable[[], NodeClient], out: Out, is_open_only: bool, limit: int) -> None:
    """What happened, newest first; `gpuwarden explain ID` tells one of them whole.

    Exit code 1 when one is open.
    """
    with connect() as client:
        found, left_out = client.incidents(is_open_only=is_open_only, limit=limit)
    if out.is_json:
        out.data({"incidents": found, "left_out": left_out})
    else:
        parts: list[Part] = [panes.incident_table(found, out)] if found else ["no incidents"]
        if left_out:
            parts.append(Styled(f"{left_out} more (--limit)", "dim"))
        out.show(parts)
    if any(incident.closed_at is None for incident in found):
        end(EXIT_PROBLEM)
