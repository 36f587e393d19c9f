"""Steps with their seconds and what came of them; a table or one JSON object."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

SEEN = 70
"""Characters of a detail in the table; all of it was said as the step ended."""
Value = TypeVar("Value")


class Failed(Exception):
    """A step that did not end as it has to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    where: str
    what: str
    seconds: float
    is_ok: bool
    detail: str


class Steps:
    """What was done, in its order. After a failure the rest of a place is not tried: it would lie."""

    def __init__(self) -> None:
        self.done: list[Step] = []

    @contextlib.contextmanager
    def step(self, where: str, what: str) -> Iterator[list[str]]:
        """One step; what it appends to the list is shown beside it."""
        began, notes, is_ok = time.monotonic(), list[str](), False
        try:
            yield notes
            is_ok = True
        except Failed as failed:
            notes.append(str(failed))
            raise
        finally:
            seconds = time.monotonic() - began
            step = Step(
                where=where, what=what, seconds=seconds, is_ok=is_ok, detail="; ".join(notes)
            )
            self.done.append(step)
            word = "ok" if is_ok else "FAILED"
            print(
                f"{where:<10} {what:<62} {seconds:>6.1f} s  {word}  {step.detail}", file=sys.stderr
            )

    @property
    def is_ok(self) -> bool:
        return bool(self.done) and all(step.is_ok for step in self.done)

    def show(self, *, as_json: bool) -> None:
        if as_json:
            print(json.dumps({"ok": self.is_ok, "steps": [asdict(step) for step in self.done]}))
            return
        table = Table("where", "step", "seconds", "", "what was seen", box=None)
        for step in self.done:
            word = "ok" if step.is_ok else "FAILED"
            seen = Text(step.detail.partition("\n")[0][:SEEN])
            table.add_row(step.where, step.what, f"{step.seconds:.1f}", word, seen)
        Console(width=None if sys.stdout.isatty() else 160).print(table)
        failed = sum(not step.is_ok for step in self.done)
        total = sum(step.seconds for step in self.done)
        for step in self.done:
            if not step.is_ok:
                print(f"FAILED: {step.where}: {step.what}: {step.detail}")
        print(f"{len(self.done)} steps, {failed} failed, {total:.0f} s")


def must(is_so: object, why: str) -> None:
    if not is_so:
        raise Failed(why)


def until(what: str, ask: Callable[[], Value], within_s: float) -> Value:
    """The first true answer."""
    end = time.monotonic() + within_s
    while not (answer := ask()):
        if time.monotonic() >= end:
            raise Failed(f"never came true within {within_s:g} s: {what}")
        time.sleep(0.1)
    return answer
