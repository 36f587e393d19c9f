"""``gpuwarden debug``: single pieces of the agent, for those who look into it."""

import os
import sys
from pathlib import Path

import click


@click.group()
def debug() -> None:
    """Single pieces of the agent, run by hand."""


@debug.command("owner-of-cgroup")
@click.pass_context
def owner_of_cgroup(ctx: click.Context) -> None:
    """Who owns a cgroup: JSON lines {"text": contents of /proc/PID/cgroup} on stdin, answers out."""
    from gpuwarden.adapters.cgroup_owner import owner_of_cgroup_lines

    ctx.exit(owner_of_cgroup_lines(sys.stdin, sys.stdout))


@debug.command("kernel-log")
@click.option("--explain", is_flag=True, help="Add what the verdict rests on and the first steps.")
def kernel_log(explain: bool) -> None:
    """What kernel lines say of GPUs: lines on stdin (dmesg, syslog, journal, raw /dev/kmsg records),
    one JSON object a line out with its verdict; null for a line that says nothing."""
    from gpuwarden.commands.kernel_log import answers

    for each in answers(sys.stdin.buffer, explain=explain):
        click.echo(each)  # which flushes: the command can follow a log


@debug.command("evaluate")
@click.option(
    "--worker", is_flag=True, hidden=True, help="One case a line; for the command itself."
)
def evaluate_cases(worker: bool) -> None:
    """What the statistics of drift, guardrails and experiments answer: {"cases": [...]} on stdin, each
    with id, method, input and params; one JSON object a line out, with a reason where there is no
    answer. Needs what the aggregator needs."""
    from gpuwarden.commands import evaluate
    from gpuwarden.errors import GpuwardenError

    if worker:
        evaluate.work(sys.stdin.buffer, sys.stdout.buffer)
        return
    try:
        for each in evaluate.answers(sys.stdin.buffer):
            click.echo(each)
    except GpuwardenError as error:
        raise click.ClickException(str(error)) from error


@debug.command("let-go")
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The agent's main file, where it is not /etc/gpuwarden/agent.toml.",
)
def let_go_command(path: Path | None) -> None:
    """Let run on what an agent that was killed has left frozen. Nothing else of a tenant is touched.

    For ExecStopPost= of its unit; never while an agent runs.
    """
    from gpuwarden.adapters.cgroupfs import CgroupFs
    from gpuwarden.commands.let_go import let_go
    from gpuwarden.config import Config
    from gpuwarden.config_files import load
    from gpuwarden.errors import ConfigError, GpuwardenError

    try:
        cfg = load(path, environ=os.environ).config
    except ConfigError:
        cfg = Config()  # a bad configuration must not keep a tenant frozen
    try:
        told = let_go(cfg.agent.state_dir / "journal", CgroupFs())
    except GpuwardenError as error:
        raise click.ClickException(str(error)) from error
    for line in told:
        click.echo(line)
