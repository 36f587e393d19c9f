"""What a guardrail looks at, as people write it: ``errors / requests``, ``p99(latency_s)``, ``drop(correct / labels)``.

    sum     = product { ("+" | "-") product }
    product = factor { ("*" | "/") factor }
    factor  = NUMBER | SERIES | FUNCTION "(" sum { "," sum } ")" | "(" sum ")" | "-" factor

SERIES is a known one, ``feature.NAME`` or ``custom.NAME``: a count stands for its number in the window, a level for
the mean of its readings, a spread for nothing (say which quantile). Nothing is executed: a text becomes a tree.

    p50 p90 p95 p99 p999 (spread)   quantile of merged sketches or histograms
    mean min max last (spread, level)
    above(spread, x) below(spread, x)   share of the values
    rate(count)                     a second
    drop(e)   the same of the past minus e      growth(e)   e over the same of the past
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from gpuwarden.evaluate.fast import series

TEXT_MAX_CHARS = 400
DEPTH_MAX = 20
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
OF_SERIES = frozenset(QUANTILES) | {"mean", "min", "max", "last", "rate"}
SHARES = frozenset({"above", "below"})
OF_PAST = frozenset({"drop", "growth"})
_TOKEN = re.compile(
    # 0.25 or 1e-3; latency_s, custom.gpu:temp-c; ( ) , + - * /
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_:]*(?:\.[A-Za-z0-9_:.]+)?)|(?P<sign>[-+*/(),]))",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A series on its own."""

    series: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Of:
    """A function of a series; ``limit`` of ``above`` and ``below``."""

    function: str
    series: str
    limit: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """``drop`` or ``growth`` of something."""

    function: str
    inner: "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """``left sign right``."""

    sign: str
    left: "Node"
    right: "Node"


Node = Number | Name | Of | Past | Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A text that was understood."""

    text: str
    root: Node
    series: frozenset[str]
    """All series that it names."""
    has_past: bool
    """Whether it compares with what was."""


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """The tree of a text; ``ValueError`` says what was expected, and where."""
    if len(text) > TEXT_MAX_CHARS:
        raise ValueError(f"longer than {TEXT_MAX_CHARS} characters")
    reader = _Reader(text)
    root = reader.sum(0)
    if reader.token[0] != "end":
        raise reader.wrong("the end")
    names = frozenset(_names(root))
    return Expression(text=text, root=root, series=names, has_past=_has_past(root))


def _names(node: Node) -> list[str]:
    match node:
        case Name(series=name) | Of(series=name):
            return [name]
        case Past(inner=inner):
            return _names(inner)
        case Pair(left=left, right=right):
            return [*_names(left), *_names(right)]
    return []


def _has_past(node: Node) -> bool:
    match node:
        case Past():
            return True
        case Pair(left=left, right=right):
            return _has_past(left) or _has_past(right)
    return False


class _Reader:
    """Descends once; ``token`` is the next one: (kind, text, place)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self.token: tuple[str, str, int] = ("end", "", 0)
        self._next()

    def wrong(self, wanted: str) -> ValueError:
        kind, said, place = self.token
        got = "the end" if kind == "end" else f'"{said}"'
        return ValueError(f"expected {wanted} at character {place + 1}, got {got}")

    def sum(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise ValueError(f"nested deeper than {DEPTH_MAX}")
        left = self._product(depth)
        while self.token[1] in ("+", "-"):
            sign = self._take()
            left = Pair(sign=sign, left=left, right=self._product(depth))
        return left

    def _product(self, depth: int) -> Node:
        left = self._factor(depth)
        while self.token[1] in ("*", "/"):
            sign = self._take()
            left = Pair(sign=sign, left=left, right=self._factor(depth))
        return left

    def _factor(self, depth: int) -> Node:
        kind, said, _ = self.token
        if kind == "number":
            return Number(value=float(self._take()))
        if said == "(":
            self._take()
            inner = self.sum(depth + 1)
            self._close()
            return inner
        if said == "-":
            self._take()
            if depth > DEPTH_MAX:
                raise ValueError(f"nested deeper than {DEPTH_MAX}")
            return Pair(sign="-", left=Number(value=0.0), right=self._factor(depth + 1))
        if kind != "name":
            raise self.wrong("a number, a series or a function")
        if said in OF_SERIES | SHARES | OF_PAST:
            return self._call(depth)
        return Name(series=self._series(frozenset({series.Kind.COUNT, series.Kind.LEVEL})))

    def _call(self, depth: int) -> Node:
        function = self._take()
        if self.token[1] != "(":
            raise self.wrong('"("')
        self._take()
        if function in OF_PAST:
            inner = self.sum(depth + 1)
            if _has_past(inner):
                raise ValueError(f"{function} of something that looks back already")
            self._close()
            return Past(function=function, inner=inner)
        name = self._series(_KINDS_OF.get(function, frozenset({series.Kind.SPREAD})))
        limit = 0.0
        if function in SHARES:
            if self.token[1] != ",":
                raise self.wrong('","')
            self._take()
            if self.token[0] != "number":
                raise self.wrong("a number")
            limit = float(self._take())
        self._close()
        return Of(function=function, series=name, limit=limit)

    def _series(self, kinds: frozenset[series.Kind]) -> str:
        kind, said, _ = self.token
        if kind != "name":
            raise self.wrong("a series")
        is_custom = said.startswith(series.CUSTOM_PREFIX)
        known = series.kind_of(said)
        if not is_custom and known is None:
            raise self.wrong("a known series")
        if known is not None and known not in kinds:
            raise self.wrong("a series that is a " + " or a ".join(sorted(kinds)))
        return self._take()

    def _close(self) -> None:
        if self.token[1] != ")":
            raise self.wrong('")"')
        self._take()

    def _take(self) -> str:
        said = self.token[1]
        self._next()
        return said

    def _next(self) -> None:
        rest = self._text[self._place :]
        if not rest.strip():
            self.token = ("end", "", len(self._text))
            return
        found = _TOKEN.match(self._text, self._place)
        if found is None or found.lastgroup is None:
            place = self._place + len(rest) - len(rest.lstrip())
            self.token = ("other", self._text[place], place)
            return
        self._place = found.end()
        self.token = (found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))


_KINDS_OF = {
    "rate": frozenset({series.Kind.COUNT}),
    "mean": frozenset({series.Kind.SPREAD, series.Kind.LEVEL}),
    "min": frozenset({series.Kind.SPREAD, series.Kind.LEVEL}),
    "max": frozenset({series.Kind.SPREAD, series.Kind.LEVEL}),
    "last": frozenset({series.Kind.LEVEL}),
}
