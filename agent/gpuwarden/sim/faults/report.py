"""Plays and their outcomes for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpuwarden.sim.faults.play import Play


def listed(plays: Sequence[Play]) -> list[dict[str, Any]]:
    """What can be played, as plain data."""
    return [
        {
            "fault": play.name,
            "help": play.help,
            "scope": play.scope,
            "rungs": list(play.rungs),
            "verified": play.verified,
            "cordoned": play.cordoned,
            "pages": play.pages,
        }
        for play in plays
    ]


def show_list(console: Console, plays: Sequence[Play]) -> None:
    """What can be played, and what it has to come to."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("fault", "reach", "remedies", "pages", "what happens"):
        table.add_column(heading, no_wrap=heading != "what happens")
    for play in plays:
        rungs = ", ".join(play.rungs)
        table.add_row(play.name, play.scope, rungs, str(play.pages), play.help)
    console.print(table)


def show(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    """Outcomes: one line each, then what was told and what was not as it has to be."""
    kind = "Docker containers" if all(r["real_containers"] for r in runs) else "plain processes"
    table = Table(title=f"Faults, {kind}", title_justify="left")
    for heading in ("fault", "reach", "remedies", "verified", "out of use", "pages", "wrong", "s"):
        table.add_column(heading, no_wrap=heading == "fault")
    table.add_column("")
    for run in runs:
        table.add_row(
            run["fault"],
            run["scope"],
            ", ".join(run["rungs"]),
            _yes(run["verified"]),
            _yes(run["cordoned"]),
            str(run["pages"]),
            str(run["wrong_victims"]),
            f"{run['seconds']:.0f}",
            Text("MISSED", style="bold red") if run["missed"] else Text("ok", style="green"),
        )
    console.print(table)
    for run in runs:
        for said in run["said"] if len(runs) == 1 else ():
            console.print(Text(f"page: {said}"))
        for line in run["missed"]:
            console.print(Text(f"MISSED  {run['fault']}: {line}", style="bold red"))
        for name, marks in run["victims"].items():
            console.print(Text(f"WRONG VICTIM  {name}: {'; '.join(marks[:3])}", style="bold red"))


def _yes(value: bool) -> str:
    return "yes" if value else ""
