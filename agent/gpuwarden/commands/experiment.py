"""``gpuwarden experiment``: who gets which version, what was counted, and whether it may be read."""

from collections.abc import Sequence

import click

from gpuwarden.commands.output import EXIT_PROBLEM, Cell, Column, Out, Part, Styled, answers, end
from gpuwarden.commands.rollout import Connect, arm_of, asks_rollouts
from gpuwarden.model.ramp import Experiment, Trust


@click.group()
def experiment() -> None:
    """Experiments on a service's traffic; asked of the aggregator."""


@experiment.command()
@click.argument("service")
@click.argument("name")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    required=True,
    metavar="ARM=VERSION:SHARE",
    help="Shares sum to 1.",
)
@asks_rollouts
@answers
def create(connect: Connect, out: Out, service: str, name: str, arms: Sequence[str]) -> None:
    """Share out SERVICE's traffic and count what comes of it; shares are capped as always."""
    with connect() as client:
        made = client.create(service, name, [arm_of(each) for each in arms])
    _show(out, [made])


@experiment.command()
@click.argument("service", default="")
@asks_rollouts
@answers
def status(connect: Connect, out: Out, service: str) -> None:
    """What was counted; nothing is shown where the split is not what it should be (exit code 1)."""
    with connect() as client:
        found = client.experiments(service)
    _show(out, found)
    if any(each.trust is Trust.WITHHELD for each in found):
        end(EXIT_PROBLEM)


@experiment.command()
@click.argument("service")
@click.option("--reason", required=True, help="Why; others read it.")
@asks_rollouts
@answers
def freeze(connect: Connect, out: Out, service: str, reason: str) -> None:
    """Let nobody move the shares of SERVICE; it goes on being counted."""
    with connect() as client:
        made = client.freeze(service, reason, is_on=True)
    if out.is_json:
        out.data({"freeze": made})
    else:
        out.show([f"{service}: frozen"])


@experiment.command()
@click.argument("service")
@click.option(
    "--reason", required=True, help="What was found; stands with the readings from now on."
)
@asks_rollouts
@answers
def release(connect: Connect, out: Out, service: str, reason: str) -> None:
    """Let readings be read that were withheld, by your word. Admins only."""
    with connect() as client:
        made = client.release(service, reason)
    _show(out, [made])


def _show(out: Out, found: Sequence[Experiment]) -> None:
    if out.is_json:
        out.data({"experiments": list(found)})
        return
    parts: list[Part] = []
    for each in found:
        style = "red" if each.trust is Trust.WITHHELD else "bold"
        parts.append(Styled(f"{each.service} {each.id}: {each.trust.value}", style))
        if each.trust is Trust.WITHHELD:
            parts += [
                f"  the split is not what it should be; nothing is read: {h}" for h in each.hints
            ]
            continue
        if each.released_by:
            parts.append(f"  released by {each.released_by}: {each.released_why}")
        columns = (
            Column("ARM"),
            Column("UNITS"),
            Column("EXPECTED"),
            Column("ERRORS"),
            Column("MEAN"),
        )
        rows: list[list[Cell]] = [
            [
                arm.arm,
                f"{arm.units:.0f}",
                f"{arm.expected:.0f}",
                f"{arm.errors / arm.units:.2%}" if arm.units else "-",
                f"{arm.total_s / arm.timed * 1000:.1f} ms" if arm.timed else "-",
            ]
            for arm in each.arms
        ]
        parts.append(out.table(columns, rows))
    out.show(parts or ["no experiments"])
