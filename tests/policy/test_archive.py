"""Incidents as people read them: what was decided, what became of it, what to do next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.action import Kind, Outcome, Result, Withheld
from gpuwarden.model.decision import Decision, Incident, IncidentNote, IncidentStep, NoteKind
from gpuwarden.model.ids import IncidentId
from gpuwarden.policy import advice, archive
from gpuwarden.policy.archive import MAX_CLOSED, MAX_POINTS, MAX_STEPS, Archive
from tests.policy.builders import (
    MIB,
    NOW,
    PROTECTED,
    WALL,
    Story,
    config,
    device_id,
    gpu,
    memory,
    service,
    snap,
    standing,
    tenant,
    use,
)

HOG = replace(
    tenant("hog", quota_mib=10_000),
    identity=(("image", "ml/train:3"), ("user", "alice")),
    owner_key="compose:ml/train",
)
OTHER = tenant("other", cls=PROTECTED, quota_mib=None)
INC = IncidentId("inc-1")


def note(
    kind: NoteKind = NoteKind.OPENED, incident: IncidentId = INC, **rest: object
) -> IncidentNote:
    return IncidentNote(incident=incident, kind=kind, text=f"{kind} text", **rest)  # type: ignore[arg-type]


def noted(kept: Archive, *notes: IncidentNote, at: float = NOW) -> Archive:
    ended = {n.incident for n in notes if n.kind is NoteKind.CLOSED}
    known = {i.id for i in kept.incidents if i.closed_at is None} | {n.incident for n in notes}
    still = memory(open_incidents={f"node/{i}": i for i in known - ended})
    return archive.decided(config(), kept, snap(at), Decision(memory=still, incidents=notes))[0]


class Told:
    """A whole eviction through decide and the archive, as the node's loop does it."""

    def __init__(self, mode: str = "enforce") -> None:
        self.story = Story(config(mode), settle=False)
        self.kept = Archive()

    def see(self, at: float, used_mib: int, result: Result = Result.DONE) -> None:
        there = [HOG] if used_mib else []
        decision = self.story.see(
            at,
            tenants=there,
            uses=[use(HOG, used_mib)] if there else [],
            standings=(standing(HOG, is_populated=bool(there)),),
            services=(service("risk", who="other"),) if used_mib > 0 else (),
        )
        look = snap(
            at,
            gpus=[gpu(at=at, listed_at=at)],
            tenants=[*there, OTHER],
            uses=[use(OTHER, 5, at=at), *([use(HOG, used_mib, at=at)] if there else [])],
            services=(service("risk", who=OTHER),) if used_mib > 0 else (),
        )
        self.kept, _ = archive.decided(self.story.cfg, self.kept, look, decision)
        outcomes = tuple(
            Outcome(
                action=a.id,
                kind=a.kind,
                incident=a.incident,
                tenant=a.target.tenant if a.target else None,
                device=a.device,
                result=result,
                at=at,
                wall=WALL + at,
                detail="" if result is Result.DONE else "no such luck",
            )
            for a in decision.actions
        )
        self.story.mem = self.story.mem.after(outcomes)
        self.kept, _ = archive.concluded(self.kept, outcomes)

    @property
    def incident(self) -> Incident:
        return next(i for i in self.kept.incidents if i.tenant == HOG.id)


class TestOneEviction:
    @pytest.fixture
    def told(self) -> Told:
        told = Told()
        for at, used in ((NOW, 20_000), (NOW + 0.2, 22_000), (NOW + 0.4, 22_000), (NOW + 0.6, 0)):
            told.see(at, used)
        return told

    def test_who_how_much_and_when(self, told: Told) -> None:
        incident = told.incident
        assert (incident.tenant_name, incident.tenant_class, incident.runtime) == (
            "hog",
            "low",
            "docker",
        )
        assert (incident.quota_bytes, incident.peak_bytes) == (10_000 * MIB, 22_000 * MIB)
        assert (incident.noticed_at, incident.decided_at) == (NOW, NOW + 0.2)
        assert incident.closed_at == NOW + 0.6
        assert incident.device == device_id(0)

    def test_who_it_was_is_known_after_it_has_gone(self, told: Told) -> None:
        who = dict(told.incident.evidence)
        assert (who["image"], who["user"], who["owner"]) == (
            "ml/train:3",
            "alice",
            "compose:ml/train",
        )
        assert who["pids"] == ", ".join(str(pid.pid) for pid in HOG.pids)

    def test_each_step_with_what_became_of_it(self, told: Told) -> None:
        steps = {s.kind: s.result for s in told.incident.steps}
        assert steps["warn"] == steps["term"] == "done"
        assert told.incident.outcome == "tenant ended on request"

    def test_bytes_over_time(self, told: Told) -> None:
        points = dict(told.incident.points)
        assert points[NOW] == 20_000 * MIB
        assert points[NOW + 0.2] == 22_000 * MIB

    def test_who_was_harmed_and_what_to_do(self, told: Told) -> None:
        assert told.incident.harmed == ("risk",)
        assert any("more than its quota" in line for line in told.incident.advice)

    def test_a_failure_is_told_with_its_reason(self) -> None:
        told = Told()
        told.see(NOW, 20_000)
        told.see(NOW + 0.2, 22_000, Result.FAILED)
        (term,) = [s for s in told.incident.steps if s.kind == "term"]
        assert (term.result, term.text.endswith("[no such luck]")) == ("failed", True)

    def test_what_an_agent_that_died_may_have_done_is_told_as_such(self) -> None:
        told = Told()
        told.see(NOW, 20_000)
        told.see(NOW + 0.2, 22_000, Result.UNKNOWN)
        told.see(NOW + 0.4, 0)
        assert told.incident.outcome == "tenant ended on request, as far as known"

    def test_observe_mode_says_what_was_withheld(self) -> None:
        told = Told("observe")
        told.see(NOW, 20_000)
        told.see(NOW + 0.2, 22_000)
        assert any(s.kind == "withheld" and s.action == "observe" for s in told.incident.steps)
        assert told.incident.mode == "observe"
        assert any("only observes" in line for line in told.incident.advice)


