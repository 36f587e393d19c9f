"""A share that has declined from its own reference, label by label: the accuracy CUSUM as a guardrail.

The reference is the service's own: the first labels, and further ones while nothing speaks for a decline, up to
``REFERENCE_MAX``; then it stands, so that a slow decline is not taken for what the service is like.
"""

from dataclasses import dataclass, replace

from gpuwarden.evaluate.fast import accuracy
from gpuwarden.evaluate.fast.accuracy import AccuracySettings, AccuracyState
from gpuwarden.model.guardrail import Guardrail

REFERENCE_MAX = 10_000
"""Labels: the standard error of an accuracy of 0.97 is 0.0017 then, a thirtieth of the decline that is red."""
QUIET = 0.25
"""Only while the evidence is below this part of its limit do labels join the reference."""
ELAPSED_MIN_S = 3600.0
"""How many labels a day there are is judged by no less than an hour."""
DAY_S = 86_400.0
STALE_S = 3600.0
"""What labels said stands for so long without a new one; then there is no data."""
START = AccuracyState()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """What is remembered. Counts of labels."""

    since: float
    """When the first were told."""
    told_at: float
    """When the newest were."""
    reference_labels: int = 0
    reference_wrong: int = 0
    state: AccuracyState = START
    limit_nats: float | None = None
    """None: the reference is too short to say anything."""
    reference: float = 0.0
    """Share of mistakes that is held against."""
    run_labels: int = 0
    """Since the evidence was nothing last: where a decline would have begun."""
    run_wrong: int = 0

    @property
    def value(self) -> float:
        """The share that is right since then."""
        return 1 - self.run_wrong / self.run_labels if self.run_labels else 1 - self.reference


def settings_of(spec: Guardrail) -> AccuracySettings:
    return AccuracySettings(drop=spec.limit, min_reference_labels=int(spec.min_support))


def add(spec: Guardrail, before: Decline | None, at: float, labels: int, wrong: int) -> Decline:
    """After labels that were told up to ``at``."""
    known = before or Decline(since=at, told_at=at)
    if labels <= 0:
        return known
    known = replace(known, told_at=at)
    settings = settings_of(spec)
    error = accuracy.reference_error(known.reference_labels, known.reference_wrong, settings)
    if error is None:
        return _longer(known, labels, wrong)
    elapsed_s = max(at - known.since, ELAPSED_MIN_S)
    a_day = (known.state.labels + known.reference_labels) * DAY_S / elapsed_s
    limit_nats = accuracy.limit(error, a_day, settings)
    state = accuracy.step(
        known.state, labels, wrong, reference=error, limit_nats=limit_nats, settings=settings
    )
    is_begun = state.evidence_nats > 0
    after = replace(
        known,
        state=state,
        limit_nats=limit_nats,
        reference=error,
        run_labels=known.run_labels + labels if is_begun else 0,
        run_wrong=known.run_wrong + wrong if is_begun else 0,
    )
    is_quiet = not state.is_red and state.evidence_nats < QUIET * limit_nats
    return _longer(after, labels, wrong) if is_quiet else after


def _longer(decline: Decline, labels: int, wrong: int) -> Decline:
    if decline.reference_labels >= REFERENCE_MAX:
        return decline
    return replace(
        decline,
        reference_labels=decline.reference_labels + labels,
        reference_wrong=decline.reference_wrong + wrong,
    )
