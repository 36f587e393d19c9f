"""Labels, scores and complaints that come to the aggregator, as windows of the cohorts they are about.

On the services' thread. They count when they come: a label of yesterday's prediction says what the service is worth
as far as is known now.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.label_book import from_kept, to_kept
from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.picture import Picture
from gpuwarden.aggregator.store import Store
from gpuwarden.errors import Refused
from gpuwarden.evaluate.fast.series import SCORE_MAX
from gpuwarden.evaluate.fast.sketch import Builder
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.policy.fleet.labels import Answer, Half, Joined, LabelJoin
from gpuwarden.policy.fleet.parts import NOT_A_NODE
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.window_check import Told, from_cohort

ENTRIES_MAX = 1000
LENGTH_S = 10.0
ANSWER_MAX_CHARS = 128


@dataclass(slots=True)
class _Open:
    """What has come of one cohort in the present window."""

    begin: float
    revision: int = 0
    counts: dict[str, float] = field(default_factory=dict)
    scores: Builder = field(default_factory=Builder)


PRUNE_EVERY = 10_000
"""Answers after which the store is looked through for what is too old, or too much."""


class LabelDesk:
    """``name``: of this life of this aggregator. On the services' thread but for what says otherwise."""

    def __init__(
        self,
        picture: Picture,
        name: str,
        store: Store,
        committer: Committer,
        lead: Callable[[], Lead],
    ) -> None:
        self._picture = picture
        self._lead = lead
        self._epoch = -1
        self._store = store
        self._committer = committer
        self._unpruned = 0
        self._node = f"{NOT_A_NODE}labels.{name}"
        self._join = LabelJoin()
        self._open: dict[Cohort, _Open] = {}

    @property
    def forgotten(self) -> int:
        return self._join.forgotten

    def unknown(self, answers: Sequence[Answer]) -> list[str]:
        """Ids of which the store has to be asked first. What was known in an earlier reign may have grown in another
        aggregator's since: then all of them."""
        epoch = self._lead().epoch
        if epoch != self._epoch:
            self._epoch, forgotten = epoch, self._join.forgotten
            self._join = LabelJoin(forgotten=forgotten)
        return self._join.unknown(answers)

    def recalled(self, service: str, ids: Sequence[str]) -> list[Half]:
        """What the store knows of these predictions, by whoever led before; any thread, and it may block."""
        return from_kept(self._store.predictions(service, ids)) if ids else []

    def keep(self, answers: Sequence[Answer], wall: float, audit: str, who: str) -> Any:
        """Have it on disk what is known of these now, with the line of the audit, before they are answered for."""
        epoch = self._epoch
        kept = to_kept(self._join.known(answers))
        self._unpruned += len(kept)
        is_due = self._unpruned >= PRUNE_EVERY
        if is_due:
            self._unpruned = 0

        def write(store: Store) -> None:
            store.put_predictions(kept, wall, epoch)
            if is_due:
                store.prune_predictions(self._join.most, wall)
            store.audit(wall, who, "labels", audit)

        return self._committer.do(write)

    def take(
        self, answers: Sequence[Answer], wall: float, recalled: Sequence[Half] = ()
    ) -> list[Joined]:
        """What became of each. ``recalled``: what the store knows of those that were unknown here."""
        self._join.load(recalled)
        touched: set[Cohort] = set()
        found = []
        for answer in answers:
            became, cohort, counts, score = self._join.take(answer)
            found.append(became)
            if became is not Joined.COUNTED:
                continue
            known = self._counted(cohort, counts, wall)
            if score is not None:
                known.scores.add(score)
            touched.add(cohort)
        for cohort in touched:
            self._put(cohort, self._open[cohort], wall)
        begin = wall // LENGTH_S * LENGTH_S
        for cohort in [c for c, known in self._open.items() if known.begin < begin]:
            del self._open[cohort]
        return found

    def add(self, cohort: Cohort, counts: Mapping[str, float], wall: float) -> None:
        """Further counts of a cohort, each for itself."""
        self._put(cohort, self._counted(cohort, counts, wall), wall)

    def _counted(self, cohort: Cohort, counts: Mapping[str, float], wall: float) -> _Open:
        begin = wall // LENGTH_S * LENGTH_S
        known = self._open.get(cohort)
        if known is None or known.begin != begin:
            known = self._open[cohort] = _Open(begin=begin)
        for name, value in counts.items():
            known.counts[name] = known.counts.get(name, 0.0) + value
        return known

    def _put(self, cohort: Cohort, known: _Open, wall: float) -> None:
        known.revision += 1
        window = Window(
            cohort=cohort,
            begin_wall=known.begin,
            length_s=LENGTH_S,
            revision=known.revision,
            counts=dict(known.counts),
            sketches={"score": known.scores.done()} if known.scores.count else {},
        )
        self._picture.put(self._node, Told(sequence=0, window=window), wall)


def from_entry(service: str, entry: pb.LabelEntry) -> Answer:
    """``Refused`` names the field."""
    cohort = pb.Cohort(service=service, version=entry.version, arm=entry.arm, segment=entry.segment)
    said = entry.HasField("label") or entry.HasField("prediction") or entry.HasField("score")
    if not (said or entry.is_complaint or entry.is_opt_out):
        raise Refused("entry: it says nothing of the prediction")
    score = None
    if entry.HasField("score"):
        score = check.number("entry.score", entry.score, -SCORE_MAX, SCORE_MAX)
    return Answer(
        cohort=from_cohort(cohort),
        id=check.identifier("entry.prediction_id", entry.prediction_id),
        prediction=_answer("prediction", entry) if entry.HasField("prediction") else None,
        label=_answer("label", entry) if entry.HasField("label") else None,
        positive=_answer("positive", entry),
        score=score,
        is_complaint=entry.is_complaint,
        is_opt_out=entry.is_opt_out,
    )


def _answer(name: str, entry: pb.LabelEntry) -> str:
    return check.text(f"entry.{name}", getattr(entry, name), ANSWER_MAX_CHARS)
