"""``gpuwarden ack``: somebody has it in hand, and nobody else is woken."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.output import Out, Styled, answers
from gpuwarden.commands.reading import asks_agent


@click.command()
@click.argument("incident")
@click.option("-m", "--comment", default="", help="What others should know.")
@asks_agent
@answers
def ack(connect: Callable[[], NodeClient], out: Out, incident: str, comment: str) -> None:
    """Acknowledge INCIDENT: its id, the beginning of it, a storm's, `last` or `all`.

    It is not told again unless it becomes worse; its end is. Operators only.
    """
    with connect() as client:
        found = client.acknowledge(incident, comment)
    if out.is_json:
        out.data({"acknowledged": found})
    else:
        out.show([Styled(f"acknowledged: {', '.join(found)}", "green")])
