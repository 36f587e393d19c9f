"""Prometheus text format 0.0.4, assembled by hand: a page is a few thousand appends and one join."""

import hashlib
import math
from collections.abc import Iterable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "gpuwarden_"
LABEL_MAX_CHARS = 128
"""A tenant names itself: a label value may be hostile, and is never longer than this."""

_REMEMBERED_MAX = 20_000

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def label(value: str) -> str:
    """A label value as it stands between quotes: escaped, printable, bounded."""
    if len(value) > LABEL_MAX_CHARS:
        value = value[: LABEL_MAX_CHARS - 3] + "..."
    if not value.isprintable():
        value = "".join(each if each.isprintable() or each == "\n" else "?" for each in value)
    return value.translate(_ESCAPES)


def distinct(value: str) -> str:
    """A value that tells series apart: what ``label`` would cut or replace keeps a mark of the whole.

    Two tenants whose names differ only there would make one series twice, and a page with that is
    refused as a whole.
    """
    if len(value) <= LABEL_MAX_CHARS and value.isprintable():
        return value
    mark = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{value[: LABEL_MAX_CHARS - 16]}~{mark}"


def labels(pairs: Iterable[tuple[str, str]]) -> str:
    """``a="1",b="2"``."""
    return ",".join(f'{name}="{label(value)}"' for name, value in pairs)


class Page:
    """Families in the order in which they were first named, each with its samples together."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def family(self, metric: str, kind: str, help_text: str) -> "Family":
        """The family of that name (without prefix); its first naming decides kind and help."""
        name = PREFIX + metric
        lines = self._families.get(name)
        if lines is None:
            lines = self._families[name] = [f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"]
        return Family(name, lines)

    def gauge(self, metric: str, help_text: str, value: float | None, said: str = "") -> None:
        """One sample of a gauge; ``None`` leaves it out."""
        if value is not None:
            self.family(metric, "gauge", help_text).add(said, value)

    def render(self) -> bytes:
        """The page; families without samples are left out."""
        parts = [part for lines in self._families.values() if len(lines) > 1 for part in lines]
        return "".join(parts).encode("utf-8", "replace")


class Family:
    """Where samples of one family go. Hot loops append lines of their own to ``lines``."""

    __slots__ = ("lines", "name")

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines

    def add(self, said: str, value: float) -> None:
        """One sample; ``said`` is what ``labels`` made. What is no number is left out."""
        text = number(value)
        if text is None:
            return
        self.lines.append(f"{self.name}{{{said}}} {text}\n" if said else f"{self.name} {text}\n")

    def states(self, said: str, names: Iterable[str], current: str) -> None:
        """A stateset: one sample a name in label ``state``, 1 for the current one."""
        for each in names:
            self.lines.append(
                f'{self.name}{{{said},state="{each}"}} {"1" if each == current else "0"}\n'
            )


def number(value: float) -> str | None:
    """A value as text; ``None`` for what is no number. A flag is 0 or 1."""
    if type(value) is float:
        if math.isfinite(value):
            return repr(value)
        if math.isnan(value):
            return None
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value))


class Remembered:
    """Pieces of text that come again on every page, kept from page to page; bounded.

    The table is emptied when full: tenants and processes that went are forgotten, the others are
    written anew once.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}

    def get(self, subject: str, key: str) -> tuple[str, ...] | None:
        return self._known.get((subject, key))

    def keep(self, subject: str, key: str, pieces: tuple[str, ...]) -> None:
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
        self._known[subject, key] = pieces
