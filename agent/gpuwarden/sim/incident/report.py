"""Results for people: one run beside that night, and several in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from gpuwarden.sim.incident.verdict import TIMES, median, worst

# What people needed in the incident this scene replays, by step.
THAT_NIGHT: tuple[tuple[str, str, str], ...] = (
    ("noticed_s", "notice", "3 min"),
    ("decided_s", "decide who and what", "9 min"),
    ("bytes_back_s", "offender's memory back on the GPU", "never on purpose"),
    ("slo_back_s", "protected service inside its SLO", "14 min"),
    ("cause_written_s", "cause on paper", "51 min"),
    ("wrong_victims", "wrong containers touched", "-"),
    ("ended", "how it ended", "rolled back by hand"),
)


def show(console: Console, run: Mapping[str, Any]) -> None:
    """One run as a table, and what the run was."""
    offender = run["offender"]
    kind = "Docker containers" if run["real_containers"] else "plain processes (no containers)"
    table = Table(title=f"Incident, seed {run['seed']}, {kind}", title_justify="left")
    for heading in ("step", "people, that night", "promised", "here", ""):
        table.add_column(heading, justify="right" if heading in ("promised", "here") else "left")
    broken = {line.partition(":")[0] for line in run["missed"]}
    for key, step, night in THAT_NIGHT:
        bound = run["bounds"].get(key)
        state = "MISSED" if key in broken else "ok" if bound is not None else ""
        style = "bold red" if state == "MISSED" else "green"
        row = (step, night, _bound(key, bound), _value(key, run[key]), Text(state, style=style))
        table.add_row(*row)
    console.print(table)
    rest = (
        f"the device locked up {_value('', run['locked_up_s'])} after the first byte over quota"
        f" (Xid {run['xid']})."
    )
    if run["trigger"] == "slo":
        rest = (
            f"times are from the agent's verdict on the service, {_value('', run['verdict_s'])} after"
            f" its callers first missed the objective. {run['verdict']}; rollbacks: {run['rollbacks']}."
        )
    console.print(
        f"{offender['name']} (quota {_gib(offender['quota_bytes'])}) grew by"
        f" {offender['rate_gib_s']} GiB/s to {_gib(offender['peak_bytes'])}; {rest}",
        markup=False,
        highlight=False,
    )
    for line in run["missed"]:
        console.print(Text(f"MISSED  {line}", style="bold red"))
    for name, marks in run["victims"].items():
        console.print(Text(f"WRONG VICTIM  {name}: {'; '.join(marks[:3])}", style="bold red"))
    for page in run["pages"]:
        console.print(Text(f"page: {page}"))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several runs as one: the worst of each at the top, as a single run has it."""
    values = {key: [run[key] for run in runs] for key in TIMES}
    return {
        "count": len(runs),
        "seeds": [run["seed"] for run in runs],
        **{key: worst(values[key]) for key in TIMES},
        "wrong_victims": sum(run["wrong_victims"] for run in runs),
        "real_containers": all(run["real_containers"] for run in runs),
        "median": {key: median(values[key]) for key in TIMES},
        "bounds": runs[0]["bounds"] if runs else {},
        "missed": [f"seed {run['seed']}: {line}" for run in runs for line in run["missed"]],
        "runs": list(runs),
    }


def show_many(console: Console, total: Mapping[str, Any]) -> None:
    """Several runs: one line each, then worst and median."""
    table = Table(title=f"{total['count']} incidents", title_justify="left")
    table.add_column("seed", justify="right")
    for key in TIMES:
        table.add_column(key, justify="right")
    table.add_column("wrong victims", justify="right")
    table.add_column("ended")
    for run in total["runs"]:
        cells = [_value(key, run[key]) for key in TIMES]
        state = Text(run["ended"], style="bold red" if run["missed"] else "green")
        table.add_row(str(run["seed"]), *cells, str(run["wrong_victims"]), state)
    table.add_section()
    for name, values in (("worst", total), ("median", total["median"]), ("bound", total["bounds"])):
        cells = [_value(key, values.get(key)) for key in TIMES]
        table.add_row(name, *cells, str(values.get("wrong_victims", "")), "")
    lines = [Text(f"MISSED  {line}", style="bold red") for line in total["missed"]]
    console.print(Group(table, *lines))


def _bound(key: str, bound: object) -> str:
    if bound is None:
        return "-"
    if isinstance(bound, str) or key == "wrong_victims":
        return str(bound)
    return f"<= {bound:g} s"


def _value(key: str, value: object) -> str:
    if value is None:
        return "never"
    return f"{value:.3f} s" if isinstance(value, float) else str(value)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
