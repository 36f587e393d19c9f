"""What rollouts and experiments have to know of services, from the picture of all nodes."""

from collections.abc import Sequence

from gpuwarden.aggregator.numbers import Found, Period
from gpuwarden.aggregator.on_services import asked
from gpuwarden.aggregator.service_causes import Causes
from gpuwarden.aggregator.services import Services
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError
from gpuwarden.evaluate.fast.sketch import count, value_of
from gpuwarden.model.evaluation import Cohort, Colour, Verdict, Window
from gpuwarden.model.finding import Severity
from gpuwarden.policy.fleet.calm import Weather
from gpuwarden.policy.fleet.cause import CauseKind
from gpuwarden.policy.fleet.drift_claims import NAMES as DRIFTS
from gpuwarden.policy.fleet.fitness import named, weighs
from gpuwarden.policy.fleet.ramp import Word
from gpuwarden.policy.fleet.split import Counted

WAIT_S = 5.0
PERIODS_S = 3600.0
"""Of an experiment that has counted nothing yet: how far back it begins."""


class ServiceNumbers:
    """Implements ``Numbers``."""

    def __init__(self, services: Services, causes: Causes, clock: Clock) -> None:
        self._services = services
        self._causes = causes
        self._clock = clock

    def word(self, service: str, version: str, arm: str) -> tuple[Word, str]:
        """Red: a guardrail of severity error is crossed. One of severity warning goes on with nothing, and undoes
        nothing."""
        verdicts = self._verdicts(service, version, arm)
        red = [v for v in verdicts if v.colour is Colour.RED and weighs(v, Severity.WARNING)]
        breach = [v for v in red if weighs(v, Severity.ERROR)]
        if breach:
            return Word.RED, _said(min(breach, key=lambda v: v.since_wall))
        if red:
            return Word.UNKNOWN, f"a warning stands: {_said(red[0])}"
        green = [v for v in verdicts if v.colour is Colour.GREEN and weighs(v, Severity.ERROR)]
        if green:
            return Word.GREEN, f"{', '.join(sorted({v.guardrail for v in green}))} hold"
        why = self._services.view.note or "no guardrail has a number of it"
        return Word.UNKNOWN, why

    def _verdicts(self, service: str, version: str, arm: str) -> list[Verdict]:
        """Those on the version, or on the arm where the versions are not told apart; where nothing else runs, those
        on the whole."""
        view = self._services.view
        standing = view.services.get(service)
        if standing is None or view.note:
            return []
        mine = [v for v in standing.verdicts if version and v.cohort.version == version]
        if not mine and arm:
            mine = [v for v in standing.verdicts if v.cohort.arm == arm]
        if not mine and standing.versions == (version,):
            mine = [v for v in standing.verdicts if v.cohort == Cohort(service=service)]
        return mine

    def cause(self, service: str, version: str) -> Found:
        red = [
            v
            for v in self._verdicts(service, version, "")
            if v.colour is Colour.RED and weighs(v, Severity.ERROR)
        ]
        if not red:
            return Found(is_gpu=None, summary="it is not red")
        first = min(red, key=lambda v: v.since_wall)
        try:
            cause = asked(self._services, lambda: self._causes.explain(first).cause, WAIT_S)
        except GpuwardenError as error:
            return Found(is_gpu=None, summary=str(error))
        if cause is None or cause.kind is CauseKind.UNKNOWN:
            why = "where the service ran is not known" if cause is None else cause.summary
            return Found(is_gpu=None, summary=why)
        return Found(is_gpu=cause.is_gpu, summary=cause.summary)

    def periods(self, service: str, after_wall: float, upto_wall: float) -> Sequence[Period]:
        since = max(after_wall, upto_wall - PERIODS_S)
        try:
            return asked(self._services, lambda: self._periods(service, since, upto_wall), WAIT_S)
        except GpuwardenError:
            return ()

    def _periods(self, service: str, since: float, upto: float) -> list[Period]:
        picture = self._services.picture
        spans: dict[tuple[float, float], list[tuple[Cohort, Window]]] = {}
        for cohort in sorted(picture.cohorts()):
            if cohort.service != service or not cohort.arm:
                continue
            for window in picture.over([cohort], since):
                end = window.begin_wall + window.length_s
                if end <= upto:
                    spans.setdefault((window.begin_wall, end), []).append((cohort, window))
        return [_period(begin, end, told) for (begin, end), told in sorted(spans.items())]

    def weather(self, now_s: float) -> Weather:
        services = self._services.view.services.values()
        rates = [s.requests_per_s for s in services if s.requests_per_s is not None]
        known = [s for s in services if s.colour is not Colour.UNKNOWN]
        return Weather(
            now_s=now_s,
            rate=sum(rates) if rates else None,
            red=sum(s.is_fit is False for s in known),
            services=len(known),
            drifting=sum(any(map(_drifts, s.verdicts)) for s in known),
        )


def _drifts(verdict: Verdict) -> bool:
    """Unless the policy is that drift holds nothing (then it is an info)."""
    is_red = verdict.guardrail in DRIFTS and verdict.colour is Colour.RED
    return is_red and weighs(verdict, Severity.WARNING)


def _said(verdict: Verdict) -> str:
    part = named(verdict.cohort)
    return f"{verdict.guardrail}{f' ({part})' if part else ''}: {verdict.summary}"


def _period(begin: float, end: float, told: Sequence[tuple[Cohort, Window]]) -> Period:
    arms: dict[str, Counted] = {}
    segments: dict[tuple[str, str], float] = {}
    for cohort, window in told:
        new = counted(window)
        arms[cohort.arm] = _sum(arms.get(cohort.arm, Counted()), new)
        key = (cohort.segment, cohort.arm)
        segments[key] = segments.get(key, 0.0) + new.units
    return Period(begin_wall=begin, end_wall=end, arms=arms, segments=segments)


def counted(window: Window) -> Counted:
    """What an experiment counts of a window. The sum of squares is of the sketch's bins: within 2 % of the values'."""
    units = window.counts.get("requests", window.counts.get("predictions", 0.0))
    sketch = window.sketches.get("latency_s")
    if sketch is None:
        return Counted(units=units, errors=window.counts.get("errors", 0.0))
    square = sum(n * value_of(key, sketch.accuracy) ** 2 for key, n in sketch.bins.items())
    return Counted(
        units=units,
        errors=window.counts.get("errors", 0.0),
        total_s=sketch.total,
        square_s=square,
        timed=float(count(sketch)),
    )


def _sum(one: Counted, other: Counted) -> Counted:
    return Counted(
        units=one.units + other.units,
        errors=one.errors + other.errors,
        total_s=one.total_s + other.total_s,
        square_s=one.square_s + other.square_s,
        timed=one.timed + other.timed,
    )
