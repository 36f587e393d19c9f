"""Drift at the aggregator: from windows of many nodes to a verdict, a claim, a held rollout, and on after a restart."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gpuwarden.aggregator import drift_memories
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.drift_steps import Step, judged_cohorts, steps
from gpuwarden.aggregator.drifts import FORGET_S, STALE_S, Drifts
from gpuwarden.aggregator.on_services import of_whole
from gpuwarden.aggregator.service_causes import Causes
from gpuwarden.aggregator.service_numbers import ServiceNumbers
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.evaluate.drift import profile, profile_file
from gpuwarden.evaluate.drift.profile_file import ProfileFile
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.drift import DriftState, DriftView
from gpuwarden.model.evaluation import Cohort, Colour, Window
from gpuwarden.model.finding import Severity
from gpuwarden.policy.fleet.drift_memory import LineSettings
from gpuwarden.policy.fleet.driftlines import ServiceDrift
from gpuwarden.policy.fleet.ramp import Word
from tests.aggregator.services_told import WALL, Bench, bench, message

V1 = Cohort(service="scan", version="v1")
OLD = Cohort(service="scan", version="v1", segment="old")
MINUTE = WALL // 60 * 60


class Desk:
    """Services and drift on the test's clock, and nodes that tell."""

    def __init__(self, it: Bench) -> None:
        self.it = it
        self.sequence = 0
        self.drifts = self.made()

    def made(self) -> Drifts:
        it = self.it

        def ask(job: Callable[[], dict[str, list[Step]]]) -> dict[str, list[Step]]:
            return of_whole(it.services, job)

        drifts = Drifts(
            it.cfg.drift,
            it.picture,
            ask,
            StoreDocuments(it.store, it.committer),
            it.clock,
            lambda: it.is_leader,
            StoreDocuments(it.store, it.committer, lambda: it.epoch if it.is_leader else None),
        )
        it.services.beside = drifts.beside
        return drifts

    def minute(
        self, n: int, cohort: Cohort = V1, loc: float = 0.0, wrong: int = 0, rows: int = 200
    ) -> None:
        """Two nodes tell six windows each of a minute; then two minutes pass."""
        r = random.Random(f"{n} {cohort} {loc}")
        begin = MINUTE + 60.0 * n
        for node in ("n1", "n2"):
            for k in range(6):
                values = [r.gauss(loc, 1) for _ in range(rows // 12 + 1)]
                told = Window(
                    cohort=cohort,
                    begin_wall=begin + 10.0 * k,
                    length_s=10.0,
                    sketches={"feature.age": sketch.of(values)},
                    counts={"labels": 20.0, "correct": 20.0 - wrong} if k == 0 else {},
                )
                self.sequence += 1
                self.it.tell(node, message(told, self.sequence))
        self.it.clock.at = begin + 60.0
        self.it.services.look()

    def look(self) -> DriftView:
        """Once what was told is settled."""
        self.it.clock.at += 121.0
        self.it.services.look()
        self.drifts.look()
        self.it.services.look()
        assert not self.drifts.fault
        return self.drifts.view

    def push(self, cohort: Cohort = V1, loc: float = 0.0) -> None:
        values = np.random.default_rng(1).normal(loc, 1, 5000)
        file = ProfileFile(rows=5000, features={"age": profile.of_numbers(values)})
        text = profile_file.write(file)
        self.drifts.profiles.put(cohort, text, who="ann", wall=self.it.clock.wall())

    def state(self, cohort: Cohort = V1) -> DriftState:
        return self.drifts.view.verdicts[cohort].state


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with bench(tmp_path, drift={"rows": 150}) as it:
        yield Desk(it)


def test_a_shift_is_seen_claimed_and_holds_a_rollout(desk: Desk) -> None:
    desk.push()
    heard: list[DriftView] = []
    desk.drifts.subscribe(heard.append)
    desk.minute(0)
    desk.look()
    assert desk.state() is DriftState.NOT_ENOUGH  # of errors; the feature is stable
    assert desk.drifts.claims() == ()
    desk.minute(3, loc=1.5)
    view = desk.look()
    verdict = view.verdicts[V1]
    assert verdict.drifted == ("age",)
    (claim,) = desk.drifts.claims()
    assert claim.key == "drift scan"
    assert claim.severity is Severity.WARNING
    assert "age (mean" in claim.summary
    assert "version v1" in claim.summary
    standing = desk.it.services.view.services["scan"]
    red = [v for v in standing.verdicts if v.colour is Colour.RED]
    assert [v.guardrail for v in red] == ["data-drift"]
    assert standing.is_fit is not False  # no request is turned away for it
    numbers = ServiceNumbers(
        desk.it.services,
        Causes(desk.it.services, desk.it.store, desk.it.clock, frozenset),
        desk.it.clock,
    )
    word, why = numbers.word("scan", "v1", "")
    assert word is Word.UNKNOWN
    assert "data-drift" in why
    assert numbers.weather(0.0).drifting == 1
    assert heard[-1] is view
    assert view.of("scan") == (verdict,)


def test_where_drift_is_to_hold_nothing_it_holds_nothing(tmp_path: Path) -> None:
    said = {"rows": 150, "holds_rollouts": False, "then": "ignore"}
    with bench(tmp_path, drift=said) as it:
        desk = Desk(it)
        desk.push()
        desk.minute(0, loc=2.0)
        desk.look()
        assert desk.state() is DriftState.DRIFT
        assert desk.drifts.claims() == ()
        numbers = ServiceNumbers(
            it.services, Causes(it.services, it.store, it.clock, set), it.clock
        )
        assert "data-drift" not in numbers.word("scan", "v1", "")[1]
        assert numbers.weather(0.0).drifting == 0


def test_errors_are_judged_without_a_profile(desk: Desk) -> None:
    for n in range(0, 60, 3):
        desk.minute(n, wrong=1, rows=12)
        desk.look()
    assert desk.state() is DriftState.NOT_ENOUGH
    memory = desk.drifts._services["scan"].memory.cohorts[V1].errors
    assert memory.labels == 20 * 40


def test_a_minute_counts_once_however_often_and_late_it_comes(desk: Desk) -> None:
    desk.push()
    desk.minute(0, rows=60)
    desk.minute(0, rows=60)
    desk.look()
    desk.look()
    (row,) = desk.drifts.view.verdicts[V1].features
    assert "72 of 150 rows" in row.why


def test_it_goes_on_after_a_restart(desk: Desk) -> None:
    desk.push()
    desk.minute(0, loc=2.0)
    since = desk.look().verdicts[V1].since_wall
    desk.minute(3, loc=2.0, rows=60)
    desk.look()
    desk.drifts.stop()
    again = desk.drifts = desk.made()
    again.look()
    assert desk.state() is DriftState.DRIFT
    assert again.view.verdicts[V1].since_wall == since
    desk.minute(6, loc=0.0, rows=60)
    desk.minute(7, loc=0.0, rows=60)
    desk.look()
    errors = again._services["scan"].memory.cohorts[V1].errors
    assert errors.labels == 4 * 40  # none twice, none lost


def test_a_minute_that_may_not_be_whole_waits(desk: Desk) -> None:
    desk.push()
    desk.minute(0)
    desk.it.clock.at += 30.0
    desk.it.services.look()
    desk.drifts.look()
    assert desk.drifts.view.verdicts == {}
    desk.look()
    assert V1 in desk.drifts.view.verdicts


def test_who_does_not_lead_writes_nothing(desk: Desk) -> None:
    desk.push()
    desk.it.is_leader = False
    desk.minute(0, loc=2.0)
    desk.look()
    assert desk.state() is DriftState.DRIFT
    assert desk.it.store.documents("drift-memory") == []
    desk.it.is_leader = True
    desk.drifts.look()
    assert len(desk.it.store.documents("drift-memory")) == 1


def test_a_memory_that_cannot_be_read_is_left_and_said(desk: Desk) -> None:
    documents = StoreDocuments(desk.it.store, desk.it.committer)
    bodies = (b"{]", zlib.compress(b"{]"), zlib.compress(b'{"format": 9}'), b"")
    for number, body in enumerate(bodies):
        documents.put("drift-memory", f"{number}", body, who="gpuwarden", wall=WALL, after=0)
    desk.push()
    desk.minute(0)
    desk.look()
    assert V1 in desk.drifts.view.verdicts


def test_a_version_of_which_nothing_comes_is_no_word_of_today(desk: Desk) -> None:
    desk.push()
    desk.minute(0, loc=2.0)
    desk.look()
    assert desk.drifts.claims()
    desk.it.clock.at += STALE_S
    desk.drifts.look()
    assert desk.drifts.claims() == ()
    assert desk.drifts.view.verdicts == {}
    desk.it.clock.at += FORGET_S
    desk.drifts.look()
    assert desk.drifts._services == {}


def test_new_settings_hold_from_the_next_pass_on(desk: Desk) -> None:
    desk.push()
    desk.minute(0, rows=60)
    desk.look()
    desk.drifts.cfg = desk.it.cfg.drift.model_copy(update={"rows": 100})
    desk.minute(3, rows=60)
    desk.look()
    (row,) = desk.drifts.view.verdicts[V1].features
    assert row.rows == 144  # both minutes


def test_services_that_are_busy_leave_the_view_as_it_was(desk: Desk) -> None:
    def busy(job: object) -> dict[str, list[Step]]:
        raise Unavailable("the services are busy")

    desk.drifts._ask = busy
    desk.drifts.look()
    assert desk.drifts.fault == "the services are busy"
    assert desk.drifts.failures == 1


def test_one_subscriber_takes_no_other_along(desk: Desk) -> None:
    heard: list[DriftView] = []

    def bad(view: DriftView) -> None:
        raise RuntimeError("no")

    desk.drifts.subscribe(bad)
    desk.drifts.subscribe(heard.append)
    desk.minute(0)
    desk.look()
    assert heard


def test_profiles_are_kept_replaced_and_dropped(desk: Desk) -> None:
    profiles = desk.drifts.profiles
    desk.push()
    desk.push(OLD, loc=4.0)
    desk.push(OLD, loc=5.0)
    found = profiles.every()
    assert sorted(found) == [V1, OLD]
    assert (found[OLD].revision, found[OLD].who) == (2, "ann")
    again = desk.made().profiles.every()
    assert again == found
    assert profiles.drop(OLD, who="bob", wall=WALL)
    assert not profiles.drop(OLD, who="bob", wall=WALL)
    assert list(profiles.every()) == [V1]
    desk.push(OLD)
    assert profiles.every()[OLD].revision == 4
    for text in ("{}", "[1", '{"format": "x", "rows": 1, "features": {}}'):
        with pytest.raises(Refused):
            profiles.put(V1, text, who="ann", wall=WALL)


def test_a_profile_that_is_too_large_for_the_store_is_refused(desk: Desk) -> None:
    names = {f"a category with a long name, number {i}, {'x' * 60}": 5 for i in range(200)}
    wide = {"kind": "category", "counts": names, "other": 0, "missing": 0}
    text = json.dumps(
        {
            "format": profile_file.FORMAT,
            "rows": 1000,
            "features": {f"f{i}": wide for i in range(20)},
        }
    )
    with pytest.raises(Refused, match="at most"):
        desk.drifts.profiles.put(V1, text, who="ann", wall=WALL)


def test_a_wide_memory_fits_a_document() -> None:
    segments = [Cohort(service="scan", version="v1", segment=f"s{n}") for n in range(32)]
    judge = ServiceDrift("scan", LineSettings())
    values = {f"feature.f{i}": sketch.of([1.0]) for i in range(64)}
    for cohort in segments:
        told = Window(cohort=cohort, begin_wall=MINUTE, length_s=60.0, sketches=values)
        judge.feed(cohort, told)
    judge.judge({}, MINUTE + 60)
    body: list[bytes] = []

    class Documents:
        def get(self, kind: str, key: str) -> None:
            return None

        def put(self, kind: str, key: str, data: bytes, **more: object) -> None:
            body.append(data)

    drift_memories.write(Documents(), "scan", judge.memory, WALL)  # type: ignore[arg-type]
    assert len(body[0]) < 256 * 1024
    assert drift_memories.read(body[0]) == ("scan", judge.memory)


def test_versions_and_segments_are_judged_apart_and_arms_as_one() -> None:
    base = Cohort(service="scan", version="v1", arm="base", segment="old")
    new = Cohort(service="scan", version="v1", arm="new", segment="old")
    plain = Cohort(service="scan", version="v2")
    assert judged_cohorts([new, base, plain]) == {
        V1: (base, new),
        OLD: (base, new),
        Cohort(service="scan", version="v2"): (plain,),
    }


def test_steps_are_whole_minutes() -> None:
    def told(begin: float, length: float, name: str = "feature.age") -> Window:
        return Window(
            cohort=V1,
            begin_wall=MINUTE + begin,
            length_s=length,
            sketches={name: sketch.of([1.0])},
        )

    found = steps(
        [told(70, 10), told(0, 10), told(50, 10), told(900, 900), told(120, 60, "latency_s")]
    )
    spans = [(each.begin_wall - MINUTE, each.length_s) for each in found]
    assert spans == [(0, 60), (60, 60), (900, 900)]
    assert sketch.count(found[0].sketches["feature.age"]) == 2


def test_scores_that_fall_are_a_claim_and_the_next_leader_knows_their_baseline(desk: Desk) -> None:
    def told(n: int, fall: float) -> None:
        r = random.Random(n)
        for node in ("n1", "n2"):
            stars = [float(min(5, max(1, round(r.gauss(4 - fall, 1))))) for _ in range(60)]
            window = Window(
                cohort=V1,
                begin_wall=MINUTE + 60.0 * n,
                length_s=60.0,
                sketches={"score": sketch.of(stars)},
            )
            desk.sequence += 1
            desk.it.tell(node, message(window, desk.sequence))
        desk.it.clock.at = MINUTE + 60.0 * (n + 1)
        desk.it.services.look()

    for n in range(12):
        told(n, 0.0)
    desk.look()
    assert desk.drifts.claims() == ()
    desk.drifts.stop()
    desk.drifts = desk.made()
    for n in range(12, 20):
        told(n, 1.2)
    desk.look()
    (claim,) = desk.drifts.claims()
    assert claim.key == "drift scan"
    assert "became worse: score" in claim.summary
    (score,) = desk.drifts.view.verdicts[V1].streams
    assert score.baseline_labels >= 1000
    assert score.baseline is not None
    assert 3.7 < score.baseline < 4.1
