"""The pages of docs/ as data: what they show, and what they say it needs.

A fence says in its info string, after the language, what a reader does not see:

    ```console                                  run in a shell of the page's place, outputs compared
    ```console package FILE:FUNCTION            needs the package and systemd: run by that function
    ```toml agent FILE, ```toml aggregator FILE  checked, and saved in the place under /etc/gpuwarden

``<!-- place: agent devices=2 -->`` says what the page's place is, ``<!-- tenant: NAME WORDS -->`` starts one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
_FENCE = re.compile(
    r"```(\S*)[ ]?(.*)\Z"
)  # ```console package scripts/install-test.d/life.py:install
_NOTE = re.compile(r"<!-- (\w+): (.*) -->\Z")  # <!-- tenant: report-batch hog --size 6GiB -->
_STATUS = re.compile(r"\s+# exit code (\d+)\Z")  # $ gpuwarden status  # exit code 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fence, or a note that only the tests read (``language`` is then its first word)."""

    line: int
    language: str
    words: tuple[str, ...]
    text: str = ""
    is_note: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command as it is typed, and the lines it is shown to answer."""

    line: int
    command: str
    shown: tuple[str, ...]
    status: int = 0


def blocks(page: Path) -> Iterator[Block]:
    """In their order; an unclosed fence is an error."""
    opened: tuple[int, str, tuple[str, ...]] | None = None
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened is not None:
            if line == "```":
                yield Block(
                    line=opened[0], language=opened[1], words=opened[2], text="\n".join(inside)
                )
                opened, inside = None, []
            else:
                inside.append(line)
        elif fence := _FENCE.match(line):
            opened = (number, fence[1], tuple(fence[2].split()))
        elif note := _NOTE.match(line):
            yield Block(line=number, language=note[1], words=tuple(note[2].split()), is_note=True)
    if opened is not None:
        raise ValueError(f"{page.name}:{opened[0]}: a fence that is never closed")


def steps(block: Block) -> list[Step]:
    """Of a ``console`` fence: every line that begins with ``$ ``, with what follows it."""
    found: list[Step] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            said = _STATUS.search(line)
            command = _STATUS.sub("", line[2:])
            status = int(said[1]) if said else 0
            found.append(Step(line=number, command=command, shown=(), status=status))
        elif not found:
            raise ValueError(f"line {number}: output before any command")
        else:
            last = found[-1]
            found[-1] = Step(
                line=last.line,
                command=last.command,
                shown=(*last.shown, line),
                status=last.status,
            )
    return found


def inline(page: Path) -> Iterator[tuple[int, str]]:
    """Words between single backticks, outside of fences."""
    is_open = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            is_open = not is_open
        elif not is_open:
            yield from ((number, word) for word in re.findall(r"`([^`]+)`", line))
