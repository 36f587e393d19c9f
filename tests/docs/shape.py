"""Whether an output looks as a page shows it: words and columns, not the numbers of one day."""

from __future__ import annotations

import re
from collections.abc import Sequence

ELLIPSIS = "..."
_SHAPES = (
    (re.compile(r"(?:inc|sil)-[0-9a-f]+-\d+"), "ID"),  # inc-6b08b53b-1
    (re.compile(r"GPU-[0-9a-f-]{36}"), "UUID"),
    (re.compile(r"/\S*?/etc/gpuwarden|/etc/gpuwarden"), "ETC"),
    (re.compile(r"/\S*?/var/lib/gpuwarden|/var/lib/gpuwarden"), "STATE"),
    (re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=?(?![A-Za-z0-9+/=])"), "KEY"),
    (re.compile(r"\b[0-9a-f]{12,}\b"), "HEX"),
    (re.compile(r"[▁▂▃▄▅▆▇█░]+"), "BAR"),
    (re.compile(r"[─━]+"), "-"),
    (re.compile(r"\b(?:B|KiB|MiB|GiB|TiB)\b"), "B"),
    (re.compile(r"[+-]?\d+(?:[.:,]\d+)*"), "N"),
    (re.compile(r"\bN (?:ms|s|min|h)\b"), "N s"),
    (re.compile(r"\s+"), " "),
)


def shape(line: str) -> str:
    """The line without what differs from one run to the next."""
    for pattern, word in _SHAPES:
        line = pattern.sub(word, line)
    return line.strip()


def differs(shown: Sequence[str], said: Sequence[str]) -> str:
    """Empty where what is shown is in what was said, line after line; ``...`` stands for any lines.

    What follows the last line shown is not looked at only where that is ``...``.
    """
    wanted = [shape(line) for line in shown]
    have = [shape(line) for line in said]
    while wanted and not wanted[-1]:
        wanted.pop()
    while have and not have[-1]:
        have.pop()
    at, may_skip = 0, False
    for line in wanted:
        if line == ELLIPSIS:
            may_skip = True
            continue
        found = next((n for n in range(at, len(have)) if have[n] == line), None)
        if found is None or (found != at and not may_skip):
            there = have[at] if at < len(have) else "(its end)"
            return f"shown: {line!r}\n said: {there!r}"
        at, may_skip = found + 1, False
    if at < len(have) and not may_skip:
        return f"shown: (its end)\n said: {have[at]!r}"
    return ""
