"""``gpuwarden simulate fault``: a fault played for real, from its line to its end, and judged.

Exit codes: 0 it came to what it has to, 1 it did not or the scene could not be set, 2 usage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gpuwarden.errors import GpuwardenError
from gpuwarden.sim.faults.judge import as_json
from gpuwarden.sim.faults.play import Play
from gpuwarden.sim.faults.plays import PLAYS
from gpuwarden.sim.faults.report import listed, show, show_list
from gpuwarden.sim.faults.scene import Scene
from gpuwarden.sim.incident.containers import docker_at
from gpuwarden.sim.incident.interrupt import terminated_as_interrupt

EXIT_PROBLEM = 1


@click.command("fault")
@click.argument("name", required=False, type=click.Choice(tuple(PLAYS)), metavar="[NAME]")
@click.option("--list", "is_list", is_flag=True, help="What can be played.")
@click.option("--all", "is_all", is_flag=True, help="Each of them, one after the other.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="JSON instead of tables.")
@click.option("--no-docker", is_flag=True, help="Plain processes even where Docker is at hand.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Leave the agent's log, configuration and journal of each play in this folder.",
)
def fault(
    name: str | None,
    is_list: bool,
    is_all: bool,
    seed: int,
    is_json: bool,
    no_docker: bool,
    keep: Path | None,
) -> None:
    """Play a fault of the driver, a device or the node: simulated devices and kernel log, a real agent in
    enforce mode, real tenants; what it does is compared with what it has to do."""
    if [name is not None, is_list, is_all].count(True) != 1:
        raise click.UsageError("expected the name of a fault, --list, or --all")
    console = Console()
    if is_list:
        _list(console, is_json)
        return
    address, reason = docker_at(is_wanted=not no_docker)
    if address is None and not no_docker:
        click.echo(f"plain processes instead of containers: {reason}", err=True)
    chosen = list(PLAYS.values()) if name is None else [PLAYS[name]]
    with terminated_as_interrupt():
        runs = [_one(play, seed, address, keep) for play in chosen]
    if is_json:
        click.echo(json.dumps(runs if is_all else runs[0], indent=2))
    else:
        show(console, runs)
    sys.exit(EXIT_PROBLEM if any(run["missed"] for run in runs) else 0)


def _list(console: Console, is_json: bool) -> None:
    plays = list(PLAYS.values())
    if is_json:
        click.echo(json.dumps(listed(plays), indent=2))
    else:
        show_list(console, plays)


def _one(play: Play, seed: int, address: str | None, keep: Path | None) -> dict[str, Any]:
    try:
        with Scene(play, seed, docker=address, keep=keep) as scene:
            return as_json(scene.play())
    except GpuwardenError as error:
        raise click.ClickException(f"{play.name}: {error}") from error
