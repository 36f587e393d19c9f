"""``gpuwarden top``: devices and tenants, refreshed until you have seen enough."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.clock import SystemClock
from gpuwarden.commands import panes, tenants
from gpuwarden.commands.output import Out, Part, Styled, answers
from gpuwarden.commands.reading import asks_agent
from gpuwarden.commands.watching import watched
from gpuwarden.model.status import View


@click.command()
@asks_agent
@answers
@click.option(
    "-d",
    "--delay",
    "delay_s",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds between two pictures.",
)
@click.option("--once", is_flag=True, help="One picture and out; also when this is no terminal.")
def top(connect: Callable[[], NodeClient], out: Out, delay_s: float, once: bool) -> None:
    """Devices and the largest tenants, refreshed until interrupted."""
    clock = SystemClock()
    is_single = once or (not out.is_json and not out.console.is_terminal)
    with connect() as client:
        watched(
            client,
            out,
            None if is_single else delay_s,
            draw=lambda view: picture(view, out, clock.now()),
            data=tenants.as_data,
        )


def picture(view: View, out: Out, now: float) -> list[Part]:
    """As many tenants as the terminal has lines for."""
    is_open = [incident for incident in view.incidents if incident.closed_at is None]
    lines = out.console.height if out.console.is_terminal else 1000
    room = lines - len(view.snapshot.devices) - len(is_open) - len(view.snapshot.services) - 9
    parts = [*panes.header(view, now), "", panes.gpu_table(view, out), ""]
    parts.append(panes.tenant_table(view, out, limit=max(3, room)))
    if view.snapshot.services:
        parts += ["", panes.service_table(view, out)]
    parts += [Styled(f"{incident.id}: {incident.summary}", "red") for incident in is_open]
    return parts
