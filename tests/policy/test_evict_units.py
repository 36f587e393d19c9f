"""A unit that systemd starts again whenever it dies: the order to stop it goes first, and is final."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.action import Kind
from gpuwarden.model.memory import Rung
from tests.policy.builders import rung_of
from tests.policy.test_evict import HOG, Play

UNIT = replace(HOG, runtime="systemd-service", restart_policy="always")


def play_to_the_hold(runtime: str = "systemd-service") -> Play:
    """The unit stands still, and its manager was asked."""
    play = Play(replace(UNIT, runtime=runtime))
    play.story.settle = False
    play.step()
    assert play.step() == [Kind.FREEZE, Kind.RESTART_OFF]
    return play


@pytest.mark.parametrize("runtime", ["systemd-service", "nspawn"])
def test_the_order_to_stop_it_goes_first(runtime: str) -> None:
    play = play_to_the_hold(runtime)
    assert play.step() == []
    play.story.answer(play.story.looks[-2])
    assert play.step() == [Kind.TERM, Kind.THAW, Kind.STOP]


@pytest.mark.parametrize("policy", ["no", "", None])
def test_one_that_is_not_restarted_is_not_held(policy: str | None) -> None:
    play = Play(replace(UNIT, restart_policy=policy))
    play.step()
    assert play.step() == [Kind.TERM, Kind.STOP]


@pytest.mark.parametrize("rung", [Rung.HELD, Rung.TERMED])
def test_one_with_the_order_to_stop_is_never_said_to_go_on(rung: Rung) -> None:
    """Its bytes may be back: systemd ends it all the same."""
    play = play_to_the_hold()
    play.story.answer(play.story.looks[-1])
    if rung is Rung.TERMED:
        play.step()
        assert rung_of(play.story.mem, UNIT) is rung
    play.used = 1_000
    play.step()
    assert rung_of(play.story.mem, UNIT) is Rung.TERMED
    assert play.until(Rung.KILLED) == pytest.approx(10.0, abs=0.2)


def test_one_whose_stop_was_not_taken_may_still_obey() -> None:
    play = play_to_the_hold()
    play.used = 1_000
    play.step()
    assert rung_of(play.story.mem, UNIT) is None


def test_one_that_ends_by_that_order_alone_was_evicted() -> None:
    """A frozen process that does not handle TERM dies of it where it stands."""
    play = play_to_the_hold()
    play.story.answer(play.story.looks[-1])
    play.dies()
    play.step()
    assert rung_of(play.story.mem, UNIT) is None
    assert UNIT.owner_key is not None
    assert len(play.story.mem.tombstones[UNIT.owner_key].evicted_wall) == 1
