"""``gpuwarden aggregator``: the daemon of the centre, and copies of what it keeps."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from gpuwarden.commands.output import Out, answers

TRANSPORT = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"
"""gRPC's older poller: its newer one hands every message through five threads of a pool, which costs a fifth of
what a report costs (scripts/bench fleet, grpcio 1.85, thousands of connections with little on each)."""


config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The main file [/etc/gpuwarden/aggregator.toml]; drop-ins lie in aggregator.d beside it.",
)


@click.group(invoke_without_command=True)
@config_option
@click.option(
    "--log-format", type=click.Choice(["console", "json"]), help="Overrules aggregator.log_format."
)
@click.pass_context
def aggregator(ctx: click.Context, config_path: Path | None, log_format: str | None) -> None:
    """Run the aggregator of a fleet in the foreground until TERM.

    At its first start it makes its certificate authority. Root on this host may then use
    `gpuwarden fleet`, and lets nodes join with `gpuwarden fleet invite`.
    """
    if ctx.invoked_subcommand is not None:
        return
    os.environ.setdefault("GRPC_EXPERIMENTS", TRANSPORT)
    from gpuwarden.aggregator.wiring import run_aggregator

    flags: dict[str, object] = {}
    if log_format is not None:
        flags["aggregator.log_format"] = log_format
    ctx.exit(run_aggregator(config_path, flags))


def _of_store(verb: Callable[..., None]) -> Callable[..., None]:
    file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
    return config_option(file(answers(verb)))


@aggregator.command()
@_of_store
def backup(config_path: Path | None, file: Path, out: Out) -> None:
    """Write a copy of the store to FILE, which must not be there yet. The aggregator may run meanwhile.

    Of SQLite it is a file of SQLite; of PostgreSQL our own tables, packed with gzip. The certificate authority is
    not in it: keep the folder pki of the state directory as well, without it every node has to join anew.
    """
    from gpuwarden.aggregator import copies
    from gpuwarden.aggregator.wiring import load

    cfg = load(_config(config_path))
    counts = copies.backup(cfg, os.environ, file)
    if out.is_json:
        out.data({"file": str(file), "rows": counts})
        return
    pki = cfg.aggregator.state_dir / "pki"
    out.show([f"{file}: {_summary(counts)}", f"keep {pki} as well: it is not in there"])


@aggregator.command()
@_of_store
def restore(config_path: Path | None, file: Path, out: Out) -> None:
    """Put the copy in FILE in place of the store, while no aggregator runs on it.

    A file of SQLite that was there is kept beside it; a database of PostgreSQL has to be empty. Invitations
    that were not used are void afterwards, and permits that were given since the copy are not counted.
    """
    import getpass

    from gpuwarden.aggregator import copies
    from gpuwarden.aggregator.wiring import load
    from gpuwarden.clock import SystemClock

    who = f"{getpass.getuser()} on this host"
    counts, before = copies.restore(
        load(_config(config_path)), os.environ, file, wall=SystemClock().wall(), who=who
    )
    if out.is_json:
        out.data({"rows": counts, "before": None if before is None else str(before)})
        return
    lines = [f"restored: {_summary(counts)}"]
    if before is not None:
        lines.append(f"what was there before is {before}")
    out.show(lines)


@aggregator.command()
@config_option
@answers
def doctor(config_path: Path | None, out: Out) -> None:
    """Check disk, store, authority, certificate, clock and the running aggregator of this host, each with its fix.

    Changes nothing. Exit code 1 when a check failed.
    """
    from gpuwarden.aggregator.wiring import load
    from gpuwarden.clock import SystemClock
    from gpuwarden.commands.checks_aggregator import check_all
    from gpuwarden.commands.doctor import told

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    told(check_all(load(_config(config_path)), os.environ, SystemClock().wall()), out)


@aggregator.command("support-bundle")
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False, writable=True), required=False
)
@config_option
@answers
def support_bundle(config_path: Path | None, file: Path | None, out: Out) -> None:
    """Write one FILE.tar.gz with what is needed to find out what is wrong with the aggregator of this host.

    Configuration, doctor, status, nodes, incidents, the log's end, versions, metrics. Secrets are taken out, by
    their value and by their name: look at it all the same before you give it away. The aggregator may be down.
    """
    from gpuwarden.clock import SystemClock
    from gpuwarden.commands.bundle import write
    from gpuwarden.commands.bundle_aggregator import collected

    wall = SystemClock().wall()
    write(collected(_config(config_path), os.environ, wall), file, out, wall, "aggregator-")


def _config(own: Path | None) -> Path | None:
    """Said with the verb, or before it."""
    context = click.get_current_context()
    parent = context.parent
    said: Path | None = None if parent is None else parent.params.get("config_path")
    return own or said


def _summary(counts: Mapping[str, int]) -> str:
    named = {"node": "nodes", "event": "events", "incident": "incidents", "audit": "audit lines"}
    return ", ".join(f"{counts.get(table, 0)} {words}" for table, words in named.items())
