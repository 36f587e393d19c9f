"""Small pictures as SVG that stands in a page: nothing fetched, no script, every text escaped.

No meaning is in a colour alone: each line has a style of its own and a place in the legend. Numbers are other
people's: what is not finite, or has no extent, gives no picture (None), and the page says so.
"""

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from unicodedata import east_asian_width

from gpuwarden.commands.words import clock, plain

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 30, 38
NAME_CHARS = 26
"""Of a label; a letter of East Asia, which is as wide as two, counts as two."""
TICKS = 5
BAR, ROW = 12, 34
SPREAD_MAX = 4.0
"""Where the outermost values lie so many times further out than the middle nine tenths, they are cut off."""
_INK, _QUIET, _REFERENCE, _ALARM = "#1f2933", "#52606d", "#2f6f4f", "#b3261e"
_DASHED = 'stroke-dasharray="7 4"'


def quantiles(profile: Sequence[float], live: Sequence[float]) -> str | None:
    """Two distributions by their quantiles at equal steps: which share of the rows lies at or below a value."""
    if min(len(profile), len(live)) < 2 or not _are_finite((*profile, *live)):
        return None
    low, high = _span(profile, live)
    if not low < high or not math.isfinite(high - low):
        return None
    frame = _Frame(low, high, 0.0, 1.0)
    parts = [
        frame.axes([(value, f"{value:.0%}") for value in (0.0, 0.25, 0.5, 0.75, 1.0)], _ticks(low, high)),
        frame.line(_within(_steps(profile), low, high), _REFERENCE, _DASHED),
        frame.line(_within(_steps(live), low, high), _INK, ""),
        _legend([("profile", _REFERENCE, _DASHED), ("live", _INK, "")]),
        _axis_name("share of rows at or below a value"),
    ]  # fmt: skip
    return _svg(
        parts, HEIGHT, "share of rows at or below each value, of the profile and of the live window"
    )


def is_cut(profile: Sequence[float], live: Sequence[float]) -> bool:
    """Whether ``quantiles`` leaves out the outermost values."""
    low, high = _span(profile, live)
    return low > min(*profile, *live) or high < max(*profile, *live)


def shares(rows: Sequence[tuple[str, float, float]]) -> str | None:
    """Names with their share in the profile and now, as two bars each."""
    if not rows or not _are_finite([value for _, *both in rows for value in both]):
        return None
    top = max(max(was, now) for _, was, now in rows)
    if top <= 0:
        return None
    left, width = 210, WIDTH - 210 - 60
    parts = [_legend([("profile", _REFERENCE, _DASHED), ("live", _INK, "")], left)]
    for place, (name, was, now) in enumerate(rows):
        y = TOP + place * ROW
        whole = plain(name) or "(empty)"
        parts.append(
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end" fill="{_INK}">{escape(_short(whole))}'
            f"<title>{escape(whole)}</title></text>"
        )
        for at, value, look in (
            (y, was, f'fill="#d6e8de" stroke="{_REFERENCE}" stroke-dasharray="4 2"'),
            (y + BAR + 1, now, f'fill="{_INK}" stroke="{_INK}"'),
        ):
            long = max(0.0, min(1.0, value / top)) * width
            parts.append(
                f'<rect x="{left}" y="{at}" width="{long:.1f}" height="{BAR}" {look}/>'
                f'<text x="{left + long + 5:.1f}" y="{at + 10}" class="s" fill="{_QUIET}">{value:.1%}</text>'
            )
    return _svg(
        parts, TOP + len(rows) * ROW + 6, "share of each name in the profile and in the live window"
    )


def ratio(
    points: Sequence[tuple[float, float]],
    baseline: float | None,
    *,
    since_wall: float | None = None,
) -> str | None:
    """A share over time (Unix seconds), where it was before, and when it was found to be off."""
    if len(points) < 2 or not _are_finite([value for each in points for value in each]):
        return None
    begin, end = points[0][0], points[-1][0]
    usual = baseline if baseline is not None and math.isfinite(baseline) else None
    top = max([value for _, value in points] + ([] if usual is None else [usual]))
    top = min(1.0, max(0.01, top * 1.15))
    if not begin < end or clock(begin) == "-" or clock(end) == "-":
        return None
    frame = _Frame(begin, end, 0.0, top)
    marks = [
        (begin + (end - begin) * n / 3, clock(begin + (end - begin) * n / 3)[5:16])
        for n in range(4)
    ]
    parts = [
        frame.axes([(value, f"{value:.3g} %") for value in _ticks(0.0, top * 100)], marks, 100.0)
    ]
    legend = [("of labels that became known then", _INK, "")]
    if usual is not None:
        parts.append(frame.line([(begin, usual), (end, usual)], _REFERENCE, _DASHED))
        legend.append(("its baseline", _REFERENCE, _DASHED))
    if since_wall is not None and begin <= since_wall <= end:
        look = 'stroke-dasharray="2 3"'
        parts.append(frame.line([(since_wall, 0.0), (since_wall, top)], _ALARM, look))
        legend.append(("drift found", _ALARM, look))
    parts += [frame.line(points, _INK, ""), *(frame.dot(*each) for each in points)]
    parts += [_legend(legend)]
    return _svg(parts, HEIGHT, "share of mistakes over time")


