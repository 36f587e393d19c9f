"""``gpuwarden doctor``: looks at this host as the agent needs it and says what to mend, and how."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.adapters.nvidia_host import NvidiaHost
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks import Check, Result, Roots, check_all, others_may_write
from gpuwarden.commands.checks_fleet import check_fleet
from gpuwarden.commands.checks_host import (
    check_clock,
    check_group_rights,
    check_libraries,
    check_scopes,
    check_versions,
)
from gpuwarden.commands.checks_oncall import check_oncall
from gpuwarden.commands.checks_pods import check_pods
from gpuwarden.commands.checks_runtimes import check_runtimes
from gpuwarden.commands.checks_sinks import check_sinks
from gpuwarden.commands.checks_unit import check_enforcement, check_unit, unit_state
from gpuwarden.commands.config import file_option
from gpuwarden.commands.output import EXIT_PROBLEM, Cell, Column, Out, Styled, answers, end
from gpuwarden.commands.panes import problems
from gpuwarden.commands.reading import asks_agent
from gpuwarden.config import Config
from gpuwarden.config_files import load
from gpuwarden.errors import ConfigError, GpuwardenError

_STYLES = {
    Result.OK: "green",
    Result.WARNING: "yellow",
    Result.FAILED: "bold red",
    Result.UNKNOWN: "yellow",
}


@click.command()
@file_option
@asks_agent
@answers
def doctor(connect: Callable[[], NodeClient], out: Out, path: Path | None) -> None:
    """Check driver, cgroups, runtimes, kernel log, clock, disk, fleet, sinks, unit, configuration and agent.

    Changes nothing, pages nobody, and needs no running agent. Exit code 1 when a check failed.
    """
    told(examine(connect, path), out)


def told(checks: list[Check], out: Out) -> None:
    """Show them; ends with exit code 1 when one failed."""
    if out.is_json:
        out.data({"checks": checks})
    else:
        columns = (
            Column("CHECK"),
            Column("RESULT", min_width=7),
            Column("WHAT WAS SEEN, AND WHAT TO DO", may_wrap=True),
        )
        rows: list[list[Cell]] = []
        for check in checks:
            rows.append([check.name, Styled(check.result, _STYLES[check.result]), check.seen])
            if check.fix:
                rows.append(["", "", Styled(f"-> {check.fix}", "bold")])
        out.show([out.table(columns, rows)])
    if any(check.result is Result.FAILED for check in checks):
        end(EXIT_PROBLEM)


def examine(connect: Callable[[], NodeClient], path: Path | None) -> list[Check]:
    """Everything there is to look at, what others depend on first."""
    clock, roots = SystemClock(), Roots()
    began = clock.wall() - clock.now()
    config_check, config = _config(path)
    checks = [config_check, *check_all(config, roots)]
    checks += [
        check_versions(NvidiaHost(str(config.health.root), config.nvml.library)),
        check_group_rights(roots),
        check_scopes(roots),
        check_pods(config.cri),
        *check_runtimes(config),
        *check_oncall(config.oncall),
        *check_sinks(config.oncall),
        *check_fleet(config.fleet, clock.wall()),
        check_libraries(),
    ]
    state = unit_state() if roots.systemd.is_dir() else {}
    checks += [check_unit(roots, state), check_enforcement(roots, config.agent.mode, state)]
    moved_s = clock.wall() - clock.now() - began
    return [*checks, check_clock(moved_s=moved_s), _agent(connect)]


def _config(path: Path | None) -> tuple[Check, Config]:
    """The configuration of this host, or the defaults where it is bad: the other checks go on."""
    try:
        loaded = load(path, environ=os.environ)
    except ConfigError as error:
        more = f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
        return (
            Check(
                name="configuration",
                result=Result.FAILED,
                seen=f"{error.faults[0]}{more}",
                fix="gpuwarden check-config lists every mistake",
            ),
            Config(),
        )
    if loose := [str(file) for file in loaded.files if others_may_write(file)]:
        return (
            Check(
                name="configuration",
                result=Result.FAILED,
                seen=f"others than root may change {', '.join(loose)}: they decide who is evicted",
                fix=f"chown root: {' '.join(loose)}; chmod go-w {' '.join(loose)}",
            ),
            loaded.config,
        )
    files = ", ".join(str(file) for file in loaded.files) or "no file: all defaults"
    seen = f"{files}; mode {loaded.config.agent.mode}"
    return Check(name="configuration", result=Result.OK, seen=seen), loaded.config


def _agent(connect: Callable[[], NodeClient]) -> Check:
    try:
        with connect() as client:
            view = client.view()
    except GpuwardenError as error:
        return Check(
            name="agent",
            result=Result.FAILED,
            seen=f"it does not answer (all other checks were made without it): {error}",
            fix="systemctl start gpuwarden-agent, or gpuwarden agent in the foreground to see why not",
        )
    found = problems(view, SystemClock().now())
    if found:
        return Check(
            name="agent",
            result=Result.WARNING,
            seen=f"pid {view.agent.pid} answers and sees: {found[0]}",
            fix="gpuwarden status shows all of it",
        )
    seen = f"pid {view.agent.pid}, version {view.agent.version}, mode {view.agent.mode}"
    return Check(name="agent", result=Result.OK, seen=seen)
