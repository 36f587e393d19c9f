"""Where each value of a TOML file stands: ``tomllib`` tells values but no lines.

The text is cut into statements by asking ``tomllib`` itself whether the lines read so far make a whole
document, so that strings and arrays over several lines, comments and dotted keys need no second parser.
"""

import tomllib
from collections.abc import Iterator

Path = tuple[str | int, ...]
"""Keys from the root down; a number counts the entries of an array of tables in this file."""

WORK_MAX_CHARS = 2 * 2**20
"""Text handed to the parser in all: a huge array over many lines costs a parse a line."""


def places(text: str) -> dict[Path, int]:
    """Line (from 1) of each table and value of a *valid* document.

    Values beyond the work bound are left out: their line is unknown, nothing else suffers.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    entries: dict[Path, int] = {}
    for line, source, statement in _statements(text):
        if source.startswith("[["):
            array = _only_path(statement)
            entries[array] = entries.get(array, -1) + 1
            table = (*_with_entries(array, entries), entries[array])
            found.setdefault(table, line)
        elif source.startswith("["):
            table = _with_entries(_only_path(statement), entries)
            found.setdefault(table, line)
        else:
            for path in _paths(statement, table):
                found.setdefault(path, line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, object]]]:
    """(first line, text, meaning) of each statement; stops where the work bound is reached."""
    chunk, start, work = "", 1, 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not chunk:
            start = number
        chunk += line
        work += len(chunk)
        if work > WORK_MAX_CHARS:
            return
        try:
            meaning = tomllib.loads(chunk)
        except (ValueError, RecursionError):
            continue
        if meaning:
            yield start, chunk.lstrip(), meaning
        chunk = ""


def _only_path(statement: dict[str, object]) -> Path:
    """The path of a header: ``[a.b]`` means ``{"a": {"b": {}}}``, ``[[a]]`` means ``{"a": [{}]}``."""
    path: list[str] = []
    node: object = statement
    while isinstance(node, dict) and node:
        key, node = next(iter(node.items()))
        path.append(key)
    return tuple(path)


def _with_entries(path: Path, entries: dict[Path, int]) -> Path:
    """``tenant.match`` below the second ``[[tenant]]`` is ``("tenant", 1, "match")``."""
    placed: Path = ()
    for depth, key in enumerate(path):
        placed = (*placed, key)
        array = path[: depth + 1]
        if depth + 1 < len(path) and array in entries:
            placed = (*placed, entries[array])
    return placed


def _paths(node: object, path: Path) -> Iterator[Path]:
    """Every path of a statement, each table in it and each value."""
    pairs: list[tuple[str | int, object]] = []
    if isinstance(node, dict):
        pairs = list(node.items())
    elif isinstance(node, list):
        pairs = list(enumerate(node))
    for key, value in pairs:
        yield (*path, key)
        yield from _paths(value, (*path, key))
