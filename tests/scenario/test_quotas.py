"""Scenarios 1-5, 10-12, 18, 24, 30 of the enforcement research: who is over what, and who goes."""

from __future__ import annotations

import pytest

from gpuwarden.sim.node.containers import Container
from gpuwarden.sim.scenario import always, at, card, elapsed, expect, kinds
from gpuwarden.sim.world import World
from tests.scenario.stage import habit, hog, node, serve

MIB = 2**20
RESERVE = {"reserve": {"bytes": "8GiB"}}


def warned(world: World, who: Container) -> int:
    return sum(e.text == "warn" for e in world.ledger.of("intent", tenant=who.tenant))


def holds(who: Container, used_mib: int) -> None:
    assert who.main is not None
    who.main.holds[card()] = used_mib * MIB


def test_s01_slow_leak() -> None:
    world = node()
    h = serve(world)
    low = hog(world, used_mib=8_000, grow_mib_s=4, goal_mib=9_000)  # 100 % at 48 s, hard at 89 s
    always(world, until=57, untouched=[low, h])
    assert warned(world, low) == 0
    expect(world, by=61, that=lambda: warned(world, low) == 1)
    always(world, until=66, untouched=[low])
    expect(world, by=72, done=(low, ["throttle"]))
    always(world, until=88, done=(low, ["throttle"]))
    expect(world, by=95, freed=low, untouched=h)
    assert kinds(world, low) == ["throttle", "term"]
    expect(world, by=96, calm=True)


def test_s02_single_giant_allocation() -> None:
    world = node(RESERVE)
    h = serve(world)
    low = hog(world, used_mib=800, grow_mib_s=0)
    world.run_for(5)
    begun = elapsed(world)
    holds(low, 76_000)
    expect(world, by=begun + 0.3, findings=["quota", "reserve"])
    expect(world, by=begun + 0.5, that=lambda: bool(kinds(world, low)))
    expect(world, by=begun + 2.0, freed=low, untouched=h)
    (incident,) = world.board.incidents
    assert (
        incident.peak_bytes == 76_000 * MIB
    )  # an overshoot nothing could have prevented, on record


def test_s03_brief_spike() -> None:
    world = node()
    low = hog(world, used_mib=8_000, grow_mib_s=0)
    world.run_for(2)
    at(world, elapsed(world) + 1.0, lambda: holds(low, 9_400))  # 115 %
    at(world, elapsed(world) + 1.12, lambda: holds(low, 7_000))
    always(world, until=60, untouched=low)
    assert warned(world, low) == 1
    expect(world, by=61, calm=True)


def test_s04_flapping() -> None:
    world = node()
    low = hog(world, used_mib=8_100, grow_mib_s=0)
    for second in range(120):
        size = 8_270 if second % 2 else 8_110
        at(world, second + 0.5, lambda size=size: holds(low, size))  # type: ignore[misc]
    always(world, until=121, alive=low)
    assert warned(world, low) == 1
    assert len([i for i in world.board.incidents if i.tenant == low.tenant]) == 1
    holds(low, 7_700)  # 94 %
    always(world, until=150, findings="quota")
    expect(world, by=156, calm=True, that=lambda: world.board.incidents[0].closed_at is not None)


def test_s05_ignores_sigterm() -> None:
    world = node()
    low = hog(world, obeys=False, grace_s=7.0)
    expect(world, by=6, done=(low, ["term"]))
    asked = elapsed(world)
    always(world, until=asked + 6.9, alive=low)
    expect(world, by=asked + 7.3, freed=low)
    assert kinds(world, low) == ["term", "kill"]


def test_s10_two_over_quota() -> None:
    """L1 at 120 %, L2 at 180 %: the worst first, one at a time, and who comes down is spared."""
    world = node(warm=False)
    first = hog(world, "l1", used_mib=9_830, grow_mib_s=0, obeys=False, grace_s=3.0)
    worse = hog(world, "l2", used_mib=14_745, grow_mib_s=0, obeys=False, grace_s=3.0)
    expect(world, by=3, done=(worse, ["term"]))
    always(world, until=elapsed(world) + 2.9, untouched=first)
    at(world, elapsed(world) + 0.05, lambda: holds(first, 7_000))
    expect(world, by=8, freed=worse)
    always(world, until=60, untouched=first)


def test_s10_two_over_quota_the_second_goes_when_it_does_not_come_down() -> None:
    world = node(warm=False)
    first = hog(world, "l1", used_mib=9_830, grow_mib_s=0)
    worse = hog(world, "l2", used_mib=14_745, grow_mib_s=0)
    expect(world, by=10, freed=[first, worse])
    hit = [e.tenant for e in world.ledger.of("term")]
    assert hit == [worse.tenant, first.tenant]
    back = next(e.at for e in world.ledger.of("exit", tenant=worse.tenant))
    assert world.ledger.of("term", tenant=first.tenant)[0].at > back


