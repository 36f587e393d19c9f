"""Models are asked to be trained again: decided, on disk, asked for once, and told to people.

The leader alone. A decision is in the store before its hook is called; one that is found there unfinished after a
restart is not asked for a second time, and people are told that nobody knows.
"""

import asyncio
import secrets as chance
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gpuwarden.aggregator import retrain_words as words
from gpuwarden.aggregator.retrain_record import KIND, WHY_MAX_CHARS, from_body, to_body
from gpuwarden.clock import Clock
from gpuwarden.config_retrain import RetrainConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.evaluate.quality.intervals import wilson
from gpuwarden.evaluate.quality.retrain import (
    ModelState,
    RetrainDecision,
    RetrainPolicy,
    Training,
    decide,
)
from gpuwarden.log import get_log
from gpuwarden.model.drift import DriftState, DriftVerdict
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.model.retrain import RetrainRecord, RetrainState, Turn
from gpuwarden.ports_evaluation import Document, Documents

LOOK_S = 5.0
LATE_S = 30.0
"""Labels of windows that ended less long ago may still grow."""
KEEP_EVERY_S = 600.0
"""So often counts go to disk where nothing is decided; in between they are counted again from the windows."""
BACKOFF_S = 2.0
TOLD_S = 900.0
"""So long a decision is a claim: people are told of each."""
AGAIN_S = 900.0
"""After a hook that was surely not reached."""
OWN = "gpuwarden"