class TestBounds:
    def test_open_ones_are_never_dropped_closed_ones_are(self) -> None:
        kept = Archive()
        for n in range(MAX_CLOSED + 50):
            kept = noted(kept, note(incident=IncidentId(f"open-{n}")), at=NOW + n)
            shut = IncidentId(f"shut-{n}")
            kept = noted(kept, note(incident=shut), note(NoteKind.CLOSED, shut), at=NOW + n)
        assert sum(i.closed_at is None for i in kept.incidents) == MAX_CLOSED + 50
        assert sum(i.closed_at is not None for i in kept.incidents) == MAX_CLOSED
        assert kept.of(IncidentId("shut-0")) is None
        assert kept.of(IncidentId(f"shut-{MAX_CLOSED + 49}")) is not None

    def test_steps_are_bounded_and_it_still_closes(self) -> None:
        kept = noted(Archive(), note())
        for n in range(MAX_STEPS + 50):
            kept = noted(kept, note(NoteKind.EVIDENCE), at=NOW + n)
        kept = noted(kept, note(NoteKind.CLOSED), at=NOW + 999)
        (incident,) = kept.incidents
        assert len(incident.steps) == MAX_STEPS
        assert incident.closed_at == NOW + 999

    def test_points_are_bounded_and_keep_both_ends(self) -> None:
        told = Told("observe")
        for n in range(3 * MAX_POINTS):
            told.see(NOW + n / 5, 20_000 + n)
        points = told.incident.points
        assert len(points) <= MAX_POINTS
        assert points[0] == (NOW, 20_000 * MIB)
        assert points[-1][1] == (20_000 + 3 * MAX_POINTS - 1) * MIB
        assert list(points) == sorted(points)

    def test_a_size_that_stays_is_two_points(self) -> None:
        told = Told("observe")
        for n in range(50):
            told.see(NOW + n / 5, 20_000)
        assert len(told.incident.points) <= 3


class TestAdvice:
    def incident(
        self, *steps: tuple[str, str, str], rule: str = "quota", closed: bool = True
    ) -> tuple[str, ...]:
        return advice.advise(
            Incident(
                id=INC,
                rule=rule,
                summary="",
                opened_at=NOW,
                opened_wall=WALL,
                tenant_name="hog",
                device=device_id(0),
                closed_at=NOW + 1 if closed else None,
                steps=tuple(
                    IncidentStep(at=NOW, wall=WALL, kind=k, text="", result=r, action=a)
                    for k, r, a in steps
                ),
            )
        )

    def test_never_empty_once_it_is_over(self) -> None:
        assert self.incident() == ("Nothing: it passed by itself.",)
        assert self.incident(closed=False) == ()

    @pytest.mark.parametrize(
        ("steps", "word"),
        [
            ([("kill", "done", "")], "raise the quota"),
            ([("term", "done", "")], "raise the quota"),
            ([("cordon", "done", "")], "nvidia-smi --gpu-reset -i GPU-0"),
            ([("cordon", "done", ""), ("uncordon", "done", "")], "is used again"),
            ([("relocate", "done", "")], ".replaced-"),
            ([("restart-off", "done", "")], "will be given back"),
            ([("restart-off", "failed", "")], "may start hog again"),
            ([("withheld", "", "cannot-act")], "end the job by hand"),
            ([("withheld", "", "protected")], "may not be touched"),
            ([("withheld", "", "undescribed")], "Its runtime has not told"),
            ([("withheld", "", "journal")], "make room"),
            ([("page", "failed", "")], "could not be put down safely"),
            ([("page", "done", ""), ("notify", "failed", "")], "Nobody could be told yet"),
            ([("page", "unsupported", "")], "no [oncall] sink is set"),
        ],
    )
    def test_what_happened_decides_it(self, steps: list[tuple[str, str, str]], word: str) -> None:
        assert any(word in line for line in self.incident(*steps))

    @pytest.mark.parametrize("told", ["delivered", "folded"])
    def test_where_somebody_knows_nothing_is_said_of_it(self, told: str) -> None:
        steps = [("page", "failed", ""), ("notify", "refused", ""), ("notify", told, "")]
        assert not any("told" in line or "know" in line for line in self.incident(*steps))

    def test_a_policy_that_was_given_back_is_not_waited_for(self) -> None:
        steps = [("restart-off", "done", ""), ("restart-back", "done", "")]
        assert not any("will be given back" in line for line in self.incident(*steps))

    @pytest.mark.parametrize(
        ("rule", "word"),
        [
            ("unattributed", "UVM"),
            ("sight", "doctor"),
            ("slo", "the service itself"),
            ("locked", "does no work"),
            ("reserve", "move a tenant"),
            ("tombstone", "stop"),
            ("host", "df"),
        ],
    )
    def test_by_rule_while_it_lasts(self, rule: str, word: str) -> None:
        assert any(word in line for line in self.incident(rule=rule, closed=False))

    def test_who_went_for_the_reserve_was_not_over_its_quota(self) -> None:
        (line,) = self.incident(("term", "done", ""), rule="reserve")
        assert "quota" not in line

    def test_what_was_withheld_and_then_done_is_not_asked_for(self) -> None:
        steps = [("withheld", "", "journal"), ("term", "done", "")]
        assert not any("make room" in line for line in self.incident(*steps))


