"""Services as people, load balancers and pipelines are told of them: standing, claims, gate. From verdicts alone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.evaluation import Cohort, Colour, Verdict
from gpuwarden.model.finding import Severity
from gpuwarden.model.fitness import Standing
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.model.guardrail import Guardrail, Then
from gpuwarden.policy.fleet.redlines import worst

KEY, SILENCE = "guardrail", "silent service"
COHORTS_NAMED = 3
OWN_MAX = 3
"""Where so few nodes make it red, and each says so itself, they tell people; the fleet's word stands in the status."""
_SEVERITY = {
    "info": Severity.INFO,
    "warning": Severity.WARNING,
    "error": Severity.ERROR,
    "critical": Severity.CRITICAL,
}
_THEN = {
    Then.TELL: "",
    Then.PAGE: "",
    Then.REVIEW: "; for people to label or to look at",
    Then.CLEANING: "; the input goes back to cleaning",
}


class Gate(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    NOT_ENOUGH = "not-enough-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Red:
    """A red verdict with what is known of its nodes."""

    verdict: Verdict
    bad: tuple[str, ...] = ()
    """Nodes whose own numbers break the limit, the worst first."""
    said_by: frozenset[str] = frozenset()
    """Nodes that say the same of themselves."""
    cause: str = ""
    """What on the GPUs explains it; empty: nothing, or not known."""


def weighs(verdict: Verdict, least: Severity) -> bool:
    """Whether its guardrail is at least so severe. A reservation that is wasted (info) makes no service unfit."""
    return _SEVERITY.get(verdict.severity, Severity.WARNING) >= least


def fit_of(standing: Standing, silent_after_s: float) -> bool | None:
    """For load balancers: whether requests may be sent there; None: not known, which is no yes. A warning is for
    people."""
    red = [v for v in standing.verdicts if v.colour is Colour.RED]
    if any(weighs(v, Severity.ERROR) for v in red):
        return False
    if is_silent(standing, silent_after_s):
        return None
    return True if any(v.colour is Colour.GREEN for v in standing.verdicts) else None


def is_silent(standing: Standing, silent_after_s: float) -> bool:
    return standing.age_s is None or standing.age_s > silent_after_s


def colour_of(verdicts: Sequence[Verdict], *, is_silent: bool) -> tuple[Colour, str, float | None]:
    """The worst, why, and since when. Red and green need something to stand on: a silent service is unknown, and
    verdicts for which there is no number yet make none of the others worse."""
    red = worst(v for v in verdicts if v.colour is Colour.RED and weighs(v, Severity.WARNING))
    if red is not None:
        return Colour.RED, f"{red.guardrail}: {red.summary}", red.since_wall
    if is_silent:
        return Colour.UNKNOWN, "no data", None
    green = [v for v in verdicts if v.colour is Colour.GREEN]
    if green:
        many = sum(v.colour is Colour.UNKNOWN for v in verdicts)
        why = f"{len(green)} guardrails hold"
        why += f", of {many} nothing is known" if many else ""
        return Colour.GREEN, why, max(v.since_wall for v in green)
    unknown = worst(verdicts)
    if unknown is None:
        return Colour.UNKNOWN, "no guardrail concerns it", None
    return Colour.UNKNOWN, f"{unknown.guardrail}: {unknown.summary}", unknown.since_wall


def claims(
    specs: Mapping[str, Guardrail],
    reds: Iterable[Red],
    silent: Iterable[tuple[str, float | None]],
    silent_then: str,
) -> tuple[FleetClaim, ...]:
    """One a service and guardrail, of however many versions and segments; one a silent service."""
    by_key: dict[tuple[str, str], list[Red]] = {}
    for red in reds:
        key = (red.verdict.cohort.service, red.verdict.guardrail)
        by_key.setdefault(key, []).append(red)
    found = []
    for (service, guardrail), folded in sorted(by_key.items()):
        found.append(
            FleetClaim(
                key=f"{KEY} {service} {guardrail}",
                severity=_severity(specs.get(guardrail), folded),
                summary=_summary(service, guardrail, specs.get(guardrail), folded),
                count=max(1, len({node for red in folded for node in red.bad})),
            )
        )
    if silent_then != "ignore":
        severity = Severity.ERROR if silent_then == "page" else Severity.WARNING
        for service, age_s in sorted(silent, key=lambda each: each[0]):
            since = "since the aggregator started" if age_s is None else f"for {age_s:.0f} s"
            text = f"service {service}: no data {since}: whether it is fit is not known"
            found.append(FleetClaim(key=f"{SILENCE} {service}", severity=severity, summary=text))
    return tuple(found)


def _severity(spec: Guardrail | None, folded: Sequence[Red]) -> Severity:
    told = max(_SEVERITY.get(red.verdict.severity, Severity.WARNING) for red in folded)
    if spec is not None and spec.then is Then.PAGE:
        told = max(told, Severity.ERROR)
    elif spec is not None:
        told = min(told, Severity.WARNING)
    bad = {node for red in folded for node in red.bad}
    is_told = all(red.bad and set(red.bad) <= red.said_by for red in folded)
    return min(told, Severity.INFO) if is_told and len(bad) <= OWN_MAX else told


def _summary(service: str, guardrail: str, spec: Guardrail | None, folded: Sequence[Red]) -> str:
    """For people: what, of whom, by how much, where worst, and what the GPUs have to do with it."""
    ordered = sorted(folded, key=lambda red: red.verdict.cohort)
    names = [named(red.verdict.cohort) for red in ordered]
    first = ordered[-1] if len(ordered) > 1 else ordered[0]
    text = f"service {service}: {guardrail} is red: {first.verdict.summary}"
    parts = [name for name in names if name]
    if parts:
        more = f" and {len(parts) - COHORTS_NAMED} more" if len(parts) > COHORTS_NAMED else ""
        text += f"; {', '.join(parts[:COHORTS_NAMED])}{more}"
    bad = list(dict.fromkeys(node for red in ordered for node in red.bad))
    if bad:
        text += f"; worst on {bad[0]}" + (f" ({len(bad)} nodes)" if len(bad) > 1 else "")
    said = sorted({node for red in ordered for node in red.said_by})
    if said:
        text += f"; {', '.join(said[:COHORTS_NAMED])} {'says' if len(said) == 1 else 'say'} so too"
    cause = next((red.cause for red in ordered if red.cause), "")
    if cause:
        text += f"; GPU cause: {cause}"
    return text + (_THEN[spec.then] if spec is not None else "")


def named(cohort: Cohort) -> str:
    """What of the service it is, for people; empty: all of it."""
    said = [
        f"{what} {name}"
        for what, name in (
            ("version", cohort.version),
            ("arm", cohort.arm),
            ("segment", cohort.segment),
        )
        if name
    ]
    return " ".join(said)


def gated(
    verdicts: Collection[Verdict], requests: float, min_requests: float
) -> tuple[Gate, list[str]]:
    """Whether what these are about may go on. Red fails however little it stands on; a guardrail that nothing is
    known of passes nothing by itself, but where others are green it does not stand in the way."""
    red = sorted(
        (v for v in verdicts if v.colour is Colour.RED and weighs(v, Severity.WARNING)),
        key=lambda v: v.since_wall,
    )
    if red:
        return Gate.FAIL, [_reason(v) for v in red]
    if requests < min_requests:
        return Gate.NOT_ENOUGH, [f"{requests:.0f} requests, {min_requests:.0f} are needed"]
    green = [v for v in verdicts if v.colour is Colour.GREEN]
    if not green:
        unknown = sorted(verdicts, key=lambda v: (v.guardrail, v.cohort))
        return Gate.NOT_ENOUGH, [_reason(v) for v in unknown] or ["no guardrail concerns it"]
    return Gate.PASS, [_reason(v) for v in sorted(green, key=lambda v: (v.guardrail, v.cohort))]


def _reason(verdict: Verdict) -> str:
    part = named(verdict.cohort)
    return f"{verdict.guardrail}{f' ({part})' if part else ''}: {verdict.summary}"
