"""Predictions that people should look at: taken from nodes, kept in the store, and what people say of them.

A node's items are acknowledged once they are committed. What people say counts once a prediction, by the vote of all
who have looked, whoever imports it and where: the store decides who was first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from gpuwarden.aggregator.arrivals import Arrival
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.label_desk import LabelDesk
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_reviews import Decision, KeptLabel, KeptReview
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.evaluate.quality.corrections import Judged, Said, judged
from gpuwarden.evaluate.quality.review import (
    Correction,
    LineFault,
    imported,
    line_of,
    prediction_of,
    service_of,
)
from gpuwarden.evaluate.quality.sampling import Prediction, rank
from gpuwarden.log import get_log
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.labels import Answer
from gpuwarden.wire.review_check import check_item
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.window_check import from_cohort

LOG_EVERY_S = 60.0
FIRST = (1e9, "")
"""Before every rank."""
WAIT_S = 5.0
REVIEWED, REVIEWED_RIGHT = "custom.reviewed", "custom.reviewed_right"
Do = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What came of some lines. ``faults``: (index, why)."""

    corrections: int
    unlabelled: int
    faults: tuple[tuple[int, LineFault], ...]
    judged: tuple[Judged, ...]


class Reviews:
    """``hear`` is for the thread that serves nodes; the rest blocks, for any other."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        clock: Clock,
        labels: LabelDesk,
        do: Do,
        bytes_max: int,
    ) -> None:
        """``do``: has something done on the services' thread, where ``labels`` lives."""
        self._store, self._committer, self._clock = store, committer, clock
        self._labels, self._do = labels, do
        self.bytes_max = bytes_max
        self.kept: Callable[[str, int, int], None] = lambda node, stream, upto: None
        self.dropped = self.taken = self.failures = self.decided = 0
        self.refused: Counter[str] = Counter()
        self._logged = float("-inf")

    def hear(self, arrival: Arrival) -> None:
        """Have them committed; then, and only then, their node is told."""
        wall, found = self._clock.wall(), []
        upto = 0
        for message in arrival.reviews:
            upto = max(upto, min(message.sequence, 2**62))
            try:
                found.append(_kept(message, wall))
            except Refused as refused:
                self._refuse(arrival.node, str(refused))
        if not upto:
            return
        future = self._committer.do(lambda store: store.put_reviews(found, self.bytes_max))
        future.add_done_callback(lambda done: self._committed(done, arrival, len(found), upto))

    def _committed(self, done: "Future[int]", arrival: Arrival, many: int, upto: int) -> None:
        try:
            self.dropped += done.result()
        except GpuwardenError as error:  # not acknowledged: its node sends it again
            self.failures += 1
            get_log().warning("reviews_not_kept", node=arrival.node, reason=str(error))
            return
        self.taken += many
        self.kept(arrival.node, arrival.stream, upto)

    def _refuse(self, node: str, why: str) -> None:
        self.refused[why.split(":", 1)[0][:64]] += 1
        now = self._clock.now()
        if now - self._logged >= LOG_EVERY_S:
            self._logged = now
            get_log().warning("review_refused", node=node, reason=why)

    def page(
        self, service: str, segment: str | None, after: tuple[float, str], limit: int
    ) -> list[KeptReview]:
        return self._store.review_page(service, segment, after, limit)

    def sizes(self, service: str) -> tuple[int, int]:
        return self._store.review_sizes(service)

    def take(
        self,
        lines: Sequence[str],
        labels: frozenset[str] | None,
        who: str,
        *,
        is_dry_run: bool = False,
    ) -> Import:
        """Lines that anybody may have written. ``labels``: all that are allowed; None: any. ``Unavailable``: then it
        may or may not have been kept, and the same lines can be sent again."""
        by_service: dict[str, list[int]] = {}
        for index, line in enumerate(lines):
            by_service.setdefault(service_of(line), []).append(index)
        faults: list[tuple[int, LineFault]] = []
        found: list[Judged] = []
        corrections = unlabelled = 0
        wall = self._clock.wall()
        for service, places in sorted(by_service.items()):
            known = self._known(service, [lines[place] for place in places])
            read = imported([lines[place] for place in places], _Bodies(known), labels=labels)
            prior = self._store.review_labels(service, [c.prediction.id for c in read.corrections])
            fresh, more = _fresh(read.corrections, prior, places, read.places)
            faults += [(places[line - 1], why) for line, why in read.faults] + more
            unlabelled += read.unlabelled
            corrections += len(fresh)
            gold = {name: each.gold for name, each in known.items() if each.gold}
            made = judged(service, [*map(_said, prior)], fresh, gold)
            if not is_dry_run:
                made = self._keep(service, fresh, made, wall, who)
            found += made
        return Import(
            corrections=corrections,
            unlabelled=unlabelled,
            faults=tuple(sorted(faults)),
            judged=tuple(found),
        )

    def _known(self, service: str, lines: Iterable[str]) -> dict[str, KeptReview]:
        """What of the ids in these lines is in the store."""
        if not service:
            return {}
        read = [prediction_of(line) for line in lines]
        ids = sorted({each.id for each in read if isinstance(each, Prediction)})
        return {each.id: each for each in self._store.reviews_named(service, ids)}

    def _keep(
        self,
        service: str,
        fresh: Sequence[Correction],
        made: Sequence[Judged],
        wall: float,
        who: str,
    ) -> list[Judged]:
        """In the store and in the audit first, then in the numbers."""
        rows = [
            KeptLabel(
                service=service, id=c.prediction.id, reviewer=c.reviewer, label=c.label, wall=wall
            )
            for c in fresh
        ]
        decisions = [
            Decision(service=service, id=p.id, gold=each.gold.get(p.id, ""))
            for each in made
            for p, _ in each.decided
        ]
        detail = f"service {service[:128]}: {len(fresh)} corrections, {len(decisions)} decided"

        def keep(store: Store) -> set[tuple[str, str]]:
            store.audit(wall, who, "review import", detail)
            return store.keep_reviews(rows, decisions)

        try:
            first = self._committer.do(keep).result(WAIT_S)
        except TimeoutError as error:
            raise Unavailable("the store is slow: send the same file again") from error
        counted = [
            replace(each, decided=tuple(d for d in each.decided if (service, d[0].id) in first))
            for each in made
        ]
        self.decided += len(first)
        self._do(lambda: self._count(counted, _scores(fresh), wall))
        return counted

    def _count(self, made: Sequence[Judged], scores: Mapping[str, float], wall: float) -> None:
        """On the services' thread. By chance: the accuracy's own series. For doubt: series of their own, for a
        sample of doubtful predictions is worse than all of them (and so are their scores, which count nowhere)."""
        for each in made:
            for prediction, label in each.decided:
                cohort = _cohort(prediction)
                if not prediction.is_random:
                    right = float(label == prediction.label)
                    self._labels.add(cohort, {REVIEWED: 1.0, REVIEWED_RIGHT: right}, wall)
                    continue
                answer = Answer(
                    cohort=cohort,
                    id=prediction.id,
                    prediction=prediction.label,
                    label=label,
                    score=scores.get(prediction.id),
                )
                self._labels.take([answer], wall)

    def counters(self) -> dict[str, int]:
        return {
            "reviews_taken": self.taken,
            "reviews_dropped": self.dropped,
            "reviews_refused": self.refused.total(),
            "reviews_decided": self.decided,
            "review_failures": self.failures,
        }