class Hook(Protocol):
    """One receiver: ``adapters.retrain_hook``."""

    def deliver(self, ident: str, evidence: Mapping[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Labels of one service. ``fresh``: those of windows that began between what was counted before and
    ``upto_wall``, doubtful ones with them; ``labels`` and ``correct``: of those that are fit for an accuracy."""

    upto_wall: float
    fresh: float = 0.0
    labels: int = 0
    correct: int = 0
    first_labels: int = 0
    first_correct: int = 0
    """Since the last training."""


class Known(Protocol):
    """What retraining has to know of services; it blocks for a moment."""

    def labelled(
        self, service: str, after_wall: float, since_wall: float, over_s: float, upto_wall: float
    ) -> Labelled: ...

    def drift(self, service: str) -> Sequence[DriftVerdict]: ...

    def held(self, service: str) -> str:
        """Why nothing of it may change now; empty: it may."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """On disk, and to be asked for now. ``before``: what holds again where it surely was not taken."""

    cfg: RetrainConfig
    record: RetrainRecord
    evidence: Mapping[str, Any]
    before: RetrainState


class Retrains:
    """``keep`` is the chore; ``claims`` and ``notes`` are for any thread."""

    def __init__(
        self,
        configs: Sequence[RetrainConfig],
        documents: Documents,
        known: Known,
        hook_of: Callable[[RetrainConfig], Hook | None],
        clock: Clock,
        leads: Callable[[], bool],
    ) -> None:
        self._documents, self._known, self._clock = documents, known, clock
        self._hook_of, self._leads = hook_of, leads
        self.configs = tuple(configs)
        self._begun: set[str] = set()
        """Decisions of this life."""
        self._kept_at: dict[str, float] = {}
        self._states: dict[str, tuple[RetrainState, RetrainDecision]] = {}
        self._held: dict[str, str] = {}
        """By service, why nothing of it may change now."""
        self._claims: tuple[FleetClaim, ...] = ()
        self.delivered = self.failed = self.failures = 0

    async def keep(self) -> None:
        """For ever."""
        while True:
            due = await asyncio.to_thread(self.look)
            if due:
                await asyncio.gather(*(asyncio.to_thread(self.carry_out, each) for each in due))
            await asyncio.sleep(LOOK_S)

    def look(self) -> list[Due]:
        """One pass; what is to be carried out now is on disk."""
        if not self._leads():
            self._claims = ()
            return []
        due = []
        for cfg in self.configs:
            try:
                found = self._look(cfg)
            except GpuwardenError as error:
                get_log().warning("retrain_waits", service=cfg.service, reason=str(error))
                continue
            except Exception as error:  # noqa: BLE001  the boundary: one service takes no other along
                self.failures += 1
                get_log().error("retrain_failed", service=cfg.service, reason=repr(error))
                continue
            if found is not None:
                due.append(found)
        self._tell()
        return due

    def _look(self, cfg: RetrainConfig) -> Due | None:
        wall = self._clock.wall()
        document = self._documents.get(KIND, cfg.service)
        state = _state(document, cfg.service, wall)
        last = state.last
        if last is not None and last.turn is Turn.INTENDED and last.id not in self._begun:
            said_now = (
                "the aggregator ended while it was under way: whether it was taken is not known"
            )
            state = _ended(state, replace(last, turn=Turn.UNKNOWN, said=said_now))
            document = self._put(state, document)
            get_log().error("retrain_unknown", service=cfg.service, decision=last.id)
        found = self._labelled(cfg, state, wall)
        had_baseline = state.baseline is not None
        state = replace(
            state,
            labels=state.labels + found.fresh,
            upto_wall=found.upto_wall,
            baseline=_baseline(cfg, state, found),
        )
        verdicts = self._known.drift(cfg.service)
        self._held[cfg.service] = held = self._known.held(cfg.service)
        model = _model(cfg, state, found, verdicts, is_frozen=bool(held))
        decision = _decided(cfg, state, model, wall)
        self._states[cfg.service] = (state, decision)
        if decision.training is Training.NONE:
            # A baseline is of the first labels: of more it would follow what it is there to judge.
            is_new = state.baseline is not None and not had_baseline
            if is_new or wall - self._kept_at.get(cfg.service, float("-inf")) >= KEEP_EVERY_S:
                self._put(state, document)
                self._kept_at[cfg.service] = wall
            return None
        record = RetrainRecord(
            id=chance.token_hex(8),
            training=decision.training.value,
            turn=Turn.INTENDED,
            wall=wall,
            why=words.why(decision)[:WHY_MAX_CHARS],
        )
        evidence = words.evidence(cfg, record, decision, model, verdicts)
        self._put(_decided_on(state, record), document)
        self._begun.add(record.id)
        get_log().warning(
            "retrain_decided", service=cfg.service, decision=record.id, why=record.why
        )
        return Due(cfg=cfg, record=record, evidence=evidence, before=state)

    def _labelled(self, cfg: RetrainConfig, state: RetrainState, wall: float) -> Labelled:
        since = state.since_wall if state.trained_wall is None else state.trained_wall
        return self._known.labelled(
            cfg.service, state.upto_wall, since, cfg.accuracy_over_s, wall - LATE_S
        )

    def carry_out(self, due: Due) -> None:
        """Ask for it, so many times as are allowed; what became of it is on disk and told."""
        record = self._asked(due)
        self.delivered += record.turn is Turn.DELIVERED
        self.failed += record.turn is Turn.FAILED
        get_log().warning(
            "retrain_asked", decision=record.id, turn=record.turn.value, said=record.said
        )
        try:
            document = self._documents.get(KIND, due.cfg.service)
            state = _state(document, due.cfg.service, record.wall)
            if state.last is None or state.last.id != record.id:
                raise Refused("another decision came between")
            state = _ended(state, record)
            if record.turn is Turn.FAILED:
                before = due.before
                state = replace(
                    state,
                    trained_wall=before.trained_wall,
                    baseline=before.baseline,
                    labels=state.labels + before.labels,
                )
            self._put(state, document)
        except GpuwardenError as error:
            get_log().error("retrain_not_recorded", decision=record.id, reason=str(error))

    def _asked(self, due: Due) -> RetrainRecord:
        record = due.record
        hook = self._hook_of(due.cfg)
        if hook is None:
            return replace(record, turn=Turn.TOLD, said="no hook is set: people were told")
        said = ""
        for attempt in range(1, due.cfg.attempts + 1):
            try:
                said = hook.deliver(record.id, due.evidence)
                return replace(record, turn=Turn.DELIVERED, said=said, attempts=attempt)
            except Unavailable as error:
                said = str(error)
            except GpuwardenError as error:
                return replace(record, turn=Turn.FAILED, said=str(error), attempts=attempt)
            except Exception as error:  # noqa: BLE001  the boundary: a hook takes nothing along
                self.failures += 1
                said = f"internal: {error!r}"
                return replace(record, turn=Turn.FAILED, said=said, attempts=attempt)
            if attempt < due.cfg.attempts:
                self._clock.sleep(BACKOFF_S * attempt)
        return replace(record, turn=Turn.FAILED, said=said, attempts=due.cfg.attempts)

    def _put(self, state: RetrainState, before: Document | None) -> Document:
        after = 0 if before is None else before.revision
        wall = self._clock.wall()
        return self._documents.put(
            KIND, state.service, to_body(state), who=OWN, wall=wall, after=after
        )

    def _tell(self) -> None:
        wall = self._clock.wall()
        self._claims = tuple(
            FleetClaim(
                key=f"retrain {service}",
                severity=Severity.WARNING,
                summary=f"service {service}: {words.said(state.last)}",
            )
            for service, (state, _) in sorted(self._states.items())
            if state.last is not None and wall - state.last.wall < TOLD_S
        )

    def claims(self) -> tuple[FleetClaim, ...]:
        return self._claims

    def notes(self, service: str) -> list[str]:
        """What of it is to be read in the service's report."""
        known = self._states.get(service)
        if known is None:
            return []
        state, decision = known
        found = [f"retraining: {words.said(each)}" for each in state.records[-3:]]
        if decision.holds:
            holds = ", ".join(each.value for each in decision.holds)
            why = f" ({self._held[service]})" if self._held.get(service) else ""
            found.append(f"retraining: {decision.wanted.value} wanted, held by {holds}{why}")
        found.append(f"retraining: {state.labels:.0f} new labels")
        return found

    def counters(self) -> dict[str, int]:
        return {
            "retrains_delivered": self.delivered,
            "retrains_failed": self.failed,
            "retrain_failures": self.failures,
        }


def _state(document: Document | None, service: str, wall: float) -> RetrainState:
    if document is None:
        return RetrainState(service=service, since_wall=wall, upto_wall=wall)
    return from_body(document.body)


def _decided_on(state: RetrainState, record: RetrainRecord) -> RetrainState:
    """From here on labels are new ones."""
    return replace(
        state,
        trained_wall=record.wall,
        labels=0.0,
        baseline=None,
        records=(*state.records, record),
    )


def _ended(state: RetrainState, record: RetrainRecord) -> RetrainState:
    return replace(state, records=(*state.records[:-1], record))


def _baseline(cfg: RetrainConfig, state: RetrainState, found: Labelled) -> float | None:
    if state.baseline is not None or found.first_labels < cfg.baseline_labels:
        return state.baseline
    return found.first_correct / found.first_labels


def _model(
    cfg: RetrainConfig,
    state: RetrainState,
    found: Labelled,
    verdicts: Sequence[DriftVerdict],
    *,
    is_frozen: bool,
) -> ModelState:
    features = {each.feature for verdict in verdicts for each in verdict.features}
    drifted = {name for v in verdicts if v.state is DriftState.DRIFT for name in v.drifted}
    low = high = None
    if found.labels:
        low, high = wilson(found.correct, found.labels)
    return ModelState(
        trained_wall=state.trained_wall,
        accuracy_baseline=cfg.baseline if cfg.baseline is not None else state.baseline,
        accuracy_low=low,
        accuracy_high=high,
        features=len(features),
        drifted=tuple(sorted(drifted)),
        new_labels=int(state.labels),
        is_frozen=is_frozen,
    )


def _decided(
    cfg: RetrainConfig, state: RetrainState, model: ModelState, wall: float
) -> RetrainDecision:
    """By the calendar a model that nobody was seen to train counts from when it was first looked at."""
    policy = RetrainPolicy(
        every_s=cfg.every_s,
        accuracy_drop=cfg.accuracy_drop,
        drifted_share=cfg.drifted_share,
        incremental_labels=cfg.incremental_labels,
        full_drop=cfg.full_drop,
        labels_min=cfg.labels_min,
        cooldown_s=cfg.cooldown_s,
    )
    last = state.last
    if last is not None and last.turn is Turn.FAILED and 0 <= wall - last.wall < AGAIN_S:
        return RetrainDecision(training=Training.NONE, next_wall=last.wall + AGAIN_S)
    if model.trained_wall is None and wall - state.since_wall >= cfg.cooldown_s:
        model = replace(model, trained_wall=state.since_wall)
    return decide(policy, model, wall)
