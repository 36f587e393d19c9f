"""How verbs answer: a table for people, JSON for programs, an exit code for scripts."""

import dataclasses
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Union

import click

from gpuwarden.commands.words import plain
from gpuwarden.errors import ConfigError, GpuwardenError, Unavailable
from gpuwarden.model.finding import Severity
from gpuwarden.model.tenant import TenantClass

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

EXIT_OK = 0
EXIT_PROBLEM = 1
EXIT_UNREACHABLE = 3
JSON_SCHEMA = 1
"""Version of what ``-o json`` prints; raised when a reader of the old would misread the new."""
_HINT = "Is it running? systemctl status gpuwarden-agent; gpuwarden doctor; --socket names another."
_PIPE_WIDTH = 160
"""Into a pipe nobody's screen ends: wide enough that grep finds whole names."""


class Unreachable(click.ClickException):
    """The agent does not answer."""

    exit_code = EXIT_UNREACHABLE


class Out:
    """Where a verb writes. ``is_json`` decides which of ``show`` and ``data`` a verb calls."""

    def __init__(self, *, is_json: bool, has_color: bool) -> None:
        self.is_json = is_json
        self._has_color = has_color

    @functools.cached_property
    def console(self) -> "Console":
        """The terminal, or the pipe, without markup: other people's names are only text."""
        from rich.console import Console

        is_terminal = sys.stdout.isatty()
        width = None if is_terminal or os.environ.get("COLUMNS") else _PIPE_WIDTH
        return Console(
            no_color=None if self._has_color else True,
            color_system="auto" if self._has_color else None,
            width=width,
            markup=False,
            emoji=False,
            highlight=False,
        )

    @property
    def is_unicode(self) -> bool:
        """Whether bars and lines can be drawn."""
        return "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()

    def show(self, parts: "Sequence[Part]") -> None:
        """Lines and tables for people, one below the other."""
        for part in parts:
            if isinstance(part, Cell) or self.console.is_terminal:
                self.console.print(self._drawn(part), soft_wrap=isinstance(part, Cell))
                continue
            with self.console.capture() as drawn:
                self.console.print(part)
            for line in drawn.get().splitlines():  # rich fills cells up with blanks
                self.console.out(line.rstrip(), highlight=False)

    def follow(self, pictures: "Iterable[Sequence[Part]]") -> None:
        """Each picture in the place of the one before, on a terminal; else one after the other."""
        from rich.console import Group
        from rich.live import Live

        if not self.console.is_terminal:
            for parts in pictures:
                self.show(parts)
            return
        with Live(console=self.console, screen=True, auto_refresh=False) as live:
            for parts in pictures:
                live.update(Group(*(self._drawn(part) for part in parts)), refresh=True)

    def _drawn(self, part: "Part") -> "Table | Text":
        from rich.text import Text

        if isinstance(part, Styled):
            return Text(plain(part.text), style=part.style)
        return Text(plain(part)) if isinstance(part, str) else part

    def data(self, value: Mapping[str, Any]) -> None:
        """One JSON document on one line."""
        said = {"schema": JSON_SCHEMA, **value}
        click.echo(json.dumps(jsonable(said), ensure_ascii=True, allow_nan=False))

    def table(self, columns: Sequence["Column"], rows: Sequence[Sequence["Cell"]]) -> "Table":
        """A table; a column with ``from_width`` appears only where the terminal has that width."""
        from rich.table import Table

        shown = [
            number for number, each in enumerate(columns) if self.console.width >= each.from_width
        ]
        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
            header_style="bold",
            show_header=any(columns[number].title for number in shown),
        )
        for number in shown:
            column = columns[number]
            table.add_column(
                column.title,
                justify="right" if column.is_number else "left",
                no_wrap=not column.may_wrap,
                overflow="fold" if column.may_wrap else "ellipsis",
                max_width=column.max_width,
                min_width=column.min_width,
            )
        for row in rows:
            table.add_row(*(self._drawn(row[number]) for number in shown))
        return table


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column. ``from_width``: the terminal's width from which on it is shown."""

    title: str
    is_number: bool = False
    may_wrap: bool = False
    from_width: int = 0
    max_width: int | None = None
    min_width: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Styled:
    """A line or cell in a style of rich's (``red``, ``bold``)."""

    text: str
    style: str


Cell = str | Styled
Part = Union[str, Styled, "Table"]


def jsonable(value: Any) -> Any:
    """Plain data for JSON: enums by their word, no NaN, keys as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            "class" if field.name == "cls" else field.name: jsonable(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, TenantClass):
        return value.label
    if isinstance(value, Severity):
        return value.name.lower()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _key(key: Any) -> str:
    return "/".join(str(part) for part in key) if isinstance(key, tuple) else str(key)


def answers(verb: Callable[..., None]) -> Callable[..., None]:
    """Adds ``-o/--json/--no-color`` and hands the verb an ``Out`` as ``out``; turns the program's
    errors into messages and exit codes.
    """

    @click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to answer.",
    )
    @click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
    @click.option("--no-color", is_flag=True, help="No colours (as NO_COLOR=1).")
    @functools.wraps(verb)
    def wrapped(*args: Any, output: str, as_json: bool, no_color: bool, **kwargs: Any) -> None:
        out = Out(is_json=as_json or output == "json", has_color=not no_color)
        with translated():
            verb(*args, out=out, **kwargs)

    return wrapped


class translated:
    """Errors of the program become messages with the exit code that belongs to them."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigError):
            raise click.ClickException("\n".join(plain(fault) for fault in error.faults)) from error
        if isinstance(error, Unavailable):
            raise Unreachable(f"{plain(str(error))}\n{_HINT}") from error
        if isinstance(error, GpuwardenError):
            raise click.ClickException(plain(str(error))) from error


def end(code: int) -> None:
    """End the verb with this exit code."""
    click.get_current_context().exit(code)
