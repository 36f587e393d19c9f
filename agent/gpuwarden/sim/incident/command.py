"""``gpuwarden simulate incident``: the incident played for real, measured, and judged.

Exit codes: 0 every bound held, 1 one was missed or the scene could not be set, 2 usage.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gpuwarden import interpreter
from gpuwarden.errors import GpuwardenError
from gpuwarden.sim.incident.cast import Trigger, Variant
from gpuwarden.sim.incident.containers import docker_at
from gpuwarden.sim.incident.fleet_play import play_fleet
from gpuwarden.sim.incident.interrupt import terminated_as_interrupt
from gpuwarden.sim.incident.judge import as_json
from gpuwarden.sim.incident.report import show, show_many, summary
from gpuwarden.sim.incident.scene import Scene

EXIT_PROBLEM = 1
EXPLAIN_TIMEOUT_S = 10.0
EXPLAIN_LINES = 120


@click.command("incident")
@click.option(
    "--trigger",
    type=click.Choice([each.value for each in Trigger]),
    default=Trigger.QUOTA.value,
    show_default=True,
    help="What gives the offender away: its quota and a lock-up, or nothing but the service's latency.",
)
@click.option("--stubborn", is_flag=True, help="The offender ignores TERM.")
@click.option("--no-grace", is_flag=True, help="Its policy leaves it no grace: KILL at once.")
@click.option(
    "--lockup",
    type=click.Choice(("released", "persistent")),
    default="released",
    show_default=True,
    help="Whether the device works again once the offender is gone.",
)
@click.option(
    "--allow-protected-restart",
    is_flag=True,
    help="The operator lets the agent restart the protected service on a healthy device.",
)
@click.option(
    "--slow-host",
    "slowness",
    type=click.FloatRange(1, 20),
    default=1.0,
    help="An emulated machine: wait, and allow, so many times longer than is promised.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1, show_default=True)
@click.option("--count", type=click.IntRange(1, 1000), default=1, help="Seeds from SEED on.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object instead of tables.")
@click.option(
    "--fleet",
    "nodes",
    type=click.IntRange(2, 16),
    help="So many agents under one aggregator; the incident is on one of them.",
)
@click.option("--no-docker", is_flag=True, help="Plain processes even where Docker is at hand.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Leave the agent's log, configuration and journal of each run in this folder.",
)
def incident(
    trigger: str,
    stubborn: bool,
    no_grace: bool,
    lockup: str,
    allow_protected_restart: bool,
    slowness: float,
    seed: int,
    count: int,
    is_json: bool,
    no_docker: bool,
    nodes: int | None,
    keep: Path | None,
) -> None:
    """Play the incident of that night: a low-class job overruns its quota of GPU memory and locks the
    device up under a protected service, and the agent, in enforce mode, has to deal with it."""
    if trigger == Trigger.SLO.value and lockup == "persistent":
        raise click.UsageError("--trigger slo: nothing locks up there")
    variant = Variant(
        trigger=Trigger(trigger),
        is_stubborn=stubborn,
        has_no_grace=no_grace,
        is_persistent=lockup == "persistent",
        allows_restart=allow_protected_restart,
        slowness=slowness,
    )
    address, reason = docker_at(is_wanted=not no_docker)
    if address is None and not no_docker:
        click.echo(f"plain processes instead of containers: {reason}", err=True)
    console = Console()
    if nodes is not None:
        with terminated_as_interrupt():
            sys.exit(_fleet(seed, variant, address, keep, nodes, None if is_json else console))
    with terminated_as_interrupt():
        runs = []
        for number in range(seed, seed + count):
            words_width = None if is_json else console.width
            run, explained = _one(number, variant, address, keep, words_width)
            runs.append(run)
            if not is_json:
                show(console, run)
                console.print(explained, markup=False, highlight=False, soft_wrap=True)
    total = summary(runs)
    if is_json:
        click.echo(json.dumps(runs[0] if count == 1 else total, indent=2))
    elif count > 1:
        show_many(console, total)
    sys.exit(EXIT_PROBLEM if total["missed"] else 0)


def _one(
    seed: int, variant: Variant, address: str | None, keep: Path | None, words_width: int | None
) -> tuple[dict[str, Any], str]:
    try:
        with Scene(seed, variant, docker=address, keep=keep) as scene:
            run = as_json(scene.play())
            which = str(run["cause"].get("incident") or "last")
            return run, _explained(scene, which, words_width) if words_width else ""
    except GpuwardenError as error:
        raise click.ClickException(f"seed {seed}: {error}") from error


def _fleet(
    seed: int,
    variant: Variant,
    address: str | None,
    keep: Path | None,
    nodes: int,
    console: Console | None,
) -> int:
    """The same on one node of a fleet: exit status."""
    try:
        play = play_fleet(seed, variant, address, keep, nodes)
    except GpuwardenError as error:
        raise click.ClickException(f"seed {seed}: {error}") from error
    missed = [*play.run["missed"], *play.faults]
    if console is None:
        click.echo(json.dumps({**play.run, "fleet": nodes, "missed": missed}, indent=2))
        return EXIT_PROBLEM if missed else 0
    show(console, play.run)
    for words, said in play.shown:
        console.print(f"\n$ gpuwarden fleet {words}", markup=False, highlight=False)
        console.print(said.rstrip(), markup=False, highlight=False, soft_wrap=True)
    console.print("\n$ gpuwarden fleet explain", markup=False, highlight=False)
    console.print(play.explained.rstrip(), markup=False, highlight=False, soft_wrap=True)
    for fault in play.faults:
        console.print(f"MISSED: {fault}", markup=False, highlight=False)
    return EXIT_PROBLEM if missed else 0


def _explained(scene: Scene, incident: str, width: int) -> str:
    """What the agent's own ``explain`` says of it, whole: it is the answer to "why"."""
    try:
        done = subprocess.run(
            interpreter.own("-m", "gpuwarden", "explain", incident, "--socket", str(scene.socket)),
            env={**scene.environ, "COLUMNS": str(width)},
            capture_output=True,
            text=True,
            timeout=EXPLAIN_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"explain: {error}"
    said = (done.stdout or done.stderr).rstrip()
    return "\n".join(["What `gpuwarden explain` says of it:", *said.splitlines()[:EXPLAIN_LINES]])
