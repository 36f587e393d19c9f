"""GPUs beside their peers: who is compared with whom, and for how long it has to be so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from gpuwarden.model.anomaly import OddDevice
from gpuwarden.policy.fleet import odd_peers
from gpuwarden.policy.fleet.odd_peers import (
    HOLDS,
    PASSES_MIN,
    DeviceReading,
    PeerSettings,
    PeerWatch,
)


def reading(n: int, temperature: object = 60.0, **more: object) -> DeviceReading:
    values: dict[str, object] = {
        "node": f"n{n // 8}",
        "group": "default",
        "work": "",
        "device": f"GPU-{n}",
        "index": n % 8,
        "model": "H100",
        "utilization_ratio": 0.9,
        "temperature_c": temperature,
        "power_w": 500.0,
    }
    return DeviceReading(**{**values, **more})  # type: ignore[arg-type]


def after(
    passes: int, made: Callable[[int], Sequence[DeviceReading]], watch: PeerWatch | None = None
) -> tuple[OddDevice, ...]:
    watch = PeerWatch(PeerSettings()) if watch is None else watch
    found: tuple[OddDevice, ...] = ()
    for n in range(passes):
        found = watch.look(made(n), 60.0 * n)
    return found


def fleet(many: int, hot: float = 90.0) -> list[DeviceReading]:
    """The last of them is hot."""
    return [reading(n, 60.0 + n % 3 if n + 1 < many else hot) for n in range(many)]


def test_it_is_told_when_it_has_held_and_not_before() -> None:
    first = PASSES_MIN + HOLDS - 1
    assert after(first - 1, lambda n: fleet(6)) == ()
    (odd,) = after(first, lambda n: fleet(6))
    assert (odd.node, odd.index, odd.device, odd.series) == ("n0", 5, "GPU-5", "temperature_c")
    assert (odd.value, odd.peers, odd.count) == (90.0, 61.0, 5)
    assert odd.since_wall == 60.0 * (PASSES_MIN - 1)
    assert odd.sigmas > 6


@pytest.mark.parametrize(("many", "is_told"), [(2, False), (4, False), (5, True)])
def test_fewer_than_four_peers_say_nothing(many: int, is_told: bool) -> None:
    assert bool(after(20, lambda n: fleet(many))) is is_told


def test_one_odd_minute_does_nothing_and_a_fault_that_ends_is_over_slowly() -> None:
    watch = PeerWatch(PeerSettings())
    assert after(40, lambda n: fleet(6, 90.0 if n == 30 else 60.0), watch) == ()
    assert after(30, lambda n: fleet(6), watch)
    assert after(16, lambda n: fleet(6, 60.0), watch)  # its half hour is still hot
    assert after(30, lambda n: fleet(6, 60.0), watch) == ()


@pytest.mark.parametrize(
    "other",
    [
        {"model": "A100"},
        {"group": "other"},
        {"work": "chat"},
        {"utilization_ratio": 0.4},
        {"utilization_ratio": None},
        {"temperature": None},
    ],
)
def test_only_those_at_the_same_work_are_compared(other: dict[str, object]) -> None:
    def hot(more: dict[str, object]) -> list[DeviceReading]:
        return [*fleet(7)[:-1], reading(7, **{"temperature": 90.0, **more})]

    assert after(20, lambda n: hot({}))
    assert after(20, lambda n: hot(other)) == ()


@pytest.mark.parametrize(("many", "is_told"), [(1, True), (2, True), (3, False), (4, False)])
def test_where_many_are_apart_it_is_their_work_and_nobody_is_odd(many: int, is_told: bool) -> None:
    """Eight GPUs, of which so many are at work that takes half the power."""
    powers = [250.0] * many + [500.0] * (8 - many)
    found = after(20, lambda n: [reading(i, power_w=w) for i, w in enumerate(powers)])
    assert len(found) == (many if is_told else 0)


def test_power_is_compared_too() -> None:
    (odd,) = after(20, lambda n: [*fleet(7, 60.0), reading(7, power_w=250.0)])
    assert (odd.series, odd.value, odd.peers) == ("power_w", 250.0, 500.0)
    assert odd.sigmas < -6


def test_one_that_changes_its_work_begins_anew() -> None:
    watch = PeerWatch(PeerSettings())
    assert after(20, lambda n: fleet(6), watch)
    moved = [*fleet(6)[:-1], reading(5, 90.0, work="chat")]
    assert after(1, lambda n: moved, watch) == ()


def test_those_that_are_heard_no_more_are_forgotten_and_the_rest_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = PeerWatch(PeerSettings())
    assert after(20, lambda n: fleet(6), watch)
    assert watch.look([], 0.0) == ()
    assert len(watch) == 0
    monkeypatch.setattr(odd_peers, "DEVICES_MAX", 4)
    watch.look(fleet(6), 0.0)
    assert (len(watch), watch.crowded) == (4, 2)


def test_large_fleets_are_compared_in_parts() -> None:
    found = after(PASSES_MIN + HOLDS, lambda n: fleet(150))
    (odd,) = found
    assert odd.device == "GPU-149"
    assert odd.count == 49
