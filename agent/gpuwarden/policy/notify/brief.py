"""What people are told of an incident: short, and bounded however long the incident has become."""

from collections.abc import Sequence
from dataclasses import replace

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import Incident, IncidentStep
from gpuwarden.model.oncall import Brief, Page
from gpuwarden.policy.words import size

SUMMARY_MAX_CHARS = 400
LINE_MAX_CHARS = 240
EVIDENCE_MAX = 10
DONE_MAX = 12
WITHHELD_MAX = 6
_ACTED = frozenset(k.value for k in Kind) - {Kind.PAGE.value, Kind.WARN.value}
_ENDED = frozenset(r.value for r in Result) - {Result.STARTED.value}


def of_page(page: Page) -> Brief:
    """Of a page behind which no incident stands."""
    return Brief(
        incident=page.incident,
        summary=cut(page.summary, SUMMARY_MAX_CHARS),
        opened_wall=page.wall,
        device=page.device,
        fault=page.fault,
        pci=page.pci,
        node=page.node,
    )


def of_incident(incident: Incident, *, subject: str = "", page: Page | None = None) -> Brief:
    """Of an incident as it reads now; what the page said is the first sentence, where one was sent."""
    kind = subject.partition("/")[0]
    withheld = [s for s in incident.steps if s.kind == "withheld"]
    return Brief(
        incident=incident.id,
        summary=cut(incident.summary if page is None else page.summary, SUMMARY_MAX_CHARS),
        opened_wall=incident.opened_wall,
        rule=incident.rule,
        fault="" if page is None else page.fault,
        pci="" if page is None else page.pci,
        subject="" if kind in ("tenant", "device") else cut(subject, 100),
        device=incident.device or "",
        tenant=incident.tenant or "",
        tenant_name=cut(incident.tenant_name, 100),
        tenant_class=incident.tenant_class,
        runtime=incident.runtime,
        evidence=_evidence(incident),
        done=tuple(_line(incident, s) for s in _last(_acts(incident.steps), DONE_MAX)),
        withheld=tuple(_line(incident, s) for s in _last(withheld, WITHHELD_MAX)),
        closed_wall=incident.closed_wall,
        outcome=cut(incident.outcome, LINE_MAX_CHARS),
        node="" if page is None else page.node,
    )


def ended(brief: Brief, wall: float) -> Brief:
    """Of an incident that nobody remembers any more."""
    return replace(brief, closed_wall=wall, outcome="it does not stand any more")


def cut(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _acts(steps: Sequence[IncidentStep]) -> list[IncidentStep]:
    return [s for s in steps if s.kind in _ACTED and s.result in _ENDED]


def _last(steps: Sequence[IncidentStep], most: int) -> Sequence[IncidentStep]:
    return steps[-most:]


def _line(incident: Incident, step: IncidentStep) -> str:
    """``+1.2 s term done: over its quota``."""
    after_s = max(0.0, step.wall - incident.opened_wall)
    what = step.text if step.kind == "withheld" else f"{step.kind} {step.result}: {step.text}"
    return cut(f"+{after_s:.1f} s {what}", LINE_MAX_CHARS)


def _evidence(incident: Incident) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    if incident.quota_bytes is not None:
        pairs.append(("quota", size(incident.quota_bytes)))
    if incident.peak_bytes is not None:
        pairs.append(("peak", size(incident.peak_bytes)))
    if incident.harmed:
        pairs.append(("harmed", cut(", ".join(incident.harmed), LINE_MAX_CHARS)))
    for name, text in incident.evidence:
        if name.endswith("_bytes") and text.isdecimal():
            name, text = name.removesuffix("_bytes"), size(int(text))
        pairs.append((cut(name.replace("_", " "), 60), cut(text, LINE_MAX_CHARS)))
    return tuple(pairs[:EVIDENCE_MAX])
