"""``gpuwarden service drift``: has what a service is fed, or how often it is wrong, changed?"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from gpuwarden.adapters.drift_client import DriftClient
from gpuwarden.commands.fleet import asks_fleet
from gpuwarden.commands.fleet_panes import as_data
from gpuwarden.commands.output import EXIT_PROBLEM, Cell, Column, Out, Part, Styled, answers, end
from gpuwarden.commands.words import span

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuwarden.wire.v1 import drift_pb2 as pb

STYLES = {"stable": "green", "drift": "bold red", "schema-changed": "bold red"}
BAD = ("drift", "schema-changed")
EXIT_NOT_ENOUGH = 4
asks = functools.partial(asks_fleet, make=DriftClient)


@click.command("drift")
@click.argument("name")
@asks
@answers
def drift(connect: Callable[[], DriftClient], out: Out, name: str) -> None:
    """Of service NAME every version and segment: which features have moved from their profile and how far, and
    whether errors have become more.

    Exit code 1 when something drifted or the schema changed, 4 when there is not enough data, or no profile, to say.
    """
    with connect() as client:
        said = client.drift(name)
    if out.is_json:
        out.data({"drift": as_data(said)})
    else:
        out.show(_parts(said, name, out))
    states = {each.state for each in said.reports}
    if states & set(BAD):
        end(EXIT_PROBLEM)
    if "stable" not in states:
        end(EXIT_NOT_ENOUGH)


def _parts(said: pb.ServiceDriftResponse, name: str, out: Out) -> list[Part]:
    parts: list[Part] = [Styled(note, "yellow") for note in said.notes]
    if not said.reports:
        parts.append(f"service {name}: no features and no labels were told lately")
    for each in said.reports:
        head = f"{name}{_of(each)}: {each.state} for {span(said.wall - each.since_wall)}"
        parts += [Styled(head, STYLES.get(each.state, "yellow")), each.summary]
        if each.features:
            parts.append(_features(each, out))
        parts += [_stream(stream, said.wall) for stream in each.streams]
        parts += [Styled(f"proposed: {line}", "cyan") for line in each.proposals]
    return parts


def _of(report: pb.DriftReport) -> str:
    cohort = report.cohort
    version = f" version {cohort.version}" if cohort.version else ""
    return version + (f" segment {cohort.segment}" if cohort.segment else "")


def _features(report: pb.DriftReport, out: Out) -> Part:
    columns = (
        Column("FEATURE"),
        Column("IS"),
        Column("P", is_number=True),
        Column("PSI", is_number=True),
        Column("SIGMA", is_number=True),
        Column("MEAN", is_number=True),
        Column("WAS", is_number=True),
        Column("ROWS", is_number=True),
        Column("WHY", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            each.feature,
            Styled(each.state, STYLES.get(each.state, "yellow")),
            _number(each, "p_value", ".1e"),
            _number(each, "psi", ".3f"),
            _number(each, "wasserstein_norm", ".2f"),
            _number(each, "mean", ".4g"),
            _number(each, "was_mean", ".4g"),
            str(each.rows),
            each.why,
        ]
        for each in report.features
    ]
    return out.table(columns, rows)


def _number(each: pb.FeatureDrift, name: str, how: str) -> str:
    return format(getattr(each, name), how) if each.HasField(name) else "-"  # type: ignore[arg-type]


def _stream(each: pb.StreamDrift, wall: float) -> str:
    text = f"{each.stream}: {each.state} for {span(wall - each.since_wall)}"
    if each.HasField("value") and each.HasField("baseline"):
        how, what = (".4g", "scores") if each.stream == "score" else (".2%", "labels")
        text += f", {each.baseline:{how}} -> {each.value:{how}} of the newest {each.labels} {what}"
    if each.detectors:
        text += f"; {', '.join(each.detectors)} ({each.version})"
    return text + (f" ({each.why})" if each.why else "")
