"""``gpuwarden simulate fleet``: many nodes that speak the real protocol, at work or in a mass false positive.

Exit codes: 0 every bound was held, 1 one was missed or the fleet could not be set up, 2 usage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

EXIT_PROBLEM = 1
HIDDEN = ("real", "shared", "missed", "pages", "uncordons", "failures")


@click.command("fleet")
@click.option("--nodes", type=click.IntRange(1, 20_000), default=100, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(0.01, 100),
    default=1.0,
    show_default=True,
    help="Samples a second and node.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Samples in one message; agents send ten, or what 10 s bring.",
)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=10.0, show_default=True)
@click.option(
    "--mass-xid",
    "xid",
    type=click.IntRange(1, 999),
    help="Instead of a rate: every node reports this Xid, and none of them may be believed.",
)
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(1, 600),
    default=30.0,
    show_default=True,
    help="Real seconds over which they report it.",
)
@click.option("--aggregator", "address", metavar="HOST:PORT", help="One that runs here already.")
@click.option(
    "--aggregator-state",
    "state",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Its state_dir, whose authority signs the nodes' certificates.",
)
@click.option("--json", "is_json", is_flag=True, help="JSON instead of lines.")
def fleet(
    nodes: int,
    rate: float,
    batch: int,
    seconds: float,
    xid: int | None,
    within_s: float,
    address: str | None,
    state: Path | None,
    is_json: bool,
) -> None:
    """Many simulated nodes against an aggregator: its own in a temporary folder, or one that runs here."""
    if (address is None) is not (state is None):
        raise click.UsageError("expected --aggregator and --aggregator-state together, or neither")
    if xid is not None and address is not None:
        raise click.UsageError("--mass-xid plays against an aggregator of its own")
    from gpuwarden.errors import GpuwardenError
    from gpuwarden.sim.fleet.stage import Wanted, play

    wanted = Wanted(
        nodes=nodes,
        rate=rate,
        batch=batch,
        seconds=seconds,
        xid=xid,
        within_s=within_s,
        address=address,
        state=state,
    )
    try:
        said = play(wanted)
    except GpuwardenError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(said, indent=2) if is_json else "\n".join(lines(said)))
    sys.exit(EXIT_PROBLEM if said["missed"] else 0)


def lines(said: dict[str, Any]) -> list[str]:
    """The same for people."""
    found = [
        f"{name.replace('_', ' '):28} {_word(v)}" for name, v in said.items() if name not in HIDDEN
    ]
    found += [f"page ({page['reason']}): {page['summary']}" for page in said.get("pages", ())]
    found += [
        f"uncordon {u['node']} after {u['at_s']} s: {u['said']} ({u['took_s']} s)"
        for u in said.get("uncordons", ())
    ]
    found += ["real:", *(f"  {line}" for line in said["real"])]
    found += ["simulated or shared:", *(f"  {line}" for line in said["shared"])]
    found += [f"failed: {line}" for line in said["failures"]]
    found += [f"MISSED: {line}" for line in said["missed"]] or ["every bound was held"]
    return found


def _word(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{n} {name}" for name, n in value.items()) or "none"
    return "-" if value is None else str(value)
