"""``gpuwarden aggregator``: the daemon of the centre."""

import os
from pathlib import Path

import click

TRANSPORT = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"
"""gRPC's older poller: its newer one hands every message through five threads of a pool, which costs a fifth of
what a report costs (scripts/bench fleet, grpcio 1.85, thousands of connections with little on each)."""


@click.command()
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The main file [/etc/gpuwarden/aggregator.toml]; drop-ins lie in aggregator.d beside it.",
)
@click.option(
    "--log-format", type=click.Choice(["console", "json"]), help="Overrules aggregator.log_format."
)
@click.pass_context
def aggregator(ctx: click.Context, config_path: Path | None, log_format: str | None) -> None:
    """Run the aggregator of a fleet in the foreground until TERM.

    At its first start it makes its certificate authority. Root on this host may then use
    `gpuwarden fleet`, and lets nodes join with `gpuwarden fleet invite`.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", TRANSPORT)
    from gpuwarden.aggregator.wiring import run_aggregator

    flags: dict[str, object] = {}
    if log_format is not None:
        flags["aggregator.log_format"] = log_format
    ctx.exit(run_aggregator(config_path, flags))
