"""Services by their own numbers: take what nodes tell, keep it, judge it, and say so. One thread, once a second.

The fleet's loop asks for ``claims``, which become incidents and pages there; whoever asks for a service gets the
newest ``view``. Nothing here waits for a node, and nothing that a node sends ends its stream.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import groupby

from gpuwarden.aggregator.arrivals import Arrival
from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.picture import Picture
from gpuwarden.aggregator.service_worth import numbers
from gpuwarden.aggregator.window_relay import WindowRelay
from gpuwarden.clock import Clock
from gpuwarden.config_evaluation import EvaluationConfig
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.evaluate.fast.series import KNOWN
from gpuwarden.evaluate.fast.window import merge
from gpuwarden.log import get_log
from gpuwarden.model.evaluation import Cohort, Colour, Verdict, Window
from gpuwarden.model.fitness import ServicesView, Standing
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.model.guardrail import Guardrail
from gpuwarden.policy.fleet import fitness, redlines
from gpuwarden.policy.fleet.fitness import Red
from gpuwarden.policy.fleet.parts import NOT_A_NODE
from gpuwarden.policy.fleet.redlines import Line, Subject
from gpuwarden.wire import window_check
from gpuwarden.wire.v1 import evaluation_pb2 as pb

TICK_S, WRITE_EVERY_S, AGE_EVERY_S, LOG_EVERY_S = 1.0, 2.0, 10.0, 60.0
NEWEST_S = 60.0
"""Of a standing: what the service did lately."""
LIVE_S = 900.0
"""A version or arm of which nothing has come for so long is judged no more; the service itself is, and a segment:
that old machines tell nothing any more is no good news of them."""
NODE_VERDICT_S = 900.0
KINDS = {name: series.kind.value for name, series in KNOWN.items()}
STANDING_SERIES = frozenset({"requests", "queue_length", "gpu_utilization"})


Explain = Callable[[Verdict], Red]
Taken = Callable[[str, int, int], None]
"""By node and stream, up to which window everything is in the store."""


class Services:
    """``hear`` is for any thread; ``view``, ``lines`` and ``claims`` are the newest picture."""

    def __init__(
        self,
        cfg: EvaluationConfig,
        specs: Iterable[Guardrail],
        picture: Picture,
        relay: WindowRelay,
        clock: Clock,
        lead: Callable[[], Lead],
    ) -> None:
        self.adopt(cfg, specs)
        self.picture = picture
        self._relay = relay
        self._clock = clock
        self._lead = lead
        self.explain: Explain = lambda verdict: Red(verdict=verdict)
        self.taken: Taken = lambda node, stream, upto: None
        self.beside: Callable[[list[Subject]], Iterable[Verdict]] = lambda subjects: ()
        self._wake = threading.Condition()
        self._arrivals: deque[Arrival] = deque()
        self._waiting_bytes = 0
        self._jobs: deque[Callable[[], None]] = deque()
        self._is_stopping = False
        self._reached: dict[tuple[str, int], int] = {}
        self._seen: dict[str, float] = {}
        """By service, when the newest of its windows ended (wall)."""
        self._cohort_seen: dict[Cohort, float] = {}
        self._node_heard: dict[str, float] = {}
        self.node_verdicts: dict[str, dict[tuple[str, Cohort], Verdict]] = {}
        """By node, what it says of its own share; read by others, replaced whole."""
        self.lines: Mapping[tuple[str, Cohort], Line] = {}
        self.subjects: tuple[Subject, ...] = ()
        self._claims: tuple[FleetClaim, ...] = ()
        self._written_at = self._aged_at = float("-inf")
        self._logged: dict[str, float] = {}
        self._is_loaded = False
        self.refused: Counter[str] = Counter()
        self.dropped = self.failures = 0
        self.view = ServicesView(serial=0, wall=clock.wall(), note="nothing was looked at yet")
        self._published = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="gpuwarden-services", daemon=True)

    def adopt(self, cfg: EvaluationConfig, specs: Iterable[Guardrail]) -> None:
        """Judge by it from the next pass on. Any thread; how much is kept stays as it was at the start."""
        self._cfg = cfg
        self.specs = {spec.name: redlines.at_the_centre(spec) for spec in specs}

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_s: float = 10.0) -> None:
        """What was taken is written, if the store takes it."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def hear(self, arrival: Arrival) -> None:
        with self._wake:
            self._arrivals.append(arrival)
            self._waiting_bytes += arrival.size
            while self._waiting_bytes > self._cfg.queue_mib * 2**20 and len(self._arrivals) > 1:
                old = self._arrivals.popleft()
                self._waiting_bytes -= old.size
                self.dropped += len(old.windows)

    def do(self, job: Callable[[], None]) -> None:
        """Have something done on the services' thread, which owns the picture."""
        with self._wake:
            self._jobs.append(job)
            self._wake.notify()

    @property
    def fault(self) -> str:
        """Why the picture has not all that is kept and that others hold; empty: it has."""
        return self._relay.fault or ("" if self._is_loaded else "what was known before is not read")

    def worth(self, service: str) -> list[pb.SeriesNumber]:
        """The services' thread: what it did and is worth."""
        return numbers(self.picture, service, self._clock.wall(), self._cfg.score)

    def claims(self) -> tuple[FleetClaim, ...]:
        return self._claims

    def counters(self) -> dict[str, int]:
        counts = self.picture.counts
        return {
            "service_windows": counts["taken"],
            "service_windows_duplicate": counts["duplicate"],
            "service_windows_late": counts["late"],
            "service_windows_crowded": counts["crowded"],
            "service_windows_refused": self.refused.total(),
            "service_windows_dropped": self.dropped
            + counts["evicted"]
            + self.picture.archive.dropped,
            "service_observations_dropped": counts["observations_dropped"],
            "service_series_unknown": counts["series_unknown"],
            "service_failures": self.failures + self._relay.failures,
        }

    def wait_newer(self, serial: int, timeout_s: float) -> ServicesView:
        with self._published:
            self._published.wait_for(lambda: self.view.serial > serial, timeout_s)
            return self.view

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_stopping or self._jobs, TICK_S)
                is_stopping = self._is_stopping
            try:
                self.look(is_last=is_stopping)
            except Exception as error:  # noqa: BLE001  the boundary: the next look sees the same again
                self.failures += 1
                get_log().error("services_failed", reason=repr(error))
            if is_stopping:
                return

    def look(self, *, is_last: bool = False) -> None:
        """One pass."""
        now, wall = self._clock.now(), self._clock.wall()
        with self._wake:
            arrivals, self._arrivals, self._waiting_bytes = self._arrivals, deque(), 0
            jobs, self._jobs = self._jobs, deque()
        if not self._is_loaded:
            self._load(wall)
        for arrival in arrivals:
            self._take(arrival, now, wall)
        if is_last or now - self._written_at >= WRITE_EVERY_S:
            self._written_at = now
            if self._relay.write():
                self._acknowledge()
            self._relay.read(wall)
        if now - self._aged_at >= AGE_EVERY_S:
            self._aged_at = now
            self._relay.close(self.picture.age(wall), wall, self._cfg.keep_s)
        self._judge(wall)
        for job in jobs:
            job()

    def _load(self, wall: float) -> None:
        try:
            self._relay.load(wall)
        except GpuwardenError as error:
            self._relay.fault = f"what was known before is not read: {error}"
            return
        self._is_loaded = True
        for cohort in self.picture.cohorts():
            self._note(self.picture.over([cohort], wall - self._cfg.forget_s, frozenset()), cohort)

    def _take(self, arrival: Arrival, now: float, wall: float) -> None:
        self._node_heard[arrival.node] = now
        upto = 0
        for message in arrival.windows:
            upto = max(upto, min(message.sequence, 2**62))
            try:
                told = window_check.from_window(message, KINDS, wall)
                why = self.picture.put(arrival.node, told, wall)
            except Refused as refused:
                self._refuse(arrival.node, str(refused), now)
                continue
            except Exception as error:  # noqa: BLE001  the boundary: one window takes no other along
                self.failures += 1
                self._refuse(arrival.node, f"internal: {error!r}", now)
                continue
            if not why:
                self._note([told.window], told.window.cohort)
        if upto:
            key = (arrival.node, arrival.stream)
            self._reached[key] = max(upto, self._reached.get(key, 0))
        if arrival.verdicts:
            self._take_verdicts(arrival, now, wall)

    def _take_verdicts(self, arrival: Arrival, now: float, wall: float) -> None:
        known: dict[tuple[str, Cohort], Verdict] = {}  # all that stand there are told each time
        for message in arrival.verdicts:
            try:
                verdict = window_check.from_verdict(message, wall)
            except Refused as refused:
                self._refuse(arrival.node, str(refused), now)
                continue
            known[verdict.guardrail, verdict.cohort] = verdict
        self.node_verdicts = {**self.node_verdicts, arrival.node: known}

    def _refuse(self, node: str, why: str, now: float) -> None:
        """Counted by field; said at most once a minute of a node."""
        self.refused[why.split(":", 1)[0].split(" ")[0][:64]] += 1
        if now - self._logged.get(node, float("-inf")) >= LOG_EVERY_S:
            self._logged[node] = now
            get_log().warning("service_window_refused", node=node, reason=why)

    def _note(self, windows: Iterable[Window], cohort: Cohort) -> None:
        ends = [w.begin_wall + w.length_s for w in windows]
        if not ends:
            return
        end = max(ends)
        self._cohort_seen[cohort] = max(end, self._cohort_seen.get(cohort, 0.0))
        self._seen[cohort.service] = max(end, self._seen.get(cohort.service, 0.0))

    def _acknowledge(self) -> None:
        reached, self._reached = self._reached, {}
        for (node, stream), upto in reached.items():
            self.taken(node, stream, upto)

    def _live(self, wall: float) -> list[Cohort]:
        """Cohorts that are judged; what is long gone is forgotten."""
        for cohort in self.picture.cohorts():  # of which others have told
            if cohort not in self._cohort_seen:
                self._note(self.picture.over([cohort], wall - LIVE_S, frozenset()), cohort)
        for service, seen in list(self._seen.items()):
            if wall - seen > self._cfg.forget_s:
                del self._seen[service]
        for cohort in list(self._cohort_seen):
            if cohort.service not in self._seen:
                del self._cohort_seen[cohort]
        live = [c for c, seen in self._cohort_seen.items() if wall - seen <= LIVE_S]
        told = {(c.service, c.segment) for c in live}
        live += [c for c in self._cohort_seen if c.segment and (c.service, c.segment) not in told]
        lonely = self._seen.keys() - {c.service for c in live}
        return [*live, *(Cohort(service=service) for service in lonely)]

    def _judge(self, wall: float) -> None:
        self._refresh(wall)
        subjects = redlines.subjects(self._live(wall))
        lines = self._judged(subjects, wall)
        self.lines, self.subjects = lines, tuple(subjects)
        self._drop_old_verdicts()
        by_service: dict[str, list[Verdict]] = {}
        for verdict in (*(line.verdict for line in lines.values()), *self.beside(subjects)):
            by_service.setdefault(verdict.cohort.service, []).append(verdict)
        services = {
            subject.cohort.service: self._standing(
                subject, by_service.get(subject.cohort.service, []), wall
            )
            for subject in subjects
            if subject.cohort == Cohort(service=subject.cohort.service)
        }
        lead = self._lead()
        note = self._relay.fault
        if not note:  # else what was claimed stands: half of the nodes say nothing of the whole
            self._claims = self._claimed(lines, services)
        with self._published:
            self.view = ServicesView(
                serial=self.view.serial + 1,
                wall=wall,
                services=services,
                is_leader=lead.is_ours,
                note=note,
            )
            self._published.notify_all()

    def _judged(self, subjects: list[Subject], wall: float) -> dict[tuple[str, Cohort], Line]:
        """Service by service: one that cannot be judged takes no other along, and what was said of it is no word
        of today."""
        lines: dict[tuple[str, Cohort], Line] = {}
        for service, its in groupby(subjects, key=lambda each: each.cohort.service):
            try:
                lines |= redlines.judged(
                    self.specs.values(), list(its), self.lines, self.picture.over, wall
                )
            except Exception as error:  # noqa: BLE001  the boundary
                self.failures += 1
                get_log().error("service_not_judged", service=service, reason=repr(error))
        return lines

    def _refresh(self, wall: float) -> None:
        """What others have told of cohorts that are known here too."""
        for cohort in list(self._cohort_seen):
            newest = self.picture.newest(cohort)
            if newest is not None and newest > self._cohort_seen[cohort]:
                self._cohort_seen[cohort] = min(newest, wall + window_check.AHEAD_S)
                self._seen[cohort.service] = max(
                    self._cohort_seen[cohort], self._seen.get(cohort.service, 0.0)
                )

    def _drop_old_verdicts(self) -> None:
        """Of nodes that tell nothing of services any more."""
        now = self._clock.now()
        gone = [n for n, at in self._node_heard.items() if now - at > NODE_VERDICT_S]
        for node in gone:
            del self._node_heard[node]
        if any(node in self.node_verdicts for node in gone):
            kept = {n: v for n, v in self.node_verdicts.items() if n not in gone}
            self.node_verdicts = kept

    def _claimed(
        self, lines: Mapping[tuple[str, Cohort], Line], services: Mapping[str, Standing]
    ) -> tuple[FleetClaim, ...]:
        reds = [
            self.explain(line.verdict)
            for line in lines.values()
            if line.verdict.colour is Colour.RED
        ]
        silent = [
            (standing.service, standing.age_s)
            for standing in services.values()
            if fitness.is_silent(standing, self._cfg.silent_after_s)
        ]
        return fitness.claims(self.specs, reds, silent, self._cfg.silent)

    def _standing(self, subject: Subject, verdicts: list[Verdict], wall: float) -> Standing:
        service = subject.cohort.service
        windows = self.picture.over(subject.made_of, wall - NEWEST_S - TICK_S, STANDING_SERIES)
        whole = merge(windows)
        seen = self._seen.get(service)
        standing = Standing(
            service=service,
            colour=Colour.UNKNOWN,
            why="no data",
            since_wall=wall,
            age_s=None if not seen else max(0.0, wall - seen),
            versions=tuple(sorted({c.version for c in subject.made_of if c.version})),
            nodes=self._nodes(subject, wall),
            requests_per_s=_rate(whole),
            queue_length=_mean(whole, "queue_length"),
            gpu_utilization=_mean(whole, "gpu_utilization"),
            verdicts=tuple(sorted(verdicts, key=lambda v: (v.guardrail, v.cohort))),
        )
        is_silent = fitness.is_silent(standing, self._cfg.silent_after_s)
        colour, why, since = fitness.colour_of(verdicts, is_silent=is_silent)
        before = self.view.services.get(service)
        if since is None:
            since = before.since_wall if before is not None and before.colour is colour else wall
        fit = fitness.fit_of(standing, self._cfg.silent_after_s)
        return replace(standing, colour=colour, why=why, since_wall=since, is_fit=fit)

    def _nodes(self, subject: Subject, wall: float) -> int:
        shares = self.picture.shares(subject.made_of, wall - NEWEST_S)
        return sum(not node.startswith(NOT_A_NODE) for node in shares)


def _rate(window: Window | None) -> float | None:
    if window is None or "requests" not in window.counts or window.length_s <= 0:
        return None
    return window.counts["requests"] / window.length_s


def _mean(window: Window | None, name: str) -> float | None:
    level = None if window is None else window.levels.get(name)
    return None if level is None or not level.count else level.total / level.count
