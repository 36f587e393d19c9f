"""``gpuwarden service``: services by their own numbers, from the aggregator."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from gpuwarden.adapters.drift_client import ReportClient
from gpuwarden.adapters.evaluation_client import EvaluationClient
from gpuwarden.commands.fleet import asks_fleet
from gpuwarden.commands.fleet_panes import as_data
from gpuwarden.commands.output import EXIT_OK, EXIT_PROBLEM, Out, answers, end
from gpuwarden.commands.service_anomalies import anomalies
from gpuwarden.commands.service_drift import drift
from gpuwarden.commands.service_panes import gate_parts, report_parts, service_table
from gpuwarden.commands.service_review import review
from gpuwarden.commands.words import plain
from gpuwarden.errors import GpuwardenError
from gpuwarden.wire.v1 import evaluation_pb2 as pb

EXIT_NOT_ENOUGH = 4
_EXITS = {"pass": EXIT_OK, "fail": EXIT_PROBLEM, "not-enough-data": EXIT_NOT_ENOUGH}

Connect = Callable[[], EvaluationClient]
asks = functools.partial(asks_fleet, make=EvaluationClient)


@click.group()
def service() -> None:
    """Services by their own numbers: are they fit, why not, and may a version go on?

    Exit codes: 0 ok, 1 problem found, 2 usage, 3 aggregator not reachable, 4 not enough data.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


service.add_command(review)


@service.command()
@click.argument("name", default="")
@click.option("--colour", "colours", multiple=True, type=click.Choice(["green", "red", "unknown"]))
@asks
@answers
def status(connect: Connect, out: Out, name: str, colours: Sequence[str]) -> None:
    """Every service in one line, or of service NAME every verdict. Exit code 1 when one is not green."""
    with connect() as client:
        if name:
            said = client.service(name)
            found = [said.standing]
        else:
            said, found = None, list(client.services(colours=colours))
    if out.is_json:
        more = {} if said is None else {"verdicts": [as_data(each) for each in said.verdicts]}
        out.data({"services": [as_data(each) for each in found], **more})
    elif said is not None:
        out.show(report_parts(said.standing, said.verdicts, said.wall, out))
    else:
        out.show([service_table(found, out)] if found else ["no service has told anything"])
    if any(each.colour != "green" for each in found):
        end(EXIT_PROBLEM)


@service.command()
@click.argument("name")
@click.option("--version", default="", help="Only what is judged of this version.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also as one page with drift and pictures in it; nothing in it is fetched from anywhere.",
)
@functools.partial(asks_fleet, make=ReportClient)
@answers
def report(
    connect: Callable[[], ReportClient], out: Out, name: str, version: str, html: Path | None
) -> None:
    """Why service NAME is as it is: numbers, limits, since when, by segment and node, and what the GPUs have to
    do with it. Exit code 1 when it is not green."""
    with connect() as client:
        said = client.report(name, version)
        if html is not None:
            _write_page(html, client, said, version)
    if out.is_json:
        more = {} if html is None else {"files": [html]}
        out.data({"report": as_data(said), **more})
    else:
        verdicts = [each.verdict for each in said.verdicts]
        parts = report_parts(said.standing, verdicts, said.wall, out, said)
        out.show([*parts, *([] if html is None else [plain(str(html))])])
    if said.standing.colour != "green":
        end(EXIT_PROBLEM)


def _write_page(
    path: Path, client: ReportClient, said: pb.ServiceReportResponse, version: str
) -> None:
    """What is not known of drift does not keep the rest from being written."""
    from gpuwarden.commands import service_page

    drift, missing = None, ""
    try:
        drift = client.drift(said.standing.service)
    except GpuwardenError as error:
        missing = str(error)
    text = service_page.page(said, drift, version=version, drift_missing=missing)
    service_page.write(path, text)


@service.command()
@click.argument("name")
@click.option("--version", default="", help="Which version is to go on; unset: whatever runs.")
@click.option(
    "--min-requests",
    type=click.IntRange(1, 1_000_000_000),
    default=100,
    show_default=True,
    help="Of the last hour; fewer are not enough to judge by.",
)
@asks
@answers
def gate(connect: Connect, out: Out, name: str, version: str, min_requests: int) -> None:
    """For a pipeline: exit code 0 when the version holds its guardrails, 1 when it does not, 4 when there is not
    enough data to say."""
    with connect() as client:
        said = client.gate(name, version, min_requests)
    if out.is_json:
        out.data({"gate": as_data(said)})
    else:
        out.show(gate_parts(said, name, version))
    end(_EXITS.get(said.result, EXIT_NOT_ENOUGH))


service.add_command(drift)
service.add_command(anomalies)
