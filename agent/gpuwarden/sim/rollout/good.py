"""A good version on its way to all traffic, in simulated time: with aggregators that are killed, clocks that are set,
a second aggregator that thinks it leads, and people who would have it faster."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.aggregator.campaigns import Campaigns
from gpuwarden.aggregator.judges import Judges
from gpuwarden.aggregator.numbers import Found, Period
from gpuwarden.aggregator.rollouts import Rollouts
from gpuwarden.aggregator.share_desk import ShareDesk
from gpuwarden.config_ramp import RampConfig
from gpuwarden.errors import Refused
from gpuwarden.model.fleet import FleetView
from gpuwarden.model.ramp import ArmShare, Shares, Stage, Way
from gpuwarden.policy.fleet.calm import Weather
from gpuwarden.policy.fleet.ramp import Word
from gpuwarden.policy.fleet.shares import CAP, DAY_S
from gpuwarden.sim.rollout.documents import MemoryDocuments

SERVICE = "risk"
STEP_S = 120.0
DAYS_MAX = 14
KILL_EVERY_S = 5 * 3600.0
SET_EVERY_S = 7 * 3600.0
PUSH_EVERY_S = 3 * 3600.0


@dataclass(slots=True)
class PlayedClock:
    """True time, and clocks that tell it, or do not."""

    true_s: float = 0.0
    wall_off_s: float = 0.0
    """How far somebody has set the wall clock."""
    born_s: float = 0.0
    """When this machine's monotonic clock began: a restart on another host begins anew."""

    def now(self) -> float:
        return self.true_s - self.born_s

    def wall(self) -> float:
        return 1_800_000_000.0 + self.true_s + self.wall_off_s

    def sleep(self, seconds: float) -> None:
        self.true_s += seconds

    def wakes(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("nothing waits in a played rollout")


@dataclass(slots=True)
class PlayedNumbers:
    """What services say in a play: settable, and without a hole."""

    word_now: Word = Word.GREEN
    why: str = ""
    found: Found = field(
        default_factory=lambda: Found(is_gpu=False, summary="nothing befell the GPUs")
    )
    fresh: list[Period] = field(default_factory=list)

    def word(self, service: str, version: str, arm: str) -> tuple[Word, str]:
        return self.word_now, self.why

    def cause(self, service: str, version: str) -> Found:
        return self.found

    def periods(self, service: str, after_wall: float, upto_wall: float) -> Sequence[Period]:
        return [p for p in self.fresh if p.begin_wall >= after_wall and p.end_wall <= upto_wall]

    def weather(self, now_s: float) -> Weather:
        return Weather(now_s=now_s, rate=100.0, services=4)


class NoKept:
    """A store in which no node has said anything."""

    def order(self, order_id: str) -> None:
        return None

    def incidents(self, **_: Any) -> list[Any]:
        return []


async def nobody(*_: Any) -> Any:
    raise Refused("there are no nodes in this play")


def aggregator(
    documents: MemoryDocuments,
    clock: Any,
    numbers: Any,
    cfg: RampConfig | None = None,
    *,
    leads: bool = True,
) -> Rollouts:
    """One life of one aggregator on these documents."""
    cfg = cfg or RampConfig()
    desk = ShareDesk(documents, clock)
    view = FleetView(serial=0, at=0.0, wall=0.0, epoch=1)
    campaigns = Campaigns(
        cfg, documents, NoKept(), clock, lambda: view, lambda service: ("node-1",), nobody
    )
    return Rollouts(cfg, documents, desk, campaigns, numbers, Judges(), clock, lambda: leads)


def play(seed: int = 1, way: Way = Way.CANARY) -> dict[str, Any]:
    """Until it has all traffic, or for ``DAYS_MAX``."""
    chance = random.Random(f"rollout {seed}")
    documents, numbers = MemoryDocuments(), PlayedNumbers()
    clock = PlayedClock()
    now = aggregator(documents, clock, numbers)
    now.look(True)
    now.start(SERVICE, "v2", "v1", way, None, "ops (operator)")
    told: list[tuple[float, Shares]] = []
    kills = sets = pushed = refused = 0
    done_s: float | None = None
    while clock.true_s < DAYS_MAX * DAY_S and done_s is None:
        clock.true_s += STEP_S
        if clock.true_s % KILL_EVERY_S < STEP_S:
            kills += 1
            clock = PlayedClock(
                true_s=clock.true_s, wall_off_s=clock.wall_off_s, born_s=clock.true_s - 100.0
            )
            now = aggregator(documents, clock, numbers)
        if clock.true_s % SET_EVERY_S < STEP_S:
            sets += 1
            clock.wall_off_s += chance.choice((-3.0, -0.5, 0.5, 3.0)) * DAY_S
        if clock.true_s % PUSH_EVERY_S < STEP_S:
            pushed += 1
            refused += not _push(now)
        now.look(True)
        _note(told, now, clock.true_s)
        if now.ramps(SERVICE)[0].stage is Stage.DONE:
            done_s = clock.true_s
    most = most_moved(told)
    faults = []
    if done_s is None:
        faults.append(f"it did not reach all traffic within {DAYS_MAX} days")
    if most > CAP + 1e-6:
        faults.append(f"an arm moved {most * 100:.1f} points within a day")
    return {
        "scene": "good-version",
        "seed": seed,
        "reached_100": done_s is not None,
        "days": None if done_s is None else round(done_s / DAY_S, 2),
        "most_points_a_day": round(most * 100, 3),
        "shares_told": len(told),
        "aggregators_killed": kills,
        "clocks_set": sets,
        "hands_that_pushed": pushed,
        "hands_refused": refused,
        "missed": faults,
    }


def _push(now: Rollouts) -> bool:
    """Somebody would have it all now."""
    arms = (
        ArmShare(arm="base", version="v1", share=0.0),
        ArmShare(arm="new", version="v2", share=1.0),
    )
    try:
        now.set_shares(SERVICE, arms, "ops (operator)", "faster")
    except Refused:
        return False
    return True


def _note(told: list[tuple[float, Shares]], now: Rollouts, true_s: float) -> None:
    known = now.desk.now(SERVICE)
    if known is not None and (not told or told[-1][1] != known[0]):
        told.append((true_s, known[0]))


def most_moved(told: Sequence[tuple[float, Shares]]) -> float:
    """The furthest any arm moved within any day of true time, what was in force at its begin counted in."""
    most = 0.0
    for place, (at_s, shares) in enumerate(told):
        for before in range(place, -1, -1):
            other = told[before][1]
            is_over = before + 1 < len(told) and told[before + 1][0] <= at_s - DAY_S
            if is_over:
                break
            arms = {each.arm for each in (*shares.arms, *other.arms)}
            most = max(most, *(abs(shares.of(arm) - other.of(arm)) for arm in arms))
    return most
