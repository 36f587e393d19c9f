"""``gpuwarden events``: every step of every incident and every driver event, in order of time."""

from collections.abc import Callable
from dataclasses import dataclass

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.output import Cell, Column, Out, Styled, answers
from gpuwarden.commands.reading import asks_agent
from gpuwarden.commands.words import clock
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.status import View

_STYLES = {"done": "green", "failed": "red", "refused": "yellow", "unsupported": "yellow"}
FOLLOW_PER_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line."""

    wall: float
    incident: str
    kind: str
    text: str
    result: str = ""


@click.command()
@asks_agent
@answers
@click.option("-f", "--follow", is_flag=True, help="Then wait for new ones until interrupted.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 100_000), default=50, show_default=True, help="At most."
)
def events(connect: Callable[[], NodeClient], out: Out, follow: bool, lines: int) -> None:
    """What happened, line by line: oldest first, as a log."""
    with connect() as client:
        if not follow:
            found = of(client.view())
            _tell(found[max(0, len(found) - lines) :], out)
            return
        told: set[Event] = set()
        is_first = True
        try:
            for view in client.watch(FOLLOW_PER_S):
                found = of(view)
                new = [event for event in found if event not in told]
                if is_first:
                    new = new[max(0, len(new) - lines) :]
                _tell(new, out)
                told, is_first = set(found), False
        except KeyboardInterrupt:
            return  # how a person ends it


def of(view: View) -> list[Event]:
    """The events of a picture, oldest first. Those of driver and kernel are of its own tick."""
    found = [
        Event(
            wall=step.wall,
            incident=incident.id,
            kind=step.kind,
            text=step.text,
            result=step.result,
        )
        for incident in view.incidents
        for step in incident.steps
    ]
    index = {device.id: device.index for device in view.snapshot.devices}
    for event in view.snapshot.events:
        where = f"GPU {index[event.device]}" if event.device in index else "the driver"
        code = "" if event.code is None else f" {event.code}"
        pid = "" if event.pid is None else f" (pid {event.pid})"
        found.append(
            Event(
                wall=view.snapshot.wall - (view.snapshot.at - event.at),
                incident="-",
                kind="driver",
                text=f"{event.kind}{code} on {where}{pid}",
            )
        )
    found += _kernel(view)
    return sorted(found, key=lambda event: event.wall)


def _kernel(view: View) -> list[Event]:
    snapshot = view.snapshot
    found = [
        Event(
            wall=snapshot.wall - (snapshot.at - record.seen_at),
            incident="-",
            kind="kernel",
            text=record.text
            if record.trust is not KernelTrust.UNTRUSTED
            else f"(untrusted) {record.text}",
        )
        for record in snapshot.kernel
    ]
    forgery = snapshot.kernel_forgery
    if forgery is not None:
        what = f"{forgery.count} forged lines, the first: {forgery.text}"
        found.append(Event(wall=snapshot.wall, incident="-", kind="kernel", text=what))
    return found


def _tell(found: list[Event], out: Out) -> None:
    if out.is_json:
        for event in found:
            out.data({"event": event})
        return
    if not found:
        return
    columns = (
        Column("", min_width=14),
        Column("", min_width=14, max_width=24),
        Column("", min_width=11),
        Column("", min_width=4),
        Column("", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            clock(event.wall, has_year=False),
            event.incident,
            event.kind,
            Styled(event.result, _STYLES.get(event.result, "")),
            event.text,
        ]
        for event in found
    ]
    out.show([out.table(columns, rows)])
