"""``gpuwarden cordon``, ``drain``, ``uncordon``, ``set-healthy``: what operators ask the running agent to do."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.output import Out, answers
from gpuwarden.commands.reading import asks_agent

WHICH = "SUBJECT is a device (its index, UUID or PCI address) or `node`."


@click.command(epilog=WHICH)
@click.argument("subject")
@click.option("--reason", required=True, help="Why: stands with schedulers, and in the incident.")
@asks_agent
@answers
def cordon(connect: Callable[[], NodeClient], out: Out, subject: str, reason: str) -> None:
    """Take a device, or the node, out of use until it is uncordoned.

    Whoever places jobs here is told ([cordon] in the configuration); what runs goes on.
    """
    _ask(connect, out, "cordon", subject, reason)


@click.command(epilog=WHICH)
@click.argument("subject")
@click.option("--reason", required=True, help="Why: stands with schedulers, and in the incident.")
@asks_agent
@answers
def drain(connect: Callable[[], NodeClient], out: Out, subject: str, reason: str) -> None:
    """Cordon a device, or the node, and have it emptied.

    Tenants of classes that repair.drain_evicts names are ended with their grace; the others are waited for,
    and people are told when that takes longer than repair.drain_wait_s.
    """
    _ask(connect, out, "drain", subject, reason)


@click.command(epilog=WHICH)
@click.argument("subject")
@click.option("--reason", default="", help="Why: stands in the incident.")
@asks_agent
@answers
def uncordon(connect: Callable[[], NodeClient], out: Out, subject: str, reason: str) -> None:
    """Put a device, or the node, back in use at once.

    What others have drained or cordoned stays so.
    """
    _ask(connect, out, "uncordon", subject, reason)


@click.command("set-healthy", epilog=WHICH)
@click.argument("subject")
@click.option("--reason", default="", help="What was repaired: stands in the incident.")
@asks_agent
@answers
def set_healthy(connect: Callable[[], NodeClient], out: Out, subject: str, reason: str) -> None:
    """Say that a device, or the node, was repaired.

    Its faults are forgotten and it goes on probation; a cordon of the agent's own ends with that. A fault
    that still stands comes back.
    """
    _ask(connect, out, "set-healthy", subject, reason)


def _ask(connect: Callable[[], NodeClient], out: Out, verb: str, subject: str, reason: str) -> None:
    with connect() as client:
        text, incident = client.command(verb, subject, reason)
    if out.is_json:
        out.data({"verb": verb, "subject": subject, "text": text, "incident": incident or None})
    else:
        out.show([f"{text} ({incident})" if incident else text])