class _Bodies:
    """Predictions by id, out of the store's rows."""

    def __init__(self, kept: dict[str, KeptReview]) -> None:
        self._kept = kept

    def get(self, name: str, /) -> Prediction | None:
        row = self._kept.get(name)
        found = None if row is None else prediction_of(row.body.decode("utf-8", "replace"))
        return found if isinstance(found, Prediction) else None


def _kept(message: pb.ReviewItem, wall: float) -> KeptReview:
    check_item(message, wall)
    cohort = from_cohort(message.cohort)
    prediction = Prediction(
        id=message.prediction_id,
        service=cohort.service,
        version=cohort.version,
        arm=cohort.arm,
        segment=cohort.segment,
        label=message.prediction,
        confidence=message.confidence if message.HasField("confidence") else None,
        probabilities=tuple(message.probabilities),
        opinions=tuple(message.opinions),
        at_wall=message.wall,
        input=message.payload,
        is_random=message.is_random,
    )
    return KeptReview(
        service=cohort.service,
        id=prediction.id,
        segment=cohort.segment,
        weight=rank(prediction),
        wall=wall,
        body=line_of(prediction).encode("ascii"),
    )


def _fresh(
    corrections: Sequence[Correction],
    prior: Sequence[KeptLabel],
    places: Sequence[int],
    lines: Sequence[int],
) -> tuple[list[Correction], list[tuple[int, LineFault]]]:
    """Words that are new; the first word of a person on a prediction stands."""
    said = {(each.id, each.reviewer): each.label for each in prior}
    fresh, faults = [], []
    for correction, line in zip(corrections, lines, strict=True):
        before = said.get((correction.prediction.id, correction.reviewer))
        if before is None:
            fresh.append(correction)
        else:
            why = LineFault.REPEATED if before == correction.label else LineFault.CONTRADICTORY
            faults.append((places[line - 1], why))
    return fresh, faults


def _scores(fresh: Iterable[Correction]) -> dict[str, float]:
    """The mean of what people gave each prediction with the words that decided it."""
    given: dict[str, list[float]] = {}
    for each in fresh:
        if each.score is not None:
            given.setdefault(each.prediction.id, []).append(each.score)
    return {name: sum(scores) / len(scores) for name, scores in given.items()}


def _said(label: KeptLabel) -> Said:
    return Said(id=label.id, reviewer=label.reviewer, label=label.label)


def _cohort(prediction: Prediction) -> Cohort:
    return Cohort(
        service=prediction.service,
        version=prediction.version,
        arm=prediction.arm,
        segment=prediction.segment,
    )
