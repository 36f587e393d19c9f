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
