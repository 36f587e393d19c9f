"""``gpuwarden simulate``: a simulated GPU host to run anything in, and faults to inject into it.

Exit codes: of ``run``, the command's own; else 0 ok, 1 refused, 2 usage, 3 no simulated host there.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gpuwarden.config_types import parse_bytes
from gpuwarden.errors import GpuwardenError, Unavailable, Unsupported
from gpuwarden.sim.control import Control, Rejected
from gpuwarden.sim.drift.command import drift
from gpuwarden.sim.driver.build import build, symbols
from gpuwarden.sim.faults.command import fault
from gpuwarden.sim.fleet.command import fleet
from gpuwarden.sim.host import PROFILES, SimOptions
from gpuwarden.sim.incident.command import incident
from gpuwarden.sim.injections import INJECTIONS, Injection, Parameter
from gpuwarden.sim.orientation.command import orientation
from gpuwarden.sim.rollout.command import rollout
from gpuwarden.sim.run import NOT_FOUND, run

EXIT_PROBLEM = 1
EXIT_UNREACHABLE = 3

FOLDER = click.option(
    "--dir",
    "folder",
    envvar="GPUWARDEN_SIM_DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The simulated host's folder; inside `simulate run` it is known.",
)


class Problem(click.ClickException):
    """The driver or this host said no."""

    exit_code = EXIT_PROBLEM


class Unreachable(click.ClickException):
    """No simulated host there."""

    exit_code = EXIT_UNREACHABLE


def _fault(error: GpuwardenError) -> click.ClickException:
    return Unreachable(str(error)) if isinstance(error, Unavailable) else Problem(str(error))


def _ask(folder: Path, command: str, **arguments: Any) -> dict[str, Any]:
    try:
        with Control(folder.absolute()) as control:
            return control.request(command, **arguments)
    except (Rejected, Unavailable) as error:
        raise _fault(error) from error


@click.group("simulate")
def simulate() -> None:
    """A simulated GPU host: real processes, a driver that speaks NVML, and faults on demand."""


def _mig_devices(text: str, devices: int) -> tuple[int, ...]:
    try:
        chosen = tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise click.BadParameter(f'expected device indices like 0,3, got "{text}"') from None
    if any(not 0 <= index < devices for index in chosen):
        raise click.BadParameter(f"expected indices below {devices}, got {text}")
    return chosen


@simulate.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--devices", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option("--profile", type=click.Choice(PROFILES), default="A100-40", show_default=True)
@click.option(
    "--processes", type=click.IntRange(0, 250), default=0, help="Live processes on each device."
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--mig", default="", help="Devices that start partitioned, like 0,3.")
@click.option("--fans", type=click.IntRange(0, 8), default=0, help="Fans of each board.")
@click.option("--quiet", is_flag=True, help="Do not say where the host's folder is.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run_command(
    devices: int,
    profile: str,
    processes: int,
    seed: int,
    mig: str,
    fans: int,
    quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND inside a simulated host; without one, keep the host up until Ctrl-C."""
    partitioned = _mig_devices(mig, devices)
    options = SimOptions(devices=devices, profile=profile, seed=seed, fans=fans, mig=partitioned)

    def announce(folder: str) -> None:
        click.echo(f"simulated host: GPUWARDEN_SIM_DIR={folder}", err=True)

    try:
        status = run(command, options, processes=processes, announce=None if quiet else announce)
    except (Unavailable, Unsupported, Rejected) as error:
        raise _fault(error) from error
    if status == NOT_FOUND:
        click.echo(f"{command[0]}: command not found", err=True)
    sys.exit(status)


@simulate.command("build")
def build_command() -> None:
    """Compile the simulated driver now and print where it lies."""
    try:
        click.echo(str(build().folder))
    except Unsupported as error:
        raise _fault(error) from error


@simulate.command("info")
@FOLDER
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table")
def info_command(folder: Path, output: str) -> None:
    """The devices of a simulated host as its driver knows them."""
    info = _ask(folder, "info")
    if output == "json":
        click.echo(json.dumps(info, indent=2))
        return
    table = Table("index", "uuid", "used MiB", "total MiB", "pids", "util %", "state")
    table.columns[1].no_wrap = True
    for device in info["devices"]:
        state = "lost" if device["lost"] else "locked up" if device["locked_up"] else "ok"
        table.add_row(
            str(device["index"]),
            device["uuid"],
            str(device["used"] >> 20),
            str(device["total"] >> 20),
            str(device["processes"]),
            str(device["gpu_util"]),
            state,
        )
    Console().print(table)


@simulate.command("counters")
@FOLDER
@click.option("--reset", is_flag=True, help="Start counting anew.")
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table")
def counters_command(folder: Path, reset: bool, output: str) -> None:
    """How often each NVML function was called, by whichever client."""
    calls: dict[str, int] = _ask(folder, "counters", reset=reset)["calls"]
    if output == "json":
        click.echo(json.dumps(calls, indent=2))
        return
    table = Table("function", "calls")
    for name, count in sorted(calls.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(name, str(count))
    Console().print(table)


@simulate.group("inject")
def inject() -> None:
    """Faults, at run time, into a simulated host."""


def _device(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _function(text: str) -> str:
    if text not in (known := symbols()):
        near = difflib.get_close_matches(text, known, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise click.BadParameter(f"no NVML function of this name{hint}")
    return text


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_CONVERTERS: dict[str, Callable[[str], object]] = {
    "device": _device,
    "function": _function,
    "bytes": _size,
}
_TYPES: dict[str, click.ParamType[Any]] = {"number": click.IntRange(min=0), "decimal": click.FLOAT}


def _parameter(parameter: Parameter) -> click.Parameter:
    convert = _CONVERTERS.get(parameter.kind)

    def callback(context: click.Context, asked: click.Parameter, value: Any) -> Any:
        return value if value is None or convert is None else convert(value)

    kind = click.Choice(parameter.choices) if parameter.choices else _TYPES.get(parameter.kind)
    if parameter.is_required:
        return click.Argument([parameter.name], type=kind, callback=callback)
    return click.Option(
        [f"--{parameter.name.replace('_', '-')}"],
        type=kind,
        is_flag=parameter.kind == "flag",
        callback=callback,
        help=parameter.help,
    )


def _verb(name: str, injection: Injection) -> click.Command:
    @FOLDER
    def send(folder: Path, **arguments: object) -> None:
        given = {
            key: value
            for key, value in arguments.items()
            if value is not None and value is not False  # 0 is a value
        }
        _ask(folder, injection.command, **given)

    verb = click.command(name, help=injection.help)(send)
    verb.params.extend(_parameter(parameter) for parameter in injection.parameters)
    return verb


for _name, _injection in INJECTIONS.items():
    inject.add_command(_verb(_name, _injection))

simulate.add_command(incident)
simulate.add_command(fault)
simulate.add_command(fleet)
simulate.add_command(rollout)
simulate.add_command(orientation)
simulate.add_command(drift)
