"""``gpuwarden simulate rollout``: a bad version in real containers, a good one in simulated time.

Exit codes: 0 every bound held, 1 one was missed or the scene could not be set, 2 usage.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from gpuwarden.errors import GpuwardenError

EXIT_PROBLEM = 1


@click.command("rollout")
@click.argument("scene", type=click.Choice(("bad-version", "good-version")))
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="One JSON object instead of lines.")
@click.option("--log", "is_logged", is_flag=True, help="Leave the aggregator's log on stderr.")
def rollout(scene: str, seed: int, is_json: bool, is_logged: bool) -> None:
    """bad-version: a canary of 5 % with a real regression, in real containers (needs root and Docker).

    good-version: to all traffic in simulated time, with aggregators that are killed and clocks that are set.
    """
    from gpuwarden.log import configure_log

    configure_log("json", level=20 if is_logged else 50)
    try:
        run = _bad(seed) if scene == "bad-version" else _good(seed)
    except GpuwardenError as error:
        raise click.ClickException(f"{scene}: {error}") from error
    if is_json:
        click.echo(json.dumps(run, indent=2))
    else:
        for key, value in run.items():
            click.echo(f"{key:>18}  {json.dumps(value)}")
    sys.exit(EXIT_PROBLEM if run["missed"] else 0)


def _good(seed: int) -> dict[str, Any]:
    from gpuwarden.sim.rollout.good import play

    return play(seed)


def _bad(seed: int) -> dict[str, Any]:
    from gpuwarden.sim.incident.containers import docker_at
    from gpuwarden.sim.incident.interrupt import terminated_as_interrupt
    from gpuwarden.sim.rollout.bad import play

    address, reason = docker_at(is_wanted=True)
    if address is None:
        raise click.ClickException(f"bad-version needs real containers: {reason}")
    with terminated_as_interrupt():
        return play(address, seed)
