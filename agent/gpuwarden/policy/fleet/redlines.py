"""The guardrails of every service, judged on what all its nodes say together.

Judged are the service as a whole, and each version, arm or segment where there are several. The same code judges on
a node what that node sees (``evaluate.fast.guardrail``); here windows are as old as their way from the node.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from gpuwarden.evaluate.fast.expression import parse
from gpuwarden.evaluate.fast.guardrail import IN_FLIGHT, Memory, judge
from gpuwarden.model.evaluation import Cohort, Colour, Verdict, Window
from gpuwarden.model.guardrail import Guardrail, Judge

OVER_MIN_S = 30.0
"""A window of 10 s and its way from the node: of less than three of them nothing is judged here."""
ALWAYS = frozenset({IN_FLIGHT, "requests", "predictions"})
"""Read with every guardrail's own series: what is told at all tells "never told" from "no data"."""
WORST = {Colour.RED: 0, Colour.UNKNOWN: 1, Colour.GREEN: 2}

Windows = Callable[[Collection[Cohort], float, Collection[str]], Sequence[Window]]
"""Windows of these cohorts that begin since then, with these series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is remembered of one guardrail and cohort."""

    memory: Memory
    verdict: Verdict
    judged_at: float


Lines = Mapping[tuple[str, Cohort], Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A cohort that is judged, and the cohorts whose windows it is made of."""

    cohort: Cohort
    made_of: tuple[Cohort, ...]


def subjects(cohorts: Iterable[Cohort]) -> list[Subject]:
    """What is judged of these, by service: the whole; parts where there are several."""
    by_service: dict[str, list[Cohort]] = {}
    for cohort in sorted(cohorts):
        by_service.setdefault(cohort.service, []).append(cohort)
    found: list[Subject] = []
    for service, members in by_service.items():
        found.append(Subject(cohort=Cohort(service=service), made_of=tuple(members)))
        versions = {c.version for c in members if c.version}
        arms = {c.arm for c in members if c.arm}
        segments = {c.segment for c in members if c.segment}
        versions = versions if len(versions) > 1 else set()
        if len(arms) < 2:
            arms = set()
        wanted = [Cohort(service=service, version=v) for v in sorted(versions)]
        wanted += [Cohort(service=service, arm=a) for a in sorted(arms)]
        wanted += [Cohort(service=service, segment=s) for s in sorted(segments)]
        wanted += [
            Cohort(service=service, version=v, segment=s)
            for v in sorted(versions)
            for s in sorted(segments)
        ]
        for cohort in wanted:
            parts = tuple(c for c in members if _is_part(cohort, c))
            if parts:
                found.append(Subject(cohort=cohort, made_of=parts))
    return found


def _is_part(whole: Cohort, part: Cohort) -> bool:
    return (
        whole.version in ("", part.version)
        and whole.arm in ("", part.arm)
        and whole.segment in ("", part.segment)
    )


def concerns(spec: Guardrail, cohort: Cohort) -> bool:
    """Whether a guardrail is judged of a cohort. Traffic that moves from one version to the next is no drop of
    traffic: rates are the whole service's."""
    if not any(fnmatchcase(cohort.service, glob) for glob in spec.services):
        return False
    if cohort.segment and not spec.by_segment:
        return False
    is_whole = cohort == Cohort(service=cohort.service)
    return is_whole or "rate(" not in spec.expression


def at_the_centre(spec: Guardrail) -> Guardrail:
    """The guardrail as it is judged here."""
    return replace(spec, over_s=max(spec.over_s, OVER_MIN_S))


def pace_s(spec: Guardrail) -> float:
    """How often it is judged: what looks at an hour has nothing new to say each second."""
    span_s = spec.step_s if spec.judge is not Judge.LIMIT else spec.over_s
    return min(60.0, max(1.0, span_s / 30.0))


def judged(
    specs: Iterable[Guardrail],
    known: Sequence[Subject],
    lines: Lines,
    windows: Windows,
    now_wall: float,
) -> dict[tuple[str, Cohort], Line]:
    """Every line after this pass; of cohorts that are not known any more there is none."""
    found: dict[tuple[str, Cohort], Line] = {}
    for spec in specs:
        every_s = pace_s(spec)
        for subject in known:
            if not concerns(spec, subject.cohort):
                continue
            key = (spec.name, subject.cohort)
            before = lines.get(key)
            if before is not None and 0 <= now_wall - before.judged_at < every_s:
                found[key] = before
                continue
            found[key] = _judged(spec, subject, before, windows, now_wall)
    return found


def _judged(
    spec: Guardrail, subject: Subject, before: Line | None, windows: Windows, now_wall: float
) -> Line:
    names = parse(spec.expression).series | ALWAYS
    reach_s = spec.reach_s
    if before is None and (spec.judge is not Judge.LIMIT or parse(spec.expression).has_past):
        reach_s += spec.past_s  # after a start the past is what the archive has of it
    found = windows(subject.made_of, now_wall - reach_s, names)
    memory = Memory() if before is None else before.memory
    memory, verdict = judge(spec, memory, subject.cohort, found, now_wall)
    return Line(memory=memory, verdict=verdict, judged_at=now_wall)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Red before unknown before green; of those the oldest."""
    return min(
        verdicts, key=lambda v: (WORST[v.colour], v.since_wall, v.guardrail, v.cohort), default=None
    )
