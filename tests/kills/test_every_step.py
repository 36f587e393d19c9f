"""The agent dies at every step of every action, and everything ends as it would have ended.

The steps are those the code enumerates: a new one that no play reaches fails here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from gpuwarden.node.steps import STEPS
from tests.kills.conftest import Undisturbed
from tests.kills.deaths import DOWN_S, Run, perform
from tests.kills.plays import PLAYS, Play
from tests.kills.verdict import faults

TIMES = 6
"""How often each play is gone through with several deaths in it."""
Told = Callable[[str, object], None]
by_name = pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)


def check(run: Run, undisturbed: Run) -> None:
    """Fails with what is wrong and what happened."""
    wrong = faults(run, undisturbed)
    died = [".".join(step) for step in run.steps.died_at]
    story = run.world.ledger.timeline()
    assert not wrong, "\n".join([f"{run.play.name}: died at {died}", *wrong, "", story])


@by_name
def test_a_play_orders_what_it_says_and_ends_well(play: Play, undisturbed: Undisturbed) -> None:
    run = undisturbed(play)
    ordered = {kind for kind, _ in run.steps.reached_at}
    assert play.orders <= ordered, f"never ordered: {sorted(play.orders - ordered)}"
    check(run, run)
    assert run.world.crashes == 0


@pytest.mark.parametrize("step", STEPS)
def test_killed_at(step: str, every_run: list[Run], tmp_path: Path, record_property: Told) -> None:
    """Every time the step is reached in any play; away for a moment, or longer than a hold may last."""
    deaths = 0
    for whole in every_run:
        for number, reached in enumerate(whole.steps.reached_at):
            if ".".join(reached) != step:
                continue
            down_s = DOWN_S[deaths % len(DOWN_S)]
            folder = tmp_path / f"{whole.play.name}-{number}"
            run = perform(whole.play, folder, deaths=(number,), down_s=down_s)
            assert run.steps.died_at == [reached], "it did not die where it was to die"
            check(run, whole)
            deaths += 1
    assert deaths, f"no play reaches {step}: nobody knows what becomes of an agent that dies there"
    record_property("killed", f"{step} {deaths}")


@by_name
def test_killed_again_and_again(play: Play, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Also while it goes on from where the one before it died."""
    whole = undisturbed(play)
    random = Random(play.name)
    steps = len(whole.steps.reached_at)
    for time in range(TIMES):
        first = random.randrange(steps)
        deaths = [first, first + 1 + random.randrange(8), first + 10 + random.randrange(12)]
        down_s = DOWN_S[time % len(DOWN_S)]
        run = perform(play, tmp_path / str(time), deaths=deaths, down_s=down_s)
        assert run.world.crashes >= 1
        check(run, whole)
