"""Drift of every service: windows of all nodes against profiles, and errors against their own past.

A thread of its own: what it computes would keep red lines waiting. It asks the services' thread for windows, judges
them by ``policy.fleet.driftlines`` (numpy, scipy and river are imported when there is something to judge, not
before), and publishes a view that others read or subscribe to. What it remembers is in the store, written by whoever
leads; after a start the windows that are kept fill what was open.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from gpuwarden.aggregator.drift_steps import Step, gathered
from gpuwarden.aggregator.picture import Picture
from gpuwarden.aggregator.profiles import KeptProfile, Profiles
from gpuwarden.clock import Clock
from gpuwarden.config_drift import DriftConfig
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.drift import DriftVerdict, DriftView
from gpuwarden.model.evaluation import Cohort, Verdict
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.policy.fleet import drift_claims
from gpuwarden.policy.fleet.redlines import Subject
from gpuwarden.ports_evaluation import Documents

if TYPE_CHECKING:
    from gpuwarden.evaluate.drift.profile_file import ProfileFile
    from gpuwarden.policy.fleet.driftlines import ServiceDrift

Result = TypeVar("Result")
Ask = Callable[[Callable[[], dict[str, list[Step]]]], dict[str, list[Step]]]
"""Has something done on the services' thread; ``Unavailable`` when it does not come to it."""

PASS_S = 15.0
WRITE_S = 6 * 3600.0
"""A memory that says nothing new is written so often; one that does, at once."""
STALE_S = 6 * 3600.0
"""A version of which nothing has come for so long is not what a service runs any more."""
FORGET_S = 7 * 86_400.0
MEMORY = "drift-memory"


