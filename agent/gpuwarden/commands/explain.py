"""``gpuwarden explain``: one incident, whole: who, how much, why, what was done, what to do next."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from gpuwarden.adapters.node_client import Explained, NodeClient
from gpuwarden.adapters.node_service import only
from gpuwarden.commands.output import Cell, Column, Out, Part, Styled, answers
from gpuwarden.commands.panes import kernel_log
from gpuwarden.commands.reading import asks_agent, usual_journal
from gpuwarden.commands.words import clock, offset, share, size, span, sparkline
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Withheld
from gpuwarden.model.decision import Incident, IncidentStep
from gpuwarden.node.journal import read
from gpuwarden.node.recover import recover
from gpuwarden.policy.archive import TOLD

POINTS_SHOWN = 8
LINE_MAX = 60
WHO = frozenset({"image", "user", "account", "unit", "command", "uid", "owner", "pids"})
"""Evidence that tells who the tenant is; it stands with its name."""
_RESULTS = {
    "done": "green",
    "delivered": "green",
    "failed": "red",
    "refused": "yellow",
    "unsupported": "yellow",
    "held": "yellow",
}


@click.command()
@click.argument("incident")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, exists=True),
    help="Read it from a journal instead of asking the agent.",
)
@asks_agent
@answers
def explain(
    connect: Callable[[], NodeClient], out: Out, incident: str, journal: Path | None
) -> None:
    """Why: one incident by its id, the beginning of it, or `last`."""
    if journal is not None:
        explained = _from_journal(journal, incident)
    else:
        try:
            with connect() as client:
                explained = client.explain(incident)
        except Unavailable as error:
            raise Unavailable(
                f"{error}; its journal can be asked without it: --journal {usual_journal()}"
            ) from error
    if out.is_json:
        out.data(
            {
                "incident": explained.incident,
                "tenant": explained.tenant,
                "withheld": explained.withheld,
            }
        )
    else:
        out.show(story(explained, out))


def _from_journal(journal: Path, wanted: str) -> Explained:
    try:
        recovered = recover(read(journal))
    except OSError as error:
        raise Unavailable(f"{journal}: {error.strerror or error}") from error
    return Explained(incident=only(recovered.incidents, wanted), tenant=None, withheld=())


def story(explained: Explained, out: Out) -> list[Part]:
    """In the order of the questions people ask."""
    incident = explained.incident
    is_open = incident.closed_at is None
    parts: list[Part] = [
        Styled(f"{incident.id}: {incident.outcome}", "bold red" if is_open else "bold"),
        incident.summary,
        "",
        out.table((Column("", min_width=6), Column("", may_wrap=True)), _facts(explained)),
    ]
    for title, body in (
        ("Memory over time", _memory(incident, out)),
        ("Evidence", _pairs([e for e in incident.evidence if e[0] not in WHO], out)),
        ("What happened", _steps(incident, out)),
        ("Withheld", _withheld(explained, out)),
        ("What to do next", _advice(incident, out)),
    ):
        parts += ["", Styled(title, "bold"), *body]
    return parts


def _facts(explained: Explained) -> list[list[Cell]]:
    incident, tenant = explained.incident, explained.tenant
    lasted = (
        "still open"
        if incident.closed_at is None
        else f"lasted {span(incident.closed_at - incident.opened_at)}"
    )
    rows: list[list[Cell]] = [["When", f"{clock(incident.opened_wall)}, {lasted}"]]
    if incident.tenant is not None:
        words = [incident.runtime or "?", f"class {incident.tenant_class or '?'}"]
        if tenant is None:
            words.append("gone now")
        rows.append(["Who", f"{incident.tenant_name or incident.tenant} ({', '.join(words)})"])
        rows.append(["", incident.tenant])
        rows += [["", f"{name} {text}"] for name, text in incident.evidence if name in WHO]
    if incident.device is not None:
        rows.append(["Where", incident.device])
    if incident.quota_bytes is not None or incident.peak_bytes is not None:
        rows.append(["Quota", f"{size(incident.quota_bytes)}, {_peak(incident)}"])
    if told := _told(incident):
        rows.append(["Told", told])
    if incident.harmed:
        rows.append(["Harmed", ", ".join(incident.harmed)])
    times = [
        f"{word} {offset(at - incident.opened_at)}"
        for word, at in (
            ("noticed", incident.noticed_at),
            ("decided", incident.decided_at),
            ("closed", incident.closed_at),
        )
        if at is not None
    ]
    if times:
        rows.append(["Times", ", ".join(times)])
    rows.append(
        ["Rule", f"{incident.rule}, mode {incident.mode}, {kernel_log(incident.kernel_log)}"]
    )
    return rows


def _told(incident: Incident) -> str:
    """Who was reached, and who has it in hand; nothing where nobody was to be woken."""
    steps = [step for step in incident.steps if step.kind == TOLD]
    taken = [
        s for s in steps if s.result == "delivered" and not s.text.startswith("acknowledged by")
    ]
    said = [f"{s.text.partition(':')[0]}, {clock(s.wall, has_year=False)}" for s in taken[-4:]]
    said += [s.text for s in steps if s.text.startswith("acknowledged by")]
    is_paged = any(step.kind == "page" for step in incident.steps)
    if not said and steps:
        word = "held back" if steps[-1].result == "held" else "nobody could be told yet"
        said = [f"{word} ({steps[-1].text})"]
    elif not said and is_paged:
        said = ["nobody yet"]
    return "; ".join(said)


def _peak(incident: Incident) -> str:
    if incident.peak_bytes is None:
        return "peak not known"
    part = incident.peak_bytes / incident.quota_bytes if incident.quota_bytes else None
    return f"peak {size(incident.peak_bytes)}" + (f" ({share(part)})" if part else "")


def _memory(incident: Incident, out: Out) -> list[Part]:
    points = incident.points
    if not points:
        return ["  no sizes were recorded"]
    line = sparkline(
        [float(count) for _, count in _some(points, LINE_MAX)], is_unicode=out.is_unicode
    )
    top = max(count for _, count in points)
    rows: list[list[Cell]] = []
    for at, count in _some(points, POINTS_SHOWN):
        is_over = incident.quota_bytes is not None and count > incident.quota_bytes
        part = count / incident.quota_bytes if incident.quota_bytes else None
        rows.append(
            [
                "",
                offset(at - incident.opened_at),
                Styled(size(count), "red" if is_over else ""),
                share(part) if part is not None else "",
            ]
        )
    columns = (
        Column(""),
        Column("", is_number=True),
        Column("", is_number=True),
        Column("", is_number=True),
    )
    return [f"  {line}  up to {size(top)}", out.table(columns, rows)]


def _some(points: Sequence[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """At most so many of them, spread evenly; the largest and the last are always among them."""
    if len(points) <= most:
        return list(points)
    last = len(points) - 1
    chosen = {round(number * last / (most - 2)) for number in range(most - 1)}
    chosen.add(max(range(len(points)), key=lambda number: points[number][1]))
    return [points[number] for number in sorted(chosen)]


def _pairs(pairs: Sequence[tuple[str, str]], out: Out) -> list[Part]:
    if not pairs:
        return ["  none was recorded"]
    columns = (Column(""), Column("", min_width=8), Column("", may_wrap=True))
    return [out.table(columns, [["", *_fact(name, text)] for name, text in pairs])]


def _fact(name: str, text: str) -> tuple[str, str]:
    """A name as words; bytes as people read them."""
    if name.endswith("_bytes") and text.isdigit():
        return name.removesuffix("_bytes").replace("_", " "), size(int(text))
    return name.replace("_", " "), text


def _steps(incident: Incident, out: Out) -> list[Part]:
    steps = [step for step in incident.steps if step.kind != "withheld"]
    if not steps:
        return ["  nothing yet"]
    columns = (
        Column(""),
        Column("", is_number=True),
        Column("", min_width=11),
        Column(""),
        Column("", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            "",
            offset(step.at - incident.opened_at),
            step.kind,
            Styled(step.result, _RESULTS.get(step.result, "")),
            step.text,
        ]
        for step in steps
    ]
    return [out.table(columns, rows)]


def _withheld(explained: Explained, out: Out) -> list[Part]:
    incident = explained.incident
    steps = [step for step in incident.steps if step.kind == "withheld"]
    standing = {id(step) for held in explained.withheld for step in steps if _tells(step, held)}
    rows: list[list[Cell]] = [
        [
            "",
            f"{offset(step.at - incident.opened_at)}{' on' if id(step) in standing else ''}",
            step.action,
            step.text,
        ]
        for step in steps
    ]
    rows += [
        ["", "now", held.budget, f"{held.kind.value} withheld: {held.detail}"]
        for held in explained.withheld
        if not any(_tells(step, held) for step in steps)
    ]
    if not rows:
        return ["  nothing"]
    columns = (
        Column(""),
        Column("", is_number=True),
        Column("", max_width=24),
        Column("", may_wrap=True),
    )
    return [out.table(columns, rows)]


def _tells(step: IncidentStep, held: Withheld) -> bool:
    """Whether a step is the beginning of what is withheld now."""
    return (
        step.action == held.budget
        and step.text.startswith(held.kind.value)
        and step.text.endswith(held.detail)
    )


def _advice(incident: Incident, out: Out) -> list[Part]:
    if not incident.advice:
        is_open = incident.closed_at is None
        return [f"  {'nothing yet: gpuwarden is at work on it' if is_open else 'nothing'}"]
    columns = (Column(""), Column("", is_number=True), Column("", may_wrap=True))
    return [
        out.table(
            columns, [["", f"{number}.", line] for number, line in enumerate(incident.advice, 1)]
        )
    ]
