"""``gpuwarden check-config`` and ``gpuwarden config show``: what is in force, and who said so."""

import json
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, BeforeValidator

from gpuwarden.clock import SystemClock
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Styled, answers, end, jsonable
from gpuwarden.config import Config
from gpuwarden.config_aggregator import AGGREGATOR_PATH, AggregatorConfig
from gpuwarden.config_files import DEFAULT_PATH, Loaded, load, load_as
from gpuwarden.config_types import parse_bytes
from gpuwarden.errors import ConfigError, Unavailable
from gpuwarden.model.tenant import TenantClass
from gpuwarden.toml_places import Path as Place

_SIZES = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))

file_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GPUWARDEN_CONFIG",
    help=f"The main file [{DEFAULT_PATH}]; drop-ins lie in conf.d beside it.",
)


aggregator_option = click.option(
    "--aggregator",
    "is_aggregators",
    is_flag=True,
    help=f"The aggregator's file instead [{AGGREGATOR_PATH}]; drop-ins lie in aggregator.d beside it.",
)


def read_settings(path: Path | None, *, is_aggregators: bool) -> Loaded[Any]:
    """As the agent, or the aggregator, reads them; ``ConfigError`` lists every mistake."""
    if not is_aggregators:
        return _in_force(path)
    main = path or AGGREGATOR_PATH
    return load_as(AggregatorConfig, main, "aggregator.d", path is not None, {})


@click.command("check-config")
@file_option
@aggregator_option
@answers
def check_config(out: Out, path: Path | None, is_aggregators: bool) -> None:
    """Read the configuration as the agent (or the aggregator) would and list every mistake.

    Exit code 1 when there is one.
    """
    try:
        loaded = read_settings(path, is_aggregators=is_aggregators)
    except ConfigError as error:
        if out.is_json:
            out.data({"ok": False, "faults": error.faults})
        else:
            out.show([*error.faults, Styled(_count(len(error.faults), "mistake"), "bold red")])
        end(EXIT_PROBLEM)
        return
    if out.is_json:
        out.data({"ok": True, "faults": [], "files": loaded.files})
        return
    files = ", ".join(str(file) for file in loaded.files) or "no file, all defaults"
    out.show([Styled(f"ok: {files}", "green")])


def _in_force(path: Path | None) -> Loaded[Config]:
    """As the agent reads it, with the policy that its fleet has given it."""
    loaded = load(path, environ=os.environ)
    if not loaded.config.fleet.aggregator:
        return loaded
    from gpuwarden.adapters.policy_keeper import stored

    try:
        layer = stored(loaded.config.fleet, SystemClock().wall())
    except Unavailable as error:
        click.echo(f"without the fleet's policy: {error}", err=True)
        return loaded
    return loaded if layer is None else load(path, environ=os.environ, policy=layer)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@click.group()
def config() -> None:
    """The configuration in force."""


@config.command()
@file_option
@aggregator_option
@click.option("--origin", "has_origin", is_flag=True, help="Say where each value was said.")
@answers
def show(out: Out, path: Path | None, is_aggregators: bool, has_origin: bool) -> None:
    """Every setting with its value, as a configuration file (or JSON); in a fleet, under its policy."""
    loaded = read_settings(path, is_aggregators=is_aggregators)
    if out.is_json:
        said: dict[str, Any] = {"config": json.loads(loaded.config.model_dump_json(by_alias=True))}
        if has_origin:
            said["origins"] = {_dotted(place): origin for place, origin in _said(loaded).items()}
        out.data(said)
        return
    out.show(as_toml(loaded, has_origin=has_origin))


def as_toml(loaded: Loaded[Any], *, has_origin: bool) -> list[str]:
    """The whole configuration as lines of TOML that can be read back."""
    lines: list[str] = []
    origins = loaded.origins if has_origin else None
    _table(lines, loaded.config, (), origins, header="")
    return lines


def _table(
    lines: list[str],
    table: BaseModel,
    place: Place,
    origins: Mapping[Place, str] | None,
    header: str,
) -> None:
    """A header, its values, then the tables and arrays of tables below it."""
    below: list[tuple[str, Place, BaseModel]] = []
    values: list[str] = []
    for name, info in type(table).model_fields.items():
        key = info.alias or name
        value = getattr(table, name)
        here = (*place, key)
        dotted = ".".join(str(part) for part in here if isinstance(part, str))
        if isinstance(value, BaseModel):
            below.append((f"[{dotted}]", here, value))
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            below += [(f"[[{dotted}]]", (*here, number), each) for number, each in enumerate(value)]
        elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
            below += [(f"[{dotted}.{_key(k)}]", (*here, k), each) for k, each in value.items()]
        elif value is not None and not (isinstance(value, tuple) and name in ("tenant", "service")):
            text = f"{key} = {_literal(value, is_size=_is_size(info.metadata, info.annotation))}"
            if origins is not None:
                text += f"  # {origins.get(here, 'default')}"
            values.append(text)
        elif value is None and info.default is not None:  # a door that is not to be there
            values.append(f'{key} = "none"')
    if values and header:
        lines += ["", header] if lines else [header]
    lines += values
    for next_header, here, inner in below:
        _table(lines, inner, here, origins, next_header)


def _key(name: str) -> str:
    """A key of a table as TOML writes it: bare where that is allowed."""
    is_bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if is_bare else _quoted(name)


def _literal(value: object, *, is_size: bool) -> str:
    if isinstance(value, dict):
        said = (f"{_key(k)} = {_literal(v, is_size=False)}" for k, v in value.items())
        return "{ " + ", ".join(said) + " }" if value else "{}"
    if isinstance(value, TenantClass):
        return f'"{value.label}"'
    if is_size and isinstance(value, int) and not isinstance(value, bool):
        for unit, factor in _SIZES:
            if value and value % factor == 0:
                return f'"{value // factor}{unit}"'
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(each, is_size=False) for each in value)}]"
    if isinstance(value, str | Path):
        return _quoted(str(value))
    return json.dumps(jsonable(value))


def _quoted(text: str) -> str:
    """A basic string of TOML; what is not printable is escaped (surrogates cannot be said in it)."""
    escaped = "".join(
        f"\\{each}"
        if each in '\\"'
        else each
        if each.isprintable()
        else f"\\u{ord(each):04x}"
        if ord(each) < 0x10000
        else f"\\U{ord(each):08x}"
        for each in text
    )
    return f'"{escaped}"'


def _is_size(metadata: list[Any], annotation: Any) -> bool:
    """Whether a field is a number of bytes: its own rule, or that of ``Bytes | None``."""
    rules = [*metadata]
    for argument in typing.get_args(annotation):
        rules += getattr(argument, "__metadata__", ())
    return any(isinstance(rule, BeforeValidator) and rule.func is parse_bytes for rule in rules)


def _said(loaded: Loaded[Any]) -> dict[Place, str]:
    """Origins of values, without those of the tables around them."""
    tables = {place[:end] for place in loaded.origins for end in range(1, len(place))}
    return {place: origin for place, origin in loaded.origins.items() if place not in tables}


def _dotted(place: Place) -> str:
    text = ""
    for key in place:
        text += f"[{key}]" if isinstance(key, int) else f"{'.' if text else ''}{key}"
    return text
