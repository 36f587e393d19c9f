"""The agent dies in the middle of a write; and a disk that loses what it said it had written."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from gpuwarden.node.journal import segments
from tests.kills.conftest import Undisturbed
from tests.kills.deaths import DOWN_S, Run, Step, perform
from tests.kills.plays import PLAYS, Play
from tests.kills.verdict import faults

by_name = pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
NEEDED: frozenset[Step] = frozenset(
    {
        ("throttle", "acted"),
        ("throttle", "concluding"),
        ("set-host-limits", "acted"),
        ("set-host-limits", "concluding"),
        ("detach", "acted"),
        ("detach", "concluding"),
    }
)
"""Steps at which the last record is the only one that knows what the world was like: where a disk loses
it after saying that it is there, nothing can be given back, and who was taken off its MPS server lives on
without it."""


def check(run: Run, undisturbed: Run, where: str) -> None:
    lives = len(run.world.ledger.of("agent-starts"))
    wrong = faults(run, undisturbed, gaps=lives - 1)
    story = run.world.ledger.timeline()
    assert not wrong, "\n".join([f"{run.play.name}: {where}", *wrong, "", story])


@by_name
def test_the_record_it_dies_in_is_torn(
    play: Play, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """At every write of the play, at a random byte."""
    whole = undisturbed(play)
    for write in range(whole.writes):
        down_s = DOWN_S[write % len(DOWN_S)]
        folder = tmp_path / str(write)
        run = perform(play, folder, torn_at=write, down_s=down_s, seed=write)
        assert run.world.crashes == 1
        check(run, whole, f"torn at write {write}")


@by_name
def test_the_last_record_is_lost(play: Play, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Cut at a random byte after the agent died at a step: one of all, from a random one on."""
    whole = undisturbed(play)
    random = Random(play.name)
    for number in range(random.randrange(3), len(whole.steps.reached_at), 3):
        step = whole.steps.reached_at[number]
        if step in NEEDED:
            continue
        run = perform(
            play,
            tmp_path / str(number),
            deaths=(number,),
            down_s=DOWN_S[number % len(DOWN_S)],
            before_start=lambda folder: cut(folder, random),
        )
        check(run, whole, f"cut at {step}")


def cut(folder: Path, random: Random) -> None:
    """The last record of a journal loses its end."""
    known = segments(folder)
    if known:
        data = known[-1].read_bytes()
        last = data.splitlines(keepends=True)[-1]
        known[-1].write_bytes(data[: len(data) - len(last) + random.randrange(len(last))])
