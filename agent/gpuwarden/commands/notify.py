"""``gpuwarden notify``: whether on-call can be reached."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.config import file_option, read_settings
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Styled, answers, end
from gpuwarden.commands.reading import asks_agent
from gpuwarden.errors import ConfigError, GpuwardenError

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


@notify.command("unit-failed")
@click.argument("unit")
@file_option
@click.option("--aggregator", "is_aggregators", is_flag=True, help="By the aggregator's sinks.")
@answers
def unit_failed(out: Out, path: Path | None, unit: str, is_aggregators: bool) -> None:
    """Tell people, by every sink that is set, that systemd has given UNIT up. Needs no agent.

    For OnFailure= of the unit; it tries each sink once. Exit code 1 when none took it, or none is set.
    """
    from gpuwarden.adapters.secrets import Secrets
    from gpuwarden.adapters.sinks.make import make_sinks
    from gpuwarden.clock import SystemClock
    from gpuwarden.policy.notify import due

    try:
        cfg = read_settings(path, is_aggregators=is_aggregators).config
    except ConfigError as error:
        raise click.ClickException(f"nobody can be told: {error.faults[0]}") from error
    clock, host = SystemClock(), socket.gethostname()
    sinks = make_sinks(cfg.oncall, Secrets(os.environ), clock, host)
    told: dict[str, str] = {}
    missed: dict[str, str] = {}
    for name, sink in sinks.items():
        try:
            told[name] = sink.deliver(due.given_up(name, host, unit, clock.wall())).text or "taken"
        except GpuwardenError as error:
            missed[name] = str(error)
    if out.is_json:
        out.data({"unit": unit, "told": told, "missed": missed})
    else:
        parts: list[str | Styled] = [Styled(f"{n}: {text}", "green") for n, text in told.items()]
        parts += [Styled(f"{n}: {text}", "bold red") for n, text in missed.items()]
        out.show(parts or ["no sink is set in [oncall]: nobody is told"])
    if not told:
        end(EXIT_PROBLEM)
