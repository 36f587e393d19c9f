"""``gpuwarden simulate drift``: a service whose inputs shift, and all that follows, on real parts.

Exit codes: 0 every step was seen, 1 one was missed or the scene could not be set, 2 usage.
"""

from __future__ import annotations

import json
import sys

import click

from gpuwarden.errors import GpuwardenError

EXIT_PROBLEM = 1


@click.command("drift")
@click.option("--none", "is_calm", is_flag=True, help="Nothing shifts, and nothing may fire.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="One JSON object instead of lines.")
def drift(is_calm: bool, seed: int, is_json: bool) -> None:
    """Shift -> verdict -> review queue -> imported labels -> accuracy lost -> training asked for, once.

    An aggregator, an agent and a service, each a process of its own; the aggregator is killed at the end. Some minutes.
    """
    from gpuwarden.log import configure_log
    from gpuwarden.sim.drift.play import play
    from gpuwarden.sim.incident.interrupt import terminated_as_interrupt

    configure_log("json", level=50)
    try:
        with terminated_as_interrupt():
            run = play(seed, is_shifted=not is_calm)
    except GpuwardenError as error:
        raise click.ClickException(f"drift: {error}") from error
    if is_json:
        click.echo(json.dumps(run, indent=2))
    else:
        for key, value in run.items():
            click.echo(f"{key:>10}  {json.dumps(value)}")
    sys.exit(EXIT_PROBLEM if run["missed"] else 0)
