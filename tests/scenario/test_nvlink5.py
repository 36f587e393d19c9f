"""Faults of NVLink 5 units (Xid 144 to 150) from the kernel's line to what is done, by the vendor's table."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.repair import Phase
from gpuwarden.policy.fault.catalogue_data import NVLINK5
from gpuwarden.sim.scenario import always, card
from gpuwarden.sim.world import World
from tests.scenario.stage import hog
from tests.scenario.test_repairs import repaired, say, steps, until_phase


def _line(key: tuple[int, str, int, int]) -> str:
    """The line a driver since R575 writes for a row of the table."""
    xid, unit, subcode, status = key
    _, since, severity, _, _ = NVLINK5[key]
    word = "Fatal   " if severity == "fatal" else "Nonfatal"
    info = subcode << 20 | since
    rest = " ".join(["0x00000000"] * 4)
    name = unit.split("/")[0]
    return (
        f"NVRM: Xid (PCI:0000:10:00): {xid}, {name} {word} XC0 i0 Link 09 "
        f"({info:#010x} {status:#010x} {rest})"
    )


def _first_of_each() -> dict[tuple[int, str], tuple[int, str, int, int]]:
    """One row of each Xid and action."""
    found: dict[tuple[int, str], tuple[int, str, int, int]] = {}
    for key in sorted(NVLINK5):
        found.setdefault((key[0], NVLINK5[key][3]), key)
    return found


ROWS = _first_of_each()


def _struck(key: tuple[int, str, int, int]) -> tuple[World, Any]:
    world = repaired({"repair": {"allow": ["reset-gpu"], "drain_evicts": "low"}})
    low = hog(world, used_mib=2_000, grow_mib_s=0)
    ill = world.cards.cards[card(0)]
    if NVLINK5[key][3] != "follow_recovery":
        ill.recovery_action = None  # a driver that does not tell: the table decides
    world.run_for(3)
    say(world, _line(key))
    return world, low


def test_every_one_of_the_xids_is_played() -> None:
    assert {xid for xid, _ in ROWS} == set(range(144, 151))
    assert {action for _, action in ROWS} == {"reset_gpu", "monitor", "ignore", "follow_recovery"}


@pytest.mark.parametrize("key", [k for (_, a), k in ROWS.items() if a == "reset_gpu"], ids=str)
def test_what_asks_for_a_reset_gets_one(key: tuple[int, str, int, int]) -> None:
    world, _ = _struck(key)
    until_phase(world, Phase.PROBATION, 120)
    assert steps(world) == ["reset-gpu"]
    (incident,) = world.board.incidents
    assert f"Xid {key[0]}" in incident.summary
    assert len(world.ledger.of("stop")) <= 1


@pytest.mark.parametrize("key", [k for (_, a), k in ROWS.items() if a != "reset_gpu"], ids=str)
def test_what_does_not_moves_nobody(key: tuple[int, str, int, int]) -> None:
    world, low = _struck(key)
    always(world, until=60, untouched=low, alive=low)
    assert steps(world) == []
    assert not world.cordons.is_drained
