"""What the verbs of services show."""

from collections.abc import Sequence

from gpuwarden.commands.output import Cell, Column, Out, Part, Styled
from gpuwarden.commands.words import share, span
from gpuwarden.wire.v1 import evaluation_pb2 as pb

STYLES = {"green": "green", "red": "bold red", "unknown": "yellow"}
GATES = {"pass": "green", "fail": "bold red", "not-enough-data": "yellow"}
_RANK = {"red": 0, "unknown": 1, "green": 2}
NODES_SHOWN = 5
ALL = "all"


def service_table(found: Sequence[pb.ServiceStanding], out: Out) -> Part:
    """One row a service."""
    columns = (
        Column("SERVICE"),
        Column("IS"),
        Column("RED", is_number=True),
        Column("UNKNOWN", is_number=True, from_width=100),
        Column("GREEN", is_number=True, from_width=100),
        Column("REQ/S", is_number=True),
        Column("QUEUE", is_number=True),
        Column("GPU", is_number=True),
        Column("AGE", is_number=True),
        Column("NODES", is_number=True),
        Column("WHY", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            each.service,
            Styled(each.colour, STYLES.get(each.colour, "")),
            str(each.red),
            str(each.unknown),
            str(each.green),
            _number(each.requests_per_s if each.HasField("requests_per_s") else None),
            _number(each.queue_length if each.HasField("queue_length") else None),
            share(each.gpu_utilization if each.HasField("gpu_utilization") else None),
            span(each.age_s) if each.HasField("age_s") else "never",
            str(each.nodes),
            each.why,
        ]
        for each in found
    ]
    return out.table(columns, rows)


def report_parts(
    standing: pb.ServiceStanding,
    verdicts: Sequence[pb.GuardrailVerdict],
    wall: float,
    out: Out,
    report: pb.ServiceReportResponse | None = None,
) -> list[Part]:
    """One service: its line, every verdict, and of red ones where and why."""
    age = span(standing.age_s) if standing.HasField("age_s") else "never told"
    head = f"{standing.service} is {standing.colour} for {span(wall - standing.since_wall)}"
    parts: list[Part] = [
        Styled(head, STYLES.get(standing.colour, "")),
        f"{standing.nodes} node{'' if standing.nodes == 1 else 's'}, versions {', '.join(standing.versions) or 'not told'}, newest data {age} old",
    ]
    if report is not None:
        parts += [Styled(each, "yellow") for each in report.notes]
    told = [each for each in verdicts if each.colour != "unknown"]
    if told:
        parts.append(verdict_table(told, wall, out))
    parts += _unknown(verdicts)
    if report is not None and report.numbers:
        parts += ["", number_table(report.numbers, out)]
    for each in report.verdicts if report is not None else ():
        if each.verdict.colour == "red":
            parts += ["", *_red(each, out)]
    return parts


def _unknown(verdicts: Sequence[pb.GuardrailVerdict]) -> list[Part]:
    """Of which guardrails nothing is known, by why: of the whole service, and of parts of it where that is known."""
    whole = {
        v.guardrail for v in verdicts if v.colour == "unknown" and cohort_word(v.cohort) == ALL
    }
    by_why: dict[str, dict[str, None]] = {}
    for each in sorted(verdicts, key=lambda v: (v.guardrail, cohort_word(v.cohort))):
        part = cohort_word(each.cohort)
        if each.colour != "unknown" or (part != ALL and each.guardrail in whole):
            continue
        name = each.guardrail if part == ALL else f"{each.guardrail} ({part})"
        by_why.setdefault(each.missing or "not judged yet", {})[name] = None
    return [
        Styled(f"unknown, {why}: {', '.join(names)}", "yellow")
        for why, names in sorted(by_why.items())
    ]


def verdict_table(verdicts: Sequence[pb.GuardrailVerdict], wall: float, out: Out) -> Part:
    """One row a verdict, the worst first."""
    columns = (
        Column("GUARDRAIL"),
        Column("OF"),
        Column("IS"),
        Column("FOR", is_number=True),
        Column("VALUE", is_number=True),
        Column("LIMIT", is_number=True),
        Column("WHY", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            each.guardrail,
            cohort_word(each.cohort),
            Styled(each.colour, STYLES.get(each.colour, "")),
            span(max(0.0, wall - each.since_wall)),
            _number(each.value if each.HasField("value") else None),
            _number(each.limit if each.HasField("limit") else None),
            each.missing or each.summary,
        ]
        for each in red_first(verdicts)
    ]
    return out.table(columns, rows)


def red_first(verdicts: Sequence[pb.GuardrailVerdict]) -> list[pb.GuardrailVerdict]:
    """The worst first, then by name."""
    return sorted(
        verdicts, key=lambda v: (_RANK.get(v.colour, 1), v.guardrail, cohort_word(v.cohort))
    )


def number_table(numbers: Sequence[pb.SeriesNumber], out: Out) -> Part:
    """One row a cohort, one column a number that some cohort has."""
    names = list(dict.fromkeys(each.what for each in numbers))
    rows: dict[str, dict[str, str]] = {}
    for each in numbers:
        rows.setdefault(cohort_word(each.cohort), {})[each.what] = _number(each.value)
    columns = (Column("LAST HOUR"), *(Column(name.upper(), is_number=True) for name in names))
    return out.table(
        columns,
        [[name, *(said.get(what, "-") for what in names)] for name, said in sorted(rows.items())],
    )


def _red(report: pb.VerdictReport, out: Out) -> list[Part]:
    columns = (
        Column("NODE"),
        Column("VALUE", is_number=True),
        Column("REQUESTS", is_number=True),
        Column(""),
    )
    rows: list[list[Cell]] = [
        [
            each.node,
            _number(each.value if each.HasField("value") else None),
            _number(each.requests),
            Styled("beyond the limit", "red") if each.is_bad else "",
        ]
        for each in report.nodes[:NODES_SHOWN]
    ]
    parts: list[Part] = [Styled(report.narrative, "red")]
    return [*parts, out.table(columns, rows)] if rows else parts


def gate_parts(said: pb.GateResponse, name: str, version: str) -> list[Part]:
    what = f"{name} {version}".strip()
    head = Styled(
        f"{what}: {said.result}, {said.requests:.0f} requests", GATES.get(said.result, "")
    )
    return [head, *said.reasons]


def cohort_word(cohort: pb.Cohort) -> str:
    """Which part of the service; ``all`` of it."""
    return " ".join(part for part in (cohort.version, cohort.arm, cohort.segment) if part) or ALL


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
