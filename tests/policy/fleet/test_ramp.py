"""A rollout: its stages walked over every event, and what it takes to take a step, or to go back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.config_ramp import RampConfig
from gpuwarden.model.ramp import ACTIVE, OVER, Ramp, Stage, Way
from gpuwarden.policy.fleet.ramp import (
    GAP_MAX_S,
    TABLE,
    Back,
    Event,
    Look,
    Trial,
    Word,
    moved,
    step,
    wanted,
)

CFG = RampConfig(soak_s=600.0, cause_s=300.0)
EVERY_S = 60.0


def ramp(**rest: Any) -> Ramp:
    return Ramp(
        **{"id": "r", "service": "risk", "version": "v2", "base": "v1", "may_undo": True, **rest}
    )


class Play:
    """A rollout looked at once a minute, whose shares are told as it wants them."""

    def __init__(self, **rest: Any) -> None:
        self.ramp = ramp(**rest)
        self.now_s = 0.0
        self.share = self.ramp.share

    def at(self) -> Stage:
        return self.ramp.stage

    def see(self, minutes: int = 1, **look: Any) -> Ramp:
        for _ in range(minutes):
            self.now_s += EVERY_S
            seen = Look(**{"now_s": self.now_s, "word": Word.GREEN, "share": self.share, **look})
            self.ramp = step(CFG, self.ramp, seen)
            share = wanted(CFG, self.ramp, seen)
            if share is not None:
                self.share = share
        return self.ramp


# --- the table ---


@pytest.mark.parametrize(("at", "event"), list(itertools.product(Stage, Event)))
@pytest.mark.parametrize("before", sorted(ACTIVE))
def test_every_stage_meets_every_event(at: Stage, event: Event, before: Stage) -> None:
    after = moved(at, event, before)
    assert after in Stage
    if at in OVER:
        assert after is at, "what is over stays over"


@pytest.mark.parametrize("at", Stage)
def test_every_stage_can_come_to_its_end(at: Stage) -> None:
    reached = {at}
    while more := {moved(s, e, Stage.CANARY) for s in reached for e in Event} - reached:
        reached |= more
    assert reached & OVER


def test_nothing_is_undone_but_by_blame_or_a_person() -> None:
    into = {event for (_, event), after in TABLE.items() if after is Stage.UNDOING}
    assert into == {Event.BLAMED, Event.ABORT}


def test_shares_move_only_while_nothing_is_wrong() -> None:
    for stage in Stage:
        look = Look(now_s=0.0, word=Word.RED, share=0.25)
        share = wanted(CFG, ramp(stage=stage, share=0.25), look)
        assert share is None or stage in OVER


# --- its way ---


def test_a_canary_climbs_step_by_step_and_holds_each() -> None:
    play = Play()
    steps: list[tuple[float, float]] = []
    for _ in range(200):
        play.see()
        if not steps or steps[-1][1] != play.share:
            steps.append((play.now_s, play.share))
    assert [share for _, share in steps] == [0.05, 0.25, 0.45, 0.65, 0.85, 1.0]
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(steps)]
    assert all(gap >= CFG.soak_s for gap in gaps), gaps
    assert play.at() is Stage.DONE


def test_no_numbers_no_step() -> None:
    play = Play()
    play.see(3)
    play.see(500, word=Word.UNKNOWN, why="latency_s: no-data")
    assert (play.at(), play.share) == (Stage.CANARY, 0.05)
    assert "latency_s: no-data" in play.ramp.why


def test_time_in_which_nobody_looked_does_not_count() -> None:
    held = replace(ramp(), looked_s=0.0, share=0.05)
    seen = Look(now_s=GAP_MAX_S + 1, word=Word.GREEN, share=0.05)
    assert step(CFG, held, seen).held_s == 0.0
    assert step(CFG, held, replace(seen, now_s=GAP_MAX_S)).held_s == GAP_MAX_S
    assert step(CFG, replace(held, looked_s=1e9), seen).held_s == 0.0, "a clock that went back"


def test_a_gatekeeper_tests_then_bets_then_climbs() -> None:
    play = Play(way=Way.GATEKEEPER)
    play.see(15)
    assert play.at() is Stage.GATE
    play.see(60)
    assert (play.at(), play.share) == (Stage.GATE, 0.5), "an open test is no pass"
    play.see(test=Trial.NO_WORSE)
    assert play.at() is Stage.BANDIT
    play.see(30, weights={"new": 0.7, "base": 0.3}, sure=0.9)
    assert (play.at(), play.share) == (Stage.BANDIT, 0.7)
    play.see(30, weights={"new": 0.9, "base": 0.1}, sure=0.96)
    assert play.at() in (Stage.CLIMB, Stage.DONE)
    play.see(60)
    assert (play.at(), play.share) == (Stage.DONE, 1.0)


def test_an_untrusted_split_decides_nothing() -> None:
    play = Play(way=Way.GATEKEEPER)
    play.see(15)
    share = play.share
    play.see(100, test=Trial.NO_WORSE, is_trusted=False)
    assert (play.at(), play.ramp.why) == (
        Stage.GATE,
        "the split is not what it should be: readings are withheld",
    )
    play.see(5, test=Trial.WORSE, is_trusted=False)
    assert play.at() is Stage.GATE, "nor is it read against it"
    bandit = Play(way=Way.GATEKEEPER, stage=Stage.BANDIT, share=share)
    bandit.see(60, weights={"new": 0.9}, sure=0.99, is_trusted=False)
    assert (bandit.at(), bandit.share) == (Stage.BANDIT, share)


def test_a_pause_stops_its_steps_and_not_its_watch() -> None:
    play = Play(is_paused=True, paused_by="ops")
    play.see(100)
    assert (play.at(), play.share) == (Stage.CANARY, 0.0)
    assert play.ramp.why == "paused by ops"
    assert play.see(word=Word.RED, why="p99").stage is Stage.BREACHED


def test_a_freeze_stops_its_steps_and_not_its_watch() -> None:
    play = Play()
    play.see(3)
    play.see(100, is_frozen=True)
    assert (play.at(), play.share, play.ramp.why) == (Stage.CANARY, 0.05, "shares are frozen")
    assert play.see(word=Word.RED, is_frozen=True).stage is Stage.BREACHED


# --- a breach ---


@pytest.mark.parametrize("stage", sorted(ACTIVE))
def test_a_breach_freezes_the_share_and_is_rolled_back_once_the_gpus_are_ruled_out(
    stage: Stage,
) -> None:
    play = Play(stage=stage, share=0.45)
    assert play.see(word=Word.RED, why="latency p99 812 ms > 500 ms").stage is Stage.BREACHED
    assert play.see(word=Word.RED).stage is Stage.BREACHED, (
        "not before it is known what the GPUs did"
    )
    assert play.see(word=Word.RED, is_gpu=False, cause="nothing befell them").stage is Stage.UNDOING
    assert play.share == 0.45
    assert "812 ms" in play.ramp.why
    assert play.see(5, word=Word.RED, back=Back.RUNNING).stage is Stage.UNDOING
    assert play.see(back=Back.DONE).stage is Stage.UNDONE
    assert "rolled back to v1" in play.ramp.why


def test_what_the_gpus_explain_is_not_rolled_back_and_goes_on_when_it_is_over() -> None:
    play = Play(stage=Stage.CLIMB, share=0.45)
    play.see(word=Word.RED, why="p99")
    found = play.see(word=Word.RED, is_gpu=True, cause="node a: neighbour hog over its quota")
    assert found.stage is Stage.EXCUSED
    assert found.cause == "node a: neighbour hog over its quota"
    assert play.see(30, word=Word.RED).stage is Stage.EXCUSED
    assert play.see(30, word=Word.UNKNOWN).stage is Stage.EXCUSED, "no data is no good news"
    assert play.share == 0.45
    assert play.see(word=Word.GREEN).stage is Stage.CLIMB
    assert play.ramp.held_s == 0.0, "it holds anew"


def test_without_leave_or_knowledge_a_person_is_asked() -> None:
    asked = Play(stage=Stage.CLIMB, share=0.25, may_undo=False)
    asked.see(word=Word.RED, why="p99")
    assert asked.see(word=Word.RED, is_gpu=False).stage is Stage.WAITING
    unknown = Play(stage=Stage.CLIMB, share=0.25)
    unknown.see(word=Word.RED, why="p99")
    assert unknown.see(6, word=Word.RED, cause="node b is not heard").stage is Stage.WAITING
    assert "node b is not heard" in unknown.ramp.why


def test_a_rollback_that_fails_waits_for_a_person_and_an_abort_tries_again() -> None:
    play = Play(stage=Stage.UNDOING, share=0.05)
    assert play.see(back=Back.FAILED, word=Word.RED).stage is Stage.WAITING
    play.ramp = replace(play.ramp, is_wanted_back=True)
    assert play.see(word=Word.RED).stage is Stage.UNDOING
    assert play.see(back=Back.DONE).stage is Stage.UNDONE


@pytest.mark.parametrize("stage", [*sorted(ACTIVE), Stage.BREACHED, Stage.EXCUSED, Stage.WAITING])
def test_a_person_may_abort_from_everywhere(stage: Stage) -> None:
    play = Play(stage=stage, is_wanted_back=True, may_undo=False)
    assert play.see(word=Word.UNKNOWN).stage is Stage.UNDOING


def test_what_was_undone_is_let_go_of_slowly() -> None:
    look = Look(now_s=0.0, share=0.45)
    assert wanted(CFG, ramp(stage=Stage.UNDONE, share=0.45), look) == 0.0
    assert wanted(CFG, ramp(stage=Stage.UNDONE), replace(look, is_frozen=True)) is None
