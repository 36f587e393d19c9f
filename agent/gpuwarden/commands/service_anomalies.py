"""``gpuwarden service anomalies``: is a service unlike its own days, or a GPU unlike its peers?"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from gpuwarden.adapters.drift_client import DriftClient
from gpuwarden.commands.fleet import asks_fleet
from gpuwarden.commands.fleet_panes import as_data
from gpuwarden.commands.output import EXIT_PROBLEM, Cell, Column, Out, Part, Styled, answers, end
from gpuwarden.commands.words import clock, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpuwarden.wire.v1 import drift_pb2 as pb

EXIT_NOT_ENOUGH = 4
asks = functools.partial(asks_fleet, make=DriftClient)


@click.command("anomalies")
@click.argument("name", default="")
@asks
@answers
def anomalies(connect: Callable[[], DriftClient], out: Out, name: str) -> None:
    """What is odd now of service NAME beside its own days; without NAME of every service, and which GPUs behave
    unlike their peers. Nothing acts on it.

    Exit code 1 when something is odd, 4 when nothing has been known for long enough to say.
    """
    with connect() as client:
        said = client.anomalies(name)
    if out.is_json:
        out.data({"anomalies": as_data(said)})
    else:
        out.show(_parts(said, name, out))
    if said.devices or any(each.findings for each in said.services):
        end(EXIT_PROBLEM)
    if all(each.days < each.days_min for each in said.services) and (
        name or not said.devices_compared
    ):
        end(EXIT_NOT_ENOUGH)


def _parts(said: pb.AnomaliesResponse, name: str, out: Out) -> list[Part]:
    parts: list[Part] = [Styled(note, "yellow") for note in said.notes]
    if not said.services:
        parts.append(f"service {name}: nothing is known yet" if name else "no service is known yet")
    for each in said.services:
        parts += _service(each, said.wall, out)
    if name:
        return parts
    if said.devices:
        parts.append(Styled("GPUs unlike their peers:", "bold yellow"))
        parts.append(_devices(said.devices, said.wall, out))
    elif said.devices_compared:
        parts.append(f"{said.devices_compared} GPUs compared, none unlike its peers")
    else:
        parts.append("no GPU has enough peers at the same work to be compared with")
    return parts


def _service(each: pb.ServiceAnomalies, wall: float, out: Out) -> list[Part]:
    if each.days < each.days_min:
        return [Styled(f"{each.service}: learning: {each.days} of {each.days_min} days", "yellow")]
    if not each.findings:
        head: Part = Styled(f"{each.service}: as on its {each.days} days before", "green")
    else:
        head = Styled(f"{each.service}: {len(each.findings)} odd", "bold yellow")
    parts = [head]
    if each.findings:
        parts.append(_findings(each.findings, wall, out))
    parts += [
        f"over: {past.layer}: {past.summary}, {clock(past.since_wall)} for"
        f" {span(past.wall - past.since_wall)}"
        for past in each.recent
    ]
    return parts


def _findings(findings: Iterable[pb.Anomaly], wall: float, out: Out) -> Part:
    columns = (
        Column("SERIES"),
        Column("LAYER"),
        Column("SINCE"),
        Column("SIGMA", is_number=True),
        Column("WHAT", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            each.series,
            Styled(each.layer, "yellow"),
            span(wall - each.since_wall),
            f"{each.sigmas:+.1f}",
            each.summary,
        ]
        for each in findings
    ]
    return out.table(columns, rows)


def _devices(devices: Iterable[pb.OddDevice], wall: float, out: Out) -> Part:
    columns = (
        Column("NODE"),
        Column("GPU", is_number=True),
        Column("UUID"),
        Column("SERIES"),
        Column("SINCE"),
        Column("VALUE", is_number=True),
        Column("PEERS", is_number=True),
        Column("OF", is_number=True),
    )
    rows: list[list[Cell]] = [
        [
            each.node,
            str(each.index),
            each.device,
            each.series,
            span(wall - each.since_wall),
            f"{each.value:.0f}",
            f"{each.peers:.0f}",
            str(each.peer_count),
        ]
        for each in devices
    ]
    return out.table(columns, rows)
