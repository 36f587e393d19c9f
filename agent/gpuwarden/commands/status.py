"""``gpuwarden status``: is all well, and if not, what is not."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.clock import SystemClock
from gpuwarden.commands import panes
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Part, Styled, answers, end
from gpuwarden.commands.reading import asks_agent
from gpuwarden.commands.watching import watch_option, watched
from gpuwarden.model.status import View


@click.command()
@asks_agent
@answers
@watch_option
def status(connect: Callable[[], NodeClient], out: Out, watch_s: float | None) -> None:
    """Whether all is well: devices, services, findings, open incidents.

    Exit code 1 when something is not.
    """
    clock = SystemClock()
    with connect() as client:
        view = watched(
            client,
            out,
            watch_s,
            draw=lambda view: picture(view, out, clock.now()),
            data=lambda view: {"problems": panes.problems(view, clock.now()), "view": view},
        )
    if panes.problems(view, clock.now()):
        end(EXIT_PROBLEM)


def picture(view: View, out: Out, now: float) -> list[Part]:
    """The whole of it, longest part last."""
    parts = [*panes.header(view, now), ""]
    if view.snapshot.devices:
        parts.append(panes.gpu_table(view, out))
    else:
        parts.append("no GPUs are seen; they are looked for again at least once a minute")
    if view.snapshot.services:
        parts += ["", panes.service_table(view, out)]
    if view.findings:
        parts += ["", panes.finding_table(view.findings, out)]
    is_open = [incident for incident in view.incidents if incident.closed_at is None]
    if is_open:
        parts += ["", panes.incident_table(is_open, out)]
    if view.oncall.sinks:
        parts += ["", panes.oncall_table(view, out)]
    if view.oncall.silences:
        count = len(view.oncall.silences)
        parts += ["", f"{count} silence{'s' if count > 1 else ''} (gpuwarden silence list)"]
    if panes.gaps(view):
        parts += ["", panes.gap_table(view, out)]
    parts.append("")
    if view.agent.degraded:
        parts.append(Styled(f"degraded: {'; '.join(view.agent.degraded)}", "yellow"))
    if not view.agent.config_ok:
        parts.append(Styled(f"configuration refused: {view.agent.config_error}", "red"))
    found = panes.problems(view, now)
    count = len(found)
    if found:
        parts.append(Styled(f"{count} problem{'s' if count > 1 else ''}", "bold red"))
    else:
        parts.append(Styled("all is well", "bold green"))
    return parts
