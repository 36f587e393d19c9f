"""``gpuwarden model profile push|list|drop``: what a version and segment is usually fed, kept at the aggregator."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import click

from gpuwarden.adapters.drift_client import DriftClient
from gpuwarden.commands.fleet import asks_fleet
from gpuwarden.commands.fleet_panes import as_data
from gpuwarden.commands.output import Column, Out, answers
from gpuwarden.commands.words import span

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    Connect = Callable[[], DriftClient]

FILE_MAX_BYTES = 4 * 2**20
asks = functools.partial(asks_fleet, make=DriftClient)
of_service = click.option("--service", required=True, help="Whose inputs it is of.")
of_version = click.option("--version", default="", help="Of its model; unset: of any version.")
of_segment = click.option("--segment", default="", help="Unset: of all that tells no segment.")


@click.command("push")
@click.argument("file", type=click.File("rb"))
@of_service
@of_version
@of_segment
@asks
@answers
def push(
    connect: Connect, out: Out, file: BinaryIO, service: str, version: str, segment: str
) -> None:
    """FILE (``model profile --from``) is what this version and segment is fed from now on."""
    data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise click.ClickException(f"larger than {FILE_MAX_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise click.ClickException("no profile: not UTF-8") from error
    with connect() as client:
        said = client.put(service, version, segment, text)
    if out.is_json:
        out.data({"profile": as_data(said)})
    else:
        out.show(
            [f"{service}: {said.features} features of {said.rows} rows, revision {said.revision}"]
        )


@click.command("list")
@click.option("--service", default="", help="Unset: of every service.")
@asks
@answers
def list_profiles(connect: Connect, out: Out, service: str) -> None:
    """Every profile that the fleet has."""
    with connect() as client:
        found = client.profiles(service)
    if out.is_json:
        out.data({"profiles": [as_data(each) for each in found]})
        return
    columns = (
        Column("SERVICE"),
        Column("VERSION"),
        Column("SEGMENT"),
        Column("FEATURES", is_number=True),
        Column("ROWS", is_number=True),
        Column("AGE", is_number=True),
        Column("BY"),
    )
    now = time.time()
    rows = [
        [
            each.cohort.service,
            each.cohort.version or "any",
            each.cohort.segment or "-",
            str(each.features),
            str(each.rows),
            span(now - each.wall),
            each.who,
        ]
        for each in found
    ]
    out.show([out.table(columns, rows)] if rows else ["there is no profile"])


@click.command("drop")
@of_service
@of_version
@of_segment
@asks
@answers
def drop(connect: Connect, out: Out, service: str, version: str, segment: str) -> None:
    """Forget a profile: its version and segment is judged no more."""
    with connect() as client:
        client.drop(service, version, segment)
    if out.is_json:
        out.data({"dropped": True})
    else:
        out.show(["dropped"])