def test_s11_over_quota_before_big_within() -> None:
    world = node(RESERVE)
    h = serve(world)
    small = hog(world, "l1", quota_mib=1_024, used_mib=2_048, grow_mib_s=0)
    big = hog(world, "l2", quota_mib=80_000, used_mib=70_000, grow_mib_s=0)
    expect(world, by=5, freed=small, alive=big)
    expect(world, by=25, freed=big, untouched=h)
    firsts = {e.tenant: e.serial for e in reversed(list(world.ledger.harm()))}
    assert firsts[small.tenant] < firsts[big.tenant]


def test_s11_the_big_one_within_is_spared_when_the_small_one_was_enough() -> None:
    world = node(RESERVE)
    h = serve(world)
    small = hog(world, "l1", quota_mib=1_024, used_mib=6_048, grow_mib_s=0)
    big = hog(world, "l2", quota_mib=80_000, used_mib=65_000, grow_mib_s=0)
    expect(world, by=5, freed=small)
    always(world, until=60, untouched=[big, h])


def test_s12_high_over_quota() -> None:
    world = node(RESERVE)
    h = serve(world)
    high = world.container("high", cls="high", quota_mib=40_000, habits=(habit(52_000),))
    low = hog(world, "low", quota_mib=80_000, used_mib=20_000, grow_mib_s=0)
    expect(world, by=30, freed=low)
    always(world, until=60, untouched=[high, h])
    assert warned(world, high) == 1
    assert len(world.ledger.of("page")) >= 1


def test_s18_quota_lowered_live() -> None:
    world = node(
        {"default": {"memory": "80GiB"}, "ladder": {"grace_low_s": 4}},
        limiter="works",
        total_mib=90_000,
    )
    low = hog(world, quota_mib=None, used_mib=60_000, grow_mib_s=0, obeys=False)
    expect(world, by=1, done=(low, ["set-limit"]))
    always(world, until=10, done=(low, ["set-limit"]))
    world.configure(default={"memory": "40GiB"})
    lowered = elapsed(world)
    agent = world.agent
    assert agent is not None
    agent.adopt(world.config())  # type: ignore[attr-defined]
    expect(world, by=lowered + 5, done=(low, ["set-limit", "set-limit", "term"]))
    asked = elapsed(world)
    always(world, until=asked + 3.9, alive=low)
    expect(world, by=asked + 4.4, freed=low)


def test_s18_raised_live_lets_it_go() -> None:
    world = node({"default": {"memory": "40GiB"}})
    low = hog(world, quota_mib=None, used_mib=60_000, grow_mib_s=0, obeys=False)
    expect(world, by=5, done=(low, ["term"]))
    world.configure(default={"memory": "80GiB"})
    agent = world.agent
    assert agent is not None
    agent.adopt(world.config())  # type: ignore[attr-defined]
    always(world, until=60, done=(low, ["term"]))
    expect(world, by=61, calm=True, alive=low)


@pytest.mark.parametrize("others", [0, 1])
def test_s24_managed_memory_hidden(others: int) -> None:
    """60 GB that no process admits to: with one candidate suspected, with several reported, and
    nobody is killed."""
    world = node()
    suspect = world.container(
        "low",
        habits=(habit(5_000), habit(0, is_hidden=True, grow_mib_s=8_000, goal_mib=60_000)),
    )
    others_there = [world.container(f"o{n}", habits=(habit(1_000),)) for n in range(others)]
    expect(world, by=20, findings="unattributed")
    always(world, until=120, untouched=[suspect, *others_there])
    expect(world, by=121, pages=1 if others else 0)
    assert any(
        i.rule == "unattributed" and (i.tenant == suspect.tenant) is (others == 0)
        for i in world.board.incidents
    )


def test_s30_mass_breach_at_boot() -> None:
    world = node(warm=False)
    twenty = [
        hog(world, f"l{n}", used_mib=9_500 + 10 * n, grow_mib_s=0, on=n % 2, quota_mib=8_192)
        for n in range(6)
    ] + [hog(world, f"w{n}", used_mib=1_000, grow_mib_s=0, on=n % 2) for n in range(14)]
    always(world, until=1.99, untouched=twenty)
    known = world.board.snapshot
    assert known is not None
    assert {t.id for t in known.tenants} == {c.tenant for c in twenty}
    expect(world, by=40, dead=twenty[:6], alive=twenty[6:])


def test_s30_but_for_a_panic() -> None:
    world = node(RESERVE, warm=False)
    serve(world)
    low = hog(world, used_mib=75_000, grow_mib_s=0)
    expect(world, by=1.9, freed=low)
