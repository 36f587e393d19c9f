"""``gpuwarden rollout``: a version's way to all of a service's traffic, and the shares that routers are told."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import click

from gpuwarden.adapters.rollout_client import RolloutClient
from gpuwarden.adapters.router_text import envoy, nginx
from gpuwarden.commands.fleet import asks_fleet
from gpuwarden.commands.output import EXIT_PROBLEM, Cell, Column, Out, Part, Styled, answers, end
from gpuwarden.commands.silence import Duration
from gpuwarden.model.ramp import OVER, ArmShare, Campaign, Freeze, Ramp, Shares, Stage, Turn

Connect = Callable[[], RolloutClient]
BAD = frozenset({Stage.BREACHED, Stage.WAITING, Stage.UNDOING, Stage.UNDONE})


def asks_rollouts(verb: Callable[..., None]) -> Callable[..., None]:
    """``asks_fleet`` with the client of ``RolloutService``."""

    @functools.wraps(verb)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        verb(*args, **kwargs)

    return asks_fleet(wrapped, RolloutClient)


@click.group()
def rollout() -> None:
    """A version on its way to all traffic; asked of the aggregator.

    No arm's share moves more than 20 points within a day, whoever moves it.
    """


@rollout.command()
@click.argument("service")
@click.argument("version")
@click.option("--from", "base", required=True, help="The version before.")
@click.option("--way", type=click.Choice(["canary", "gatekeeper"]), default="canary")
@click.option(
    "--undo/--no-undo",
    "may_undo",
    default=None,
    help="Whether a breach is rolled back without a person; by default as [rollout] may_undo says.",
)
@asks_rollouts
@answers
def start(
    connect: Connect,
    out: Out,
    service: str,
    version: str,
    base: str,
    way: str,
    may_undo: bool | None,
) -> None:
    """Begin with 5 % of SERVICE's traffic for VERSION."""
    with connect() as client:
        made = client.start(service, version, base, way, may_undo)
    _show(out, made)


@rollout.command()
@click.argument("service", default="")
@asks_rollouts
@answers
def status(connect: Connect, out: Out, service: str) -> None:
    """Where rollouts stand, and rollbacks over nodes. Exit code 1 when one is in breach, or went wrong."""
    with connect() as client:
        ramps, campaigns, freezes = client.rollouts(service)
    if out.is_json:
        out.data({"rollouts": ramps, "rollbacks": campaigns, "freezes": freezes})
    else:
        out.show(_panes(out, ramps, campaigns, freezes))
    if any(each.stage in BAD for each in ramps):
        end(EXIT_PROBLEM)


@rollout.command()
@click.argument("service")
@asks_rollouts
@answers
def pause(connect: Connect, out: Out, service: str) -> None:
    """Let SERVICE's rollout take no further step; a breach is still acted on."""
    with connect() as client:
        _show(out, client.steer(service, "pause", ""))


@rollout.command()
@click.argument("service")
@asks_rollouts
@answers
def resume(connect: Connect, out: Out, service: str) -> None:
    """Let it go on."""
    with connect() as client:
        _show(out, client.steer(service, "resume", ""))


@rollout.command()
@click.argument("service")
@click.option("--reason", required=True, help="Why: stands in the audit and on the nodes.")
@asks_rollouts
@answers
def abort(connect: Connect, out: Out, service: str, reason: str) -> None:
    """Take its containers back to the version before, now."""
    with connect() as client:
        _show(out, client.steer(service, "abort", reason))


@rollout.command()
@click.argument("service")
@click.option(
    "--set", "wanted", multiple=True, metavar="ARM=VERSION:SHARE", help="All arms, by hand."
)
@click.option("--reason", default="", help="Why; needed with --set.")
@click.option(
    "--as", "form", type=click.Choice(["nginx", "envoy"]), help="As a router's own configuration."
)
@asks_rollouts
@answers
def shares(
    connect: Connect,
    out: Out,
    service: str,
    wanted: Sequence[str],
    reason: str,
    form: str | None,
) -> None:
    """What routers are told of SERVICE, or, with --set, are to be told from now on."""
    with connect() as client:
        if wanted:
            told = client.set_shares(service, [arm_of(each) for each in wanted], reason)
        else:
            told = client.shares(service)[0]
    if form is not None:
        click.echo(nginx(told) if form == "nginx" else envoy(told), nl=False)
    elif out.is_json:
        out.data({"shares": told})
    else:
        out.show([share_table(out, told)])


