"""``gpuwarden agent``: the daemon. Imports neither tables nor colours."""

from pathlib import Path

import click


@click.command()
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GPUWARDEN_CONFIG",
    help="The main file [/etc/gpuwarden/agent.toml]; drop-ins lie in conf.d beside it.",
)
@click.option(
    "--mode",
    type=click.Choice(["observe", "enforce"]),
    help="Overrules agent.mode: observe decides and reports, and touches nothing.",
)
@click.option(
    "--log-format", type=click.Choice(["console", "json"]), help="Overrules agent.log_format."
)
@click.pass_context
def agent(
    ctx: click.Context, config_path: Path | None, mode: str | None, log_format: str | None
) -> None:
    """Run the daemon in the foreground until TERM; HUP reads the configuration again."""
    from gpuwarden.adapters import grpc_plain

    grpc_plain.load()
    from gpuwarden.wiring import run_agent

    flags: dict[str, object] = {}
    if mode is not None:
        flags["agent.mode"] = mode
    if log_format is not None:
        flags["agent.log_format"] = log_format
    ctx.exit(run_agent(config_path, flags=flags))