class _Frame:
    """From numbers to places in the picture."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._left, self._right, self._low, self._high = left, right, low, high

    def x(self, value: float) -> float:
        part = (value - self._left) / (self._right - self._left)
        return LEFT + min(1.0, max(0.0, part)) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        part = (value - self._low) / (self._high - self._low)
        return HEIGHT - BOTTOM - min(1.0, max(0.0, part)) * (HEIGHT - BOTTOM - TOP)

    def line(self, points: Sequence[tuple[float, float]], colour: str, look: str) -> str:
        places = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        return (
            f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.8" {look}/>'
        )

    def dot(self, a: float, b: float) -> str:
        return f'<circle cx="{self.x(a):.1f}" cy="{self.y(b):.1f}" r="2.2" fill="{_INK}"/>'

    def axes(
        self,
        across: Sequence[tuple[float, str] | float],
        along: Sequence[tuple[float, str] | float],
        scale: float = 1.0,
    ) -> str:
        """``across``: of the upright axis, in units of which ``scale`` are one."""
        parts = []
        for value, name in map(_named, across):
            y = self.y(value / scale)
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e7eb"/>'
                f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end" class="s" fill="{_QUIET}">{name}</text>'
            )
        for value, name in map(_named, along):
            x = self.x(value)
            anchor = "end" if x > WIDTH - RIGHT - 24 else "start" if x < LEFT + 12 else "middle"
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}" stroke="#9aa5b1"/>'
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}" class="s" fill="{_QUIET}">{name}</text>'
            )
        return "".join(parts)


def _named(tick: tuple[float, str] | float) -> tuple[float, str]:
    return tick if isinstance(tick, tuple) else (tick, f"{tick:.4g}")


def _steps(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(value, n / (len(values) - 1)) for n, value in enumerate(values)]


def _span(profile: Sequence[float], live: Sequence[float]) -> tuple[float, float]:
    """What is drawn: everything, or, where that would squeeze the rest, the middle nine tenths and a little more."""
    low, high = min(*profile, *live), max(*profile, *live)
    inner = [
        values[round((len(values) - 1) * part)]
        for values in (profile, live)
        for part in (0.05, 0.95)
    ]
    width = max(inner) - min(inner)
    if width > 0 and high - low > SPREAD_MAX * width:
        return max(low, min(inner) - 0.1 * width), min(high, max(inner) + 0.1 * width)
    return low, high


def _ticks(low: float, high: float) -> list[float]:
    """Round values within the two."""
    rough = (high - low) / TICKS
    if not rough > 0 or not math.isfinite(rough):
        return []
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((size * n for n in (1, 2, 5, 10) if size * n >= rough), rough)
    first = math.ceil(low / step - 1e-9)
    return [
        (first + n) * step for n in range(2 * TICKS) if (first + n) * step <= high + step * 1e-9
    ]


def _legend(lines: Sequence[tuple[str, str, str]], left: float = LEFT) -> str:
    parts, x = [], left
    for name, colour, look in lines:
        parts.append(
            f'<line x1="{x}" x2="{x + 26}" y1="12" y2="12" stroke="{colour}" stroke-width="2" {look}/>'
            f'<text x="{x + 32}" y="16" class="s" fill="{_INK}">{escape(name)}</text>'
        )
        x += 52 + 6.4 * len(name)
    return "".join(parts)


def _axis_name(text: str) -> str:
    return f'<text x="{WIDTH - RIGHT}" y="16" text-anchor="end" class="s" fill="{_QUIET}">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, what: str) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(what)}">{inside}</svg>'


def _short(text: str) -> str:
    room = NAME_CHARS
    for place, each in enumerate(text):
        room -= 2 if east_asian_width(each) in "WF" else 1
        if room < 0:
            return f"{text[: place - 1]}…"
    return text


def _within(
    points: Sequence[tuple[float, float]], low: float, high: float
) -> list[tuple[float, float]]:
    """The part of an ascending line that lies between the two."""
    found: list[tuple[float, float]] = []
    for (x, y), (to_x, to_y) in pairwise(points):
        if to_x < low or x > high:
            continue
        for at in (max(x, low), min(to_x, high)):
            part = (at - x) / (to_x - x) if to_x > x else float(at == to_x and bool(found))
            found.append((at, y + part * (to_y - y)))
    return found


def _are_finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)