class Drifts:
    """``view``, ``claims`` and ``beside`` are for any thread."""

    def __init__(
        self,
        cfg: DriftConfig,
        picture: Picture,
        ask: Ask,
        documents: Documents,
        clock: Clock,
        is_leading: Callable[[], bool],
        memories: Documents | None = None,
    ) -> None:
        """``memories``: where what is remembered is kept, if only whoever leads may write there."""
        self.cfg = self._used = cfg
        self.profiles = Profiles(documents)
        self._picture = picture
        self._ask = ask
        self._memories = documents if memories is None else memories
        self._clock = clock
        self._is_leading = is_leading
        self._services: dict[str, ServiceDrift] = {}
        self._kept: Mapping[Cohort, KeptProfile] = {}
        self._said: dict[Cohort, DriftVerdict] = {}
        self._marks: dict[str, tuple[object, float]] = {}
        self._is_loaded = False
        self._subscribers: list[Callable[[DriftView], None]] = []
        self.failures = 0
        self.fault = ""
        """Why the view is not that of now; empty: it is."""
        self.view = DriftView(serial=0, wall=clock.wall())
        self._wake = threading.Condition()
        self._is_stopping = self._is_due = False
        self._thread = threading.Thread(target=self._run, name="gpuwarden-drift", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_s: float = 10.0) -> None:
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def wake(self) -> None:
        """A profile has come, or gone."""
        with self._wake:
            self._is_due = True
            self._wake.notify()

    def subscribe(self, hear: Callable[[DriftView], None]) -> None:
        """Be told of each new view, on the drift's thread; what it raises is counted and said."""
        self._subscribers.append(hear)

    def claims(self) -> tuple[FleetClaim, ...]:
        return drift_claims.claims(self.view.verdicts.values(), self.cfg.then)

    def beside(self, subjects: Sequence[Subject]) -> list[Verdict]:
        """As verdicts of the services' view, on the cohorts that are judged there."""
        known = [subject.cohort for subject in subjects]
        holds = self.cfg.holds_rollouts
        return drift_claims.as_verdicts(self.view.verdicts.values(), known, holds=holds)

    def counters(self) -> dict[str, int]:
        states = [each.state.value for each in self.view.verdicts.values()]
        return {
            "drift_verdicts": len(states),
            "drift_drifting": states.count("drift"),
            "drift_failures": self.failures,
        }

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_stopping or self._is_due, PASS_S)
                is_stopping, self._is_due = self._is_stopping, False
            try:
                if is_stopping:
                    self._write(is_last=True)
                    return
                self.look()
            except Exception as error:  # noqa: BLE001  the boundary: the next look sees the same again
                self.failures += 1
                self.fault = f"drift is not judged: {error!r}"[:200]
                get_log().error("drift_failed", reason=repr(error))
                if is_stopping:
                    return

    def look(self) -> None:
        """One pass."""
        wall = self._clock.wall()
        try:
            self._kept = self.profiles.every()
            if not self._is_loaded:
                self._load()
                self._recall(wall)
            self._adopt()
            since = {
                cohort: judge.needed_since(cohort)
                for judge in self._services.values()
                for cohort in judge.cohorts
            }
            told = self._ask(lambda: gathered(self._picture, since, wall))
        except GpuwardenError as error:
            self.failures += 1
            self.fault = str(error)
            return
        self.fault = ""
        for service, steps in told.items():
            self._judge(service, steps)
        self._forget(wall)
        self._publish(wall)
        self._write()

    def _load(self) -> None:
        documents = self._memories.every(MEMORY)
        if documents:
            from gpuwarden.aggregator import drift_memories

            for document in documents:
                known = drift_memories.read(document.body)
                if known is None:
                    get_log().error("drift_memory_unread", key=document.key)
                    continue
                service, memory = known
                self._services[service] = self._made(service, memory)
        self._is_loaded = True

    def _recall(self, wall: float) -> None:
        """What was said last holds until there is something new: else a restart would end what is no better, and let
        a rollout on."""
        many = sum(len(each.cohorts) for each in self._services.values())
        streams = sum(each.streams for each in self._services.values())
        for service, judge in self._services.items():
            told = max(map(judge.told_wall, judge.cohorts), default=0.0)
            profiles = self._profiles_of(service)
            for verdict in judge.judge(profiles, told, cohorts=many, streams=streams):
                self._said[verdict.cohort] = verdict
        self._forget(wall)
        if self._said:
            self._publish(wall)

    def _profiles_of(self, service: str) -> "dict[Cohort, ProfileFile]":
        return {c: kept.profile for c, kept in self._kept.items() if c.service == service}

    def _adopt(self) -> None:
        """Settings that were read again: what was open is filled again."""
        if self._used is not self.cfg:
            self._used = self.cfg
            known = {name: judge.memory for name, judge in self._services.items()}
            self._services = {name: self._made(name, each) for name, each in known.items()}

    def _made(self, service: str, memory: object = None) -> "ServiceDrift":
        from gpuwarden.aggregator.drift_memories import settings_of
        from gpuwarden.policy.fleet.drift_memory import ServiceMemory
        from gpuwarden.policy.fleet.driftlines import ServiceDrift

        known = memory if isinstance(memory, ServiceMemory) else None
        return ServiceDrift(service, settings_of(self.cfg), known)

    def _judge(self, service: str, steps: Sequence[Step]) -> None:
        """Step by step, so that a drift of an hour ago is not thinned by what came since."""
        judge = self._services.get(service)
        if judge is None:
            judge = self._services[service] = self._made(service)
        profiles = self._profiles_of(service)
        many = sum(len(each.cohorts) for each in self._services.values())
        streams = sum(each.streams for each in self._services.values())
        for place, step in enumerate(steps):
            judge.feed(step.cohort, step.window)
            if place + 1 < len(steps) and steps[place + 1].end_wall == step.end_wall:
                continue
            for verdict in judge.judge(profiles, step.end_wall, cohorts=many, streams=streams):
                self._said[verdict.cohort] = verdict

    def _forget(self, wall: float) -> None:
        for service, judge in list(self._services.items()):
            kept = [c for c in judge.cohorts if wall - judge.told_wall(c) <= FORGET_S]
            judge.forget(kept)
            if not kept:
                del self._services[service]
        live = {
            cohort
            for judge in self._services.values()
            for cohort in judge.cohorts
            if wall - judge.told_wall(cohort) <= STALE_S
        }
        self._said = {cohort: said for cohort, said in self._said.items() if cohort in live}

    def _publish(self, wall: float) -> None:
        if self._said == self.view.verdicts and self.view.serial:
            return
        self.view = DriftView(serial=self.view.serial + 1, wall=wall, verdicts=dict(self._said))
        for hear in self._subscribers:
            try:
                hear(self.view)
            except Exception as error:  # noqa: BLE001  the boundary: one takes no other along
                self.failures += 1
                get_log().error("drift_subscriber_failed", reason=repr(error))

    def _write(self, *, is_last: bool = False) -> None:
        """Memories that say something new, or were not written for long; by whoever leads."""
        if not self._is_leading():
            return
        wall = self._clock.wall()
        for service, judge in self._services.items():
            mark = _mark(self._said[c] for c in judge.cohorts if c in self._said)
            before, at = self._marks.get(service, (None, wall - WRITE_S))
            if mark == before and wall - at < WRITE_S and not is_last:
                continue
            from gpuwarden.aggregator import drift_memories

            try:
                drift_memories.write(self._memories, service, judge.memory, wall)
            except GpuwardenError as error:
                self.failures += 1
                get_log().warning("drift_memory_not_kept", service=service, reason=str(error))
                if not isinstance(error, Refused):
                    return  # the store is ill: each of the others would wait for it, too
                continue
            self._marks[service] = (mark, wall)


def _mark(verdicts: Iterable[DriftVerdict]) -> object:
    """What is worth writing at once when it changes: states, not numbers."""
    return tuple(
        (
            each.cohort,
            tuple((f.feature, f.state) for f in each.features),
            tuple((s.stream, s.state) for s in each.streams),
        )
        for each in verdicts
    )
