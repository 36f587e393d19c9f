"""``gpuwarden notify``: whether on-call can be reached."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.output import Out, Styled, answers
from gpuwarden.commands.reading import asks_agent

TEST_WITHIN_S = 75.0
"""Longer than any sink may take."""


@click.group()
def notify() -> None:
    """On-call: the ways by which people are told."""


@notify.command()
@click.argument("sink")
@asks_agent
@answers
def test(connect: Callable[[], NodeClient], out: Out, sink: str) -> None:
    """Have the agent send a message through SINK that says that messages arrive.

    Exit code 1, with the reason, when it was not taken. Operators only.
    """
    with connect() as client:
        receipt = client.test_sink(sink, TEST_WITHIN_S)
    if out.is_json:
        out.data({"sink": sink, "text": receipt.text, "missed": receipt.missed})
        return
    parts: list[str | Styled] = [Styled(f"{sink}: {receipt.text or 'taken'}", "green")]
    if receipt.missed:
        parts.append(Styled(f"not taken by {receipt.missed}", "yellow"))
    out.show(parts)
