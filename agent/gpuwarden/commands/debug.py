"""``gpuwarden debug``: single pieces of the agent, for those who look into it."""

import sys

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
