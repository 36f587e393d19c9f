"""What becomes of memory when outcomes come in: nothing that is owed is forgotten, nothing is owed
that was never taken."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.memory import Debt, Memory, Rung, host_key, limit_key
from tests.policy.builders import (
    NOW,
    case,
    device_id,
    device_memory,
    memory,
    outcome,
    remembering,
    rung_of,
    target,
    tenant,
)

HOG, OTHER = tenant("hog"), tenant("other")
TAKEN = {
    Kind.FREEZE: Kind.THAW,
    Kind.THROTTLE: Kind.UNTHROTTLE,
    Kind.RESTART_OFF: Kind.RESTART_BACK,
    Kind.SET_LIMIT: Kind.CLEAR_LIMIT,
}


def debt(kind: Kind, *, on: int | None = None, old: dict[str, str] | None = None) -> Debt:
    return Debt(
        tenant=HOG.id,
        kind=kind,
        target=target(HOG),
        incident=IncidentId("inc"),
        device=None if on is None else device_id(on),
        old=tuple((old or {}).items()),
    )


def owing(*debts: Debt) -> Memory:
    return memory(debts=debts)


class TestDebts:
    @pytest.mark.parametrize("kind", sorted(TAKEN.values()))
    @pytest.mark.parametrize(
        ("result", "is_settled"),
        [
            (Result.DONE, True),
            (Result.REFUSED, True),  # it is not the same thing any more
            (Result.UNSUPPORTED, True),
            (Result.FAILED, False),
            (Result.UNKNOWN, False),
            (Result.STARTED, False),
        ],
    )
    def test_giving_back(self, kind: Kind, result: Result, is_settled: bool) -> None:
        after = owing(debt(kind)).after((outcome(kind, HOG, result),))
        assert (after.debts == ()) is is_settled

    @pytest.mark.parametrize("kind", sorted(TAKEN))
    @pytest.mark.parametrize(
        ("result", "is_owed"),
        [
            (Result.DONE, True),
            (Result.FAILED, True),  # it may have had its effect, or have it later
            (Result.UNKNOWN, True),
            (Result.STARTED, True),
            (Result.REFUSED, False),
            (Result.UNSUPPORTED, False),
        ],
    )
    def test_taking(self, kind: Kind, result: Result, is_owed: bool) -> None:
        after = owing(debt(TAKEN[kind])).after((outcome(kind, HOG, result),))
        assert bool(after.debts) is is_owed

    def test_what_was_there_first_is_owed(self) -> None:
        first = outcome(Kind.RESTART_OFF, HOG, old={"Name": "always"})
        again = outcome(Kind.RESTART_OFF, HOG, old={"Name": "no", "MaximumRetryCount": "0"})
        after = owing(debt(Kind.RESTART_BACK)).after((first, again))
        assert dict(after.debts[0].old)["Name"] == "always"

    def test_what_was_known_when_it_was_ordered_stays_owed_without_an_outcome(self) -> None:
        known = debt(Kind.RESTART_BACK, old={"restart_policy": "always"})
        after = owing(known).after((outcome(Kind.RESTART_OFF, HOG, Result.UNKNOWN),))
        assert dict(after.debts[0].old) == {"restart_policy": "always"}

    def test_what_was_noted_before_anything_was_changed_is_owed_without_an_outcome(self) -> None:
        noted = outcome(Kind.THROTTLE, HOG, Result.STARTED, old={"cpu.max": "max 100000"})
        after = owing(debt(Kind.UNTHROTTLE)).after((noted,))
        after = after.after((outcome(Kind.THROTTLE, HOG, Result.UNKNOWN),))
        assert dict(after.debts[0].old) == {"cpu.max": "max 100000"}

    @pytest.mark.parametrize("kind", sorted(TAKEN.values()))
    def test_an_undo_that_may_not_have_happened_is_due_at_once(self, kind: Kind) -> None:
        before = owing(replace(debt(kind), due_wall=1e12))
        assert before.after((outcome(kind, HOG, Result.FAILED),)).debts[0].due_wall == 1e12
        assert before.after((outcome(kind, HOG, Result.UNKNOWN),)).debts[0].due_wall is None

    @pytest.mark.parametrize("kind", sorted(TAKEN))
    def test_what_became_of_an_older_order_settles_nothing(self, kind: Kind) -> None:
        """A slow worker tells late that it gave back, when the same has been taken once more."""
        undo = TAKEN[kind]
        taken_again = owing(replace(debt(undo), ordered="a/9"))
        late = outcome(undo, HOG, action="a/3")
        refused = outcome(kind, HOG, Result.REFUSED, action="a/2")
        assert taken_again.after((late, refused)).debts == taken_again.debts
        assert taken_again.after((outcome(undo, HOG, action="a/9"),)).debts == ()

    def test_limits_are_owed_device_by_device(self) -> None:
        both = owing(debt(Kind.CLEAR_LIMIT, on=0), debt(Kind.CLEAR_LIMIT, on=1))
        settled = both.after((outcome(Kind.CLEAR_LIMIT, HOG, on=1),))
        assert [d.device for d in settled.debts] == [device_id(0)]
        refused = both.after((outcome(Kind.SET_LIMIT, HOG, Result.UNSUPPORTED, on=0),))
        assert [d.device for d in refused.debts] == [device_id(1)]

    def test_somebody_elses_outcome_settles_nothing(self) -> None:
        for kind, result in itertools.product(Kind, Result):
            before = owing(*(debt(k) for k in TAKEN.values()))
            assert before.after((outcome(kind, OTHER, result),)).debts == before.debts


class TestCases:
    @pytest.mark.parametrize(
        ("result", "is_off"), [(Result.DONE, True), (Result.FAILED, False), (Result.UNKNOWN, False)]
    )
    def test_a_restart_policy_is_off_only_when_the_runtime_said_so(
        self, result: Result, is_off: bool
    ) -> None:
        waiting = case(HOG, Rung.HELD, is_restart_settled=False, is_restart_off=False)
        after = remembering(waiting).after((outcome(Kind.RESTART_OFF, HOG, result),))
        settled = after.cases[HOG.id]
        assert settled.is_restart_settled
        assert settled.is_restart_off is is_off

    @pytest.mark.parametrize(
        ("rung", "back_on"), [(Rung.HELD, Rung.WARNED), (Rung.TERMED, Rung.TERMED)]
    )
    def test_who_was_held_for_an_answer_that_never_came_is_held_again(
        self, rung: Rung, back_on: Rung
    ) -> None:
        waiting = case(HOG, rung, is_restart_settled=False, frozen_since=NOW)
        after = remembering(waiting).after((outcome(Kind.RESTART_OFF, HOG, Result.UNKNOWN),))
        assert rung_of(after, HOG) is back_on
        assert (after.cases[HOG.id].frozen_since is None) is (rung is Rung.HELD)

    @pytest.mark.parametrize("result", sorted(set(Result) - {Result.STARTED}))
    def test_an_mps_server_that_has_answered_is_not_waited_for(self, result: Result) -> None:
        waiting = case(HOG, Rung.HELD, is_mps=True, is_detached=False)
        after = remembering(waiting).after((outcome(Kind.DETACH, HOG, result),))
        assert after.cases[HOG.id].is_detached is (result is not Result.UNKNOWN)
        assert after.cases[HOG.id].is_unsure is (result is Result.UNKNOWN)
        assert rung_of(after, HOG) is Rung.HELD

    def test_handed_to_a_worker_is_no_answer(self) -> None:
        waiting = case(HOG, Rung.HELD, is_restart_settled=False)
        before = remembering(waiting)
        assert before.after((outcome(Kind.RESTART_OFF, HOG, Result.STARTED),)) is before

    @pytest.mark.parametrize("result", sorted(set(Result) - {Result.DONE, Result.STARTED}))
    def test_a_freeze_that_did_not_come_back_as_done_holds_nothing(self, result: Result) -> None:
        held = remembering(case(HOG, Rung.HELD, frozen_since=NOW))
        after = held.after((outcome(Kind.FREEZE, HOG, result),))
        assert after.cases[HOG.id].frozen_since is None

    @pytest.mark.parametrize(
        ("kind", "rung", "back_on"),
        [(Kind.KILL, Rung.KILLED, Rung.TERMED), (Kind.STOP, Rung.STOPPED, Rung.KILLED)],
    )
    def test_a_rung_the_agent_died_in_is_met_again(
        self, kind: Kind, rung: Rung, back_on: Rung
    ) -> None:
        before = remembering(case(HOG, rung, since=1.0))
        after = before.after((outcome(kind, HOG, Result.UNKNOWN),))
        assert rung_of(after, HOG) is back_on
        assert after.cases[HOG.id].since == 1.0
        for result in set(Result) - {Result.UNKNOWN}:
            assert rung_of(before.after((outcome(kind, HOG, result),)), HOG) is rung

    def test_but_not_a_stop_that_went_with_another_rung(self) -> None:
        before = remembering(case(HOG, Rung.TERMED))
        assert rung_of(before.after((outcome(Kind.STOP, HOG, Result.UNKNOWN),)), HOG) is Rung.TERMED

    def test_a_term_is_never_sent_twice(self) -> None:
        before = remembering(case(HOG, Rung.TERMED))
        assert rung_of(before.after((outcome(Kind.TERM, HOG, Result.UNKNOWN),)), HOG) is Rung.TERMED


APPLIED = {limit_key(HOG.id, device_id(0)): "1/2", host_key(HOG.id): "3/4", "else": "5"}


class TestLimits:
    def told(self, result: Result) -> dict[str, str]:
        after = memory(applied=APPLIED).after(
            (
                outcome(Kind.SET_LIMIT, HOG, result, on=0),
                outcome(Kind.SET_HOST_LIMITS, HOG, result),
            )
        )
        return dict(after.applied)

    def test_what_failed_is_known_to_have_failed(self) -> None:
        failed = dict.fromkeys(APPLIED, f"failed {NOW:.3f}")
        assert self.told(Result.FAILED) == {**failed, "else": "5"}

    def test_what_may_not_have_happened_is_ordered_again_at_once(self) -> None:
        assert self.told(Result.UNKNOWN) == {"else": "5"}

    def test_what_was_done_stays(self) -> None:
        assert self.told(Result.DONE) == APPLIED

    def test_what_was_not_ordered_has_not_failed(self) -> None:
        before = memory()
        assert before.after((outcome(Kind.SET_LIMIT, HOG, Result.FAILED, on=0),)) == before


@pytest.mark.parametrize(
    ("result", "is_told", "tried_at"),
    [
        (Result.DONE, True, NOW),
        (Result.UNSUPPORTED, True, NOW),
        (Result.FAILED, False, NOW),
        (Result.REFUSED, False, NOW),
        (Result.UNKNOWN, False, 0.0),
    ],
)
def test_a_cordon_counts_as_told_when_it_was(
    result: Result, is_told: bool, tried_at: float
) -> None:
    """Of which nobody knows is told again at once, what failed after a while."""
    standing = device_memory(cordoned_by=IncidentId("inc-1"), cordon_tried_at=1.0)
    owing = device_memory(uncordon_owed=IncidentId("inc-1"), cordon_tried_at=1.0)
    before = memory(devices={device_id(0): standing, device_id(1): owing})
    after = before.after(
        (
            outcome(Kind.CORDON, result=result, on=0, tenant=None),
            outcome(Kind.UNCORDON, result=result, on=1, tenant=None),
        )
    )
    cordon, uncordon = (after.devices[device_id(n)] for n in (0, 1))
    assert (cordon.is_cordon_told, cordon.cordon_tried_at) == (is_told, tried_at)
    assert (uncordon.uncordon_owed is None, uncordon.cordon_tried_at) == (is_told, tried_at)


def test_nothing_is_changed_in_place() -> None:
    before = remembering(case(HOG, Rung.HELD), debts=tuple(debt(k) for k in TAKEN.values()))
    kept = replace(before, cases=dict(before.cases))
    for kind, result in itertools.product(Kind, Result):
        before.after((outcome(kind, HOG, result),))
    assert before == kept


def test_outcomes_of_nobody_change_nothing() -> None:
    before = remembering(case(HOG, Rung.HELD))
    assert before.after((replace(outcome(Kind.CORDON, HOG), tenant=None),)) is before
