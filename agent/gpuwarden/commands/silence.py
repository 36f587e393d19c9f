"""``gpuwarden silence``: wake nobody for a while, and say who wanted it so and why."""

from collections.abc import Callable
from typing import Any

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.output import Cell, Column, Out, Styled, answers
from gpuwarden.commands.reading import asks_agent
from gpuwarden.commands.words import clock
from gpuwarden.config_types import parse_seconds
from gpuwarden.errors import Refused
from gpuwarden.model.oncall import Matcher, Silence


class Duration(click.ParamType[float]):
    """``90s``, ``30m``, ``2h``, ``7d``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return parse_seconds(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


@click.group()
def silence() -> None:
    """Wake nobody for a while. What is silenced is still judged, shown and acted on."""


@silence.command()
@click.option("--tenant", default="", help="Its name or id; shell globs.")
@click.option("--device", default="", help="A GPU's index or UUID; shell globs.")
@click.option("--rule", default="", help="A rule, or the class of a fault; shell globs.")
@click.option("--incident", default="", help="One incident's id.")
@click.option("--for", "for_s", type=Duration(), required=True, help="How long: 30m, 2h, 7d.")
@click.option("--reason", required=True, help="Why; others read it.")
@asks_agent
@answers
def add(
    connect: Callable[[], NodeClient],
    out: Out,
    tenant: str,
    device: str,
    rule: str,
    incident: str,
    for_s: float,
    reason: str,
) -> None:
    """Have nobody woken by what all given options fit. Operators only."""
    with connect() as client:
        if device.isdigit():
            device = _uuid(client, int(device))
        matcher = Matcher(tenant=tenant, device=device, rule=rule, incident=incident)
        if matcher == Matcher():
            raise click.UsageError("say at least one of --tenant, --device, --rule, --incident")
        made = client.add_silence(matcher, reason, for_s)
    if out.is_json:
        out.data({"silence": made})
    else:
        out.show([Styled(f"{made.id}: silent until {clock(made.until_wall)}", "green")])


@silence.command("list")
@asks_agent
@answers
def list_(connect: Callable[[], NodeClient], out: Out) -> None:
    """The silences that hold now, the first to end first."""
    with connect() as client:
        found = client.silences()
    if out.is_json:
        out.data({"silences": found})
        return
    if not found:
        out.show(["no silences"])
        return
    columns = (
        Column("SILENCE"),
        Column("UNTIL"),
        Column("BY", max_width=16),
        Column("WHAT", may_wrap=True),
        Column("WHY", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [each.id, clock(each.until_wall), each.author, matched(each), each.reason] for each in found
    ]
    out.show([out.table(columns, rows)])


@silence.command()
@click.argument("silence_id", metavar="SILENCE")
@asks_agent
@answers
def expire(connect: Callable[[], NodeClient], out: Out, silence_id: str) -> None:
    """End SILENCE now: its id, or the beginning of it. Operators only."""
    with connect() as client:
        ended = client.expire_silence(silence_id)
    if out.is_json:
        out.data({"silence": ended})
    else:
        out.show([Styled(f"{ended.id} is over", "green")])


def matched(each: Silence) -> str:
    """``tenant hog, rule quota``."""
    said = each.matcher
    pairs = (
        ("tenant", said.tenant),
        ("device", said.device),
        ("rule", said.rule),
        ("incident", said.incident),
    )
    return ", ".join(f"{name} {text}" for name, text in pairs if text)


def _uuid(client: NodeClient, index: int) -> str:
    for device in client.view().snapshot.devices:
        if device.index == index and device.parent is None:
            return device.id
    raise Refused(f"there is no GPU {index}: gpuwarden gpus lists them")