def test_what_was_withheld_names_whom_it_would_have_hit() -> None:
    kept = noted(Archive(), note(tenant=HOG.id))
    held = [
        Withheld(
            kind=Kind.RELOCATE,
            incident=INC,
            tenant=who.id,
            device=device_id(0),
            budget="operator",
            detail="allow_protected_restart is off",
        )
        for who in (OTHER, HOG)
    ]
    decision = Decision(
        memory=memory(open_incidents={"node/x": INC}), withheld=tuple(held), incidents=()
    )
    look = snap(NOW, tenants=[HOG, OTHER])
    told = archive.decided(config(), kept, look, decision)[0].of(INC)
    assert told is not None
    assert [s.text for s in told.steps if s.kind == "withheld"] == [
        "relocate of other withheld: allow_protected_restart is off",
        "relocate withheld: allow_protected_restart is off",
    ]


def test_outcomes_of_incidents_nobody_kept_change_nothing() -> None:
    kept = noted(Archive(), note())
    stranger = Outcome(
        action="x",
        kind=Kind.WARN,
        incident=IncidentId("limits/docker:hog"),
        tenant=HOG.id,
        device=None,
        result=Result.DONE,
        at=NOW,
        wall=WALL,
    )
    assert archive.concluded(kept, (stranger,)) == (kept, ())
    assert replace(stranger, action="y") != stranger


def test_a_quiet_decision_touches_nothing() -> None:
    kept = Archive()
    same, changed = archive.decided(config(), kept, snap(), Decision(memory=memory()))
    assert same is kept
    assert changed == ()


def test_who_suffers_elsewhere_is_not_harmed_by_it() -> None:
    """Two services are red; only one of them lives on the device of the incident."""
    here, there = tenant("here", cls=PROTECTED), tenant("there", cls=PROTECTED)
    look = snap(
        gpus=[gpu(0), gpu(1)],
        tenants=[HOG, here, there],
        uses=[use(HOG, 20_000), use(here, 5), use(there, 5, on=1)],
        services=(service("near", who=here), service("far", who=there)),
    )
    decision = Decision(memory=memory(), incidents=(note(device=device_id(0), tenant=HOG.id),))
    kept, _ = archive.decided(config(), Archive(), look, decision)
    assert kept.incidents[0].harmed == ("near",)


def test_a_service_s_own_incident_names_it() -> None:
    serve = tenant("serve", cls=PROTECTED)
    look = snap(tenants=[serve], services=(service("risk", who=serve),))
    decision = Decision(memory=memory(), incidents=(note(rule="slo", tenant=serve.id),))
    kept, _ = archive.decided(config(), Archive(), look, decision)
    assert kept.incidents[0].harmed == ("risk",)


def test_an_incident_of_another_boot_does_not_stay_open_for_ever() -> None:
    """The host was started anew while it was open: its memory names it no more, its clock is another."""
    kept = noted(Archive(), note(), at=5_000.0)
    later = snap(at=12.0, wall=WALL + 5_000.0 + 90.0)
    kept, changed = archive.decided(config(), kept, later, Decision(memory=memory()))
    (incident,) = kept.incidents
    assert changed == (incident,)
    assert incident.closed_wall == WALL + 5_090.0
    assert incident.closed_at is not None
    assert incident.closed_at - incident.opened_at == 90.0
    assert "started anew" in incident.steps[-1].text


def test_the_last_size_is_that_of_the_end() -> None:
    told = Told()
    for at, used in ((NOW, 20_000), (NOW + 0.2, 22_000), (NOW + 0.4, 22_000), (NOW + 0.6, 0)):
        told.see(at, used)
    assert told.incident.points[-1] == (NOW + 0.6, 0)
