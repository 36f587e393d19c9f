"""Experiments at the aggregator: made, counted, judged by their split, and released by somebody's word."""

from collections.abc import Sequence
from dataclasses import replace

from gpuwarden.aggregator.judges import Judges
from gpuwarden.aggregator.numbers import Numbers
from gpuwarden.aggregator.share_desk import ShareDesk
from gpuwarden.clock import Clock
from gpuwarden.config_ramp import RampConfig
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.ramp import ArmCount, ArmShare, Experiment, Shares, Trust
from gpuwarden.policy.fleet import shares, split
from gpuwarden.ports_evaluation import Document, Documents
from gpuwarden.wire.convert_rollout import from_body, to_body

EXPERIMENT = "experiment"
OWN = "gpuwarden"
HISTORY = 1000
SETTLE_S = 30.0
"""So long after a split was told routers may still follow the one before: such a period is nobody's evidence."""


class Experiments:
    """It blocks; any one thread at a time."""

    def __init__(
        self,
        cfg: RampConfig,
        documents: Documents,
        desk: ShareDesk,
        numbers: Numbers,
        judges: Judges,
        clock: Clock,
    ) -> None:
        self._cfg = cfg
        self._documents = documents
        self._desk = desk
        self._numbers = numbers
        self._judges = judges
        self._clock = clock

    def every(self, service: str = "") -> list[Experiment]:
        """Counts of those whose readings are withheld are not in them."""
        found = [from_body(Experiment, each.body) for each in self._documents.every(EXPERIMENT)]
        return [hidden(each) for each in found if service in ("", each.service)]

    def of(self, service: str) -> Experiment | None:
        """The newest of a service, with its counts: for decisions, which are not made by what is withheld."""
        document = self._documents.get(EXPERIMENT, service)
        return None if document is None else from_body(Experiment, document.body)

    def create(
        self,
        service: str,
        ident: str,
        arms: Sequence[ArmShare],
        who: str,
        now_s: float | None,
    ) -> Experiment:
        """An experiment; its split is told as shares, by hand, and so within the cap. ``now_s`` None: it belongs to
        a rollout, which moves the shares itself."""
        wrong = shares.faults(arms)
        if wrong:
            raise Refused("; ".join(wrong))
        document = self._documents.get(EXPERIMENT, service)
        known = None if document is None else from_body(Experiment, document.body)
        if known is not None and known.trust is not Trust.CLOSED and now_s is not None:
            raise Refused(f"experiment {known.id} of {service} is not closed")
        if now_s is not None:
            self._desk.set(service, arms, who=who, why=f"experiment {ident}", now_s=now_s)
        wall = self._clock.wall()
        fresh = Experiment(
            id=ident,
            service=service,
            arms=tuple(ArmCount(arm=each.arm, share=each.share) for each in arms),
            salt=ident,
            since_wall=wall,
            upto_wall=wall,
        )
        self._put(EXPERIMENT, service, to_body(fresh), who, document)
        return fresh

    def release(self, service: str, who: str, reason: str) -> Experiment:
        """Readings that were withheld may be read again. On record with the word that lets them."""
        if not reason:
            raise Refused("reason: missing")
        document = self._documents.get(EXPERIMENT, service)
        known = None if document is None else from_body(Experiment, document.body)
        if known is None or known.trust is not Trust.WITHHELD:
            raise Refused(f"nothing of {service[:80]} is withheld")
        freed = split.released(known, who, reason)
        self._put(EXPERIMENT, service, to_body(freed), who, document)
        return freed

    def attach(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def count(self) -> None:
        """Add to each what is new."""
        for document in self._documents.every(EXPERIMENT):
            try:
                self._count(document)
            except (
                GpuwardenError
            ) as error:  # one that is spoilt, or that somebody else wrote, is not all of them
                get_log().warning("experiment_waits", service=document.key, reason=str(error))

    def _count(self, document: Document) -> None:
        """Add the periods that are whole and late enough. Counts and the time up to which they go are one document:
        who is killed in between counts them again from the same place."""
        before = from_body(Experiment, document.body)
        if before.trust is Trust.CLOSED:
            return
        upto = self._clock.wall() - self._cfg.lateness_s
        after = before
        for period in self._numbers.periods(before.service, before.upto_wall, upto):
            told, since = self._told_at(before.service, period.end_wall)
            if told is None or period.begin_wall - since < SETTLE_S:
                after = split.added(after, {}, {}, {}, period.end_wall)
                continue
            in_force = {each.arm: each.share for each in told.arms}
            after = split.added(after, period.arms, in_force, period.segments, period.end_wall)
            after = replace(after, late=after.late + period.late)
        if after is before:
            return
        after = split.judged(after, self._judges.split, self._cfg.srm_alpha)
        if after.trust is not before.trust:
            get_log().warning(
                "experiment_withheld", service=after.service, experiment=after.id, hints=after.hints
            )
        self._put(EXPERIMENT, after.service, to_body(after), OWN, document)

    def _told_at(self, service: str, end_wall: float) -> tuple[Shares | None, float]:
        """The split that was told last before a period's end, and when."""
        history = self._documents.history("shares", service, HISTORY)
        before = [each for each in history if each.wall < end_wall]
        if not before:
            return None, 0.0
        return from_body(Shares, before[0].body), before[0].wall

    def _put(self, kind: str, key: str, body: bytes, who: str, before: Document | None) -> None:
        after = 0 if before is None else before.revision
        self._documents.put(kind, key, body, who=who, wall=self._clock.wall(), after=after)


def hidden(experiment: Experiment) -> Experiment:
    """Without anything that could be read off it, where its readings are withheld."""
    if split.is_readable(experiment):
        return experiment
    arms = tuple(
        replace(each, units=0.0, expected=0.0, errors=0.0, total_s=0.0, square_s=0.0, timed=0.0)
        for each in experiment.arms
    )
    return replace(experiment, arms=arms, segments=())