@rollout.command()
@click.argument("service", default="")
@click.option(
    "--for", "for_s", type=Duration(), default=0.0, help="How long; by default until `thaw`."
)
@click.option("--reason", required=True, help="Why; others read it.")
@asks_rollouts
@answers
def freeze(connect: Connect, out: Out, service: str, for_s: float, reason: str) -> None:
    """Let nobody move the shares of SERVICE, or of all: a peak day."""
    with connect() as client:
        made = client.freeze(service, reason, is_on=True, for_s=for_s)
    _frozen(out, made)


@rollout.command()
@click.argument("service", default="")
@click.option("--reason", required=True, help="Why; others read it.")
@asks_rollouts
@answers
def thaw(connect: Connect, out: Out, service: str, reason: str) -> None:
    """End a freeze."""
    with connect() as client:
        made = client.freeze(service, reason, is_on=False)
    _frozen(out, made)


def arm_of(text: str) -> ArmShare:
    """``new=v2:0.05``."""
    name, equals, rest = text.partition("=")
    version, colon, share = rest.rpartition(":")
    try:
        number = float(share)
    except ValueError:
        number = -1.0
    if not (name and equals and version and colon) or not 0.0 <= number <= 1.0:
        raise click.UsageError(f"expected ARM=VERSION:SHARE such as new=v2:0.05, got {text}")
    return ArmShare(arm=name, version=version, share=number)


def share_table(out: Out, told: Shares) -> Part:
    columns = (Column("ARM"), Column("VERSION"), Column("SHARE"))
    rows: list[list[Cell]] = [[each.arm, each.version, f"{each.share:.1%}"] for each in told.arms]
    return out.table(columns, rows)


def _show(out: Out, made: Ramp) -> None:
    if out.is_json:
        out.data({"rollout": made})
    else:
        out.show([line(made)])


def line(made: Ramp) -> Part:
    """One rollout in a line."""
    held = ", paused" if made.is_paused else ""
    why = f": {made.why}" if made.why else ""
    text = f"{made.service} {made.base} -> {made.version} ({made.way.value}): {made.stage.value}, {made.share:.1%}{held}{why}"
    return Styled(text, "red" if made.stage in BAD else "green" if made.stage in OVER else "")


def _panes(
    out: Out,
    ramps: Sequence[Ramp],
    campaigns: Sequence[Campaign],
    freezes: Sequence[Freeze],
) -> list[Part]:
    parts: list[Part] = [line(each) for each in ramps] or ["no rollouts"]
    for each in freezes:
        parts.append(
            Styled(f"{each.service or 'all services'} frozen by {each.by}: {each.why}", "yellow")
        )
    for campaign in campaigns:
        done = sum(turn.turn is Turn.DONE for turn in campaign.nodes)
        why = f": {campaign.why}" if campaign.why else ""
        parts.append(
            f"rollback {campaign.id} of {campaign.service}: {campaign.state.value}, "
            f"{done} of {len(campaign.nodes)} nodes{why}"
        )
        rows: list[list[Cell]] = [
            [turn.node, turn.turn.value, turn.incident, turn.detail] for turn in campaign.nodes
        ]
        columns = (
            Column("NODE"),
            Column("TURN"),
            Column("INCIDENT"),
            Column("DETAIL", may_wrap=True),
        )
        parts.append(out.table(columns, rows))
    return parts


def _frozen(out: Out, made: Freeze) -> None:
    if out.is_json:
        out.data({"freeze": made})
    else:
        out.show(
            [f"{made.service or 'all services'}: {'frozen' if made.is_on else 'free to move'}"]
        )
