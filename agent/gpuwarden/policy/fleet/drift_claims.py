"""What follows from drift: claims that people are told, and verdicts that gates and rollouts read. Plain values alone."""

from collections.abc import Collection, Iterable, Sequence

from gpuwarden.model.drift import DriftState, DriftVerdict, FeatureDrift, StreamDrift
from gpuwarden.model.evaluation import Cohort, Colour, Missing, Verdict
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.policy.fleet.fitness import named

DATA, ERRORS = "data-drift", "concept-drift"
NAMES = frozenset({DATA, ERRORS})
COHORTS_NAMED = 3
_BAD = (DriftState.DRIFT, DriftState.SCHEMA)


def claims(verdicts: Iterable[DriftVerdict], then: str) -> tuple[FleetClaim, ...]:
    """One a service, of however many versions, segments and features. A schema that changed wakes nobody."""
    if then == "ignore":
        return ()
    by_service: dict[str, list[DriftVerdict]] = {}
    for verdict in verdicts:
        if verdict.state in _BAD:
            by_service.setdefault(verdict.cohort.service, []).append(verdict)
    found = []
    for service, bad in sorted(by_service.items()):
        bad.sort(key=lambda each: (each.state is not DriftState.DRIFT, each.cohort))
        is_drift = bad[0].state is DriftState.DRIFT
        severity = Severity.ERROR if then == "page" and is_drift else Severity.WARNING
        more = f" (and {len(bad) - COHORTS_NAMED} more)" if len(bad) > COHORTS_NAMED else ""
        text = ". ".join(each.summary for each in bad[:COHORTS_NAMED])
        found.append(
            FleetClaim(
                key=f"drift {service}",
                severity=severity,
                summary=f"service {service}: {text}{more}",
            )
        )
    return tuple(found)


def as_verdicts(
    verdicts: Iterable[DriftVerdict], known: Collection[Cohort], *, holds: bool
) -> list[Verdict]:
    """As those of guardrails, on the cohorts that are judged by those: where a service has one version, that is the
    whole service. What has no profile is not mentioned. A warning, so that no request is turned away for it; an
    info where it is to hold nothing."""
    severity = "warning" if holds else "info"
    found: dict[tuple[str, Cohort], Verdict] = {}
    for verdict in sorted(verdicts, key=lambda each: each.cohort):
        cohort = _where(verdict.cohort, known)
        for name, parts in ((DATA, verdict.features), (ERRORS, verdict.streams)):
            said = _verdict(name, cohort, parts, verdict, severity)
            before = found.get((name, cohort))
            if said is not None and (before is None or _RANK[said.colour] < _RANK[before.colour]):
                found[name, cohort] = said
    return list(found.values())


_RANK = {Colour.RED: 0, Colour.UNKNOWN: 1, Colour.GREEN: 2}


def _where(cohort: Cohort, known: Collection[Cohort]) -> Cohort:
    for each in (
        cohort,
        Cohort(service=cohort.service, segment=cohort.segment),
        Cohort(service=cohort.service),
    ):
        if each in known:
            return each
    return Cohort(service=cohort.service)


def _verdict(
    name: str,
    cohort: Cohort,
    parts: Sequence[FeatureDrift] | Sequence[StreamDrift],
    verdict: DriftVerdict,
    severity: str,
) -> Verdict | None:
    judged = [each for each in parts if each.state is not DriftState.NO_PROFILE]
    if not judged:
        return None
    red = [each for each in judged if each.state is DriftState.DRIFT]
    unknown = [each for each in judged if each.state is not DriftState.STABLE]
    colour = Colour.RED if red else Colour.UNKNOWN if unknown else Colour.GREEN
    of = named(verdict.cohort)
    summary = verdict.summary if red else f"{len(judged) - len(unknown)} of {len(judged)} judged"
    return Verdict(
        guardrail=name,
        cohort=cohort,
        colour=colour,
        since_wall=min((each.since_wall for each in red or judged), default=verdict.since_wall),
        at_wall=verdict.at_wall,
        missing=Missing.TOO_FEW if colour is Colour.UNKNOWN else None,
        severity=severity,
        summary=summary if red or not of else f"{summary} ({of})",
    )
