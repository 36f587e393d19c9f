"""Repairs as people meet them: one cause is one incident and one page, in words, and nobody beside it is bothered."""

from __future__ import annotations

from gpuwarden.model.repair import NODE, Phase
from gpuwarden.sim.scenario import always, card, elapsed, expect
from tests.scenario.stage import hog, node
from tests.scenario.test_repairs import (
    ALL_STEPS,
    broken,
    is_drained,
    phase,
    repaired,
    say,
    steps,
    until_phase,
)


def test_who_is_handed_a_device_reads_what_is_wrong_with_it_in_words() -> None:
    world = node()
    world.run_for(2)
    broken(world, code=999, recovery=0)
    until_phase(world, Phase.HANDED_OVER, 30)
    assert "Xid 999, a number the vendor has not published" in world.ledger.of("page")[0].text


def test_what_is_polled_is_verified_by_its_next_sample_not_after_its_own_probation() -> None:
    """A pending remap is gone after the reset; that its finding stays for minutes more says nothing."""
    world = repaired()
    ill = world.cards.cards[card(0)]
    ill.tell("errors", row_remap_pending=False, row_remap_failed=False)
    world.run_for(20)
    ill.tell("errors", row_remap_pending=True, row_remap_failed=False)
    while not steps(world):
        assert elapsed(world) < 150
        world.run_for(0.1)
    ill.tell("errors", row_remap_pending=False, row_remap_failed=False)
    until_phase(world, Phase.PROBATION, elapsed(world) + 45)
    until_phase(world, None, elapsed(world) + 320)
    assert steps(world) == ["reset-gpu"]
    assert not world.ledger.of("page")
    assert not is_drained(world)


def test_a_switch_is_no_device_to_reset() -> None:
    """The catalogue says reset, of a fault that names no GPU: nothing is emptied for a reset that cannot be."""
    world = node({"repair": {"drain_evicts": "low"}})
    low = hog(world, used_mib=2_000, grow_mib_s=0)
    world.run_for(3)
    say(
        world,
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
    )
    until_phase(world, Phase.HANDED_OVER, 30, NODE)
    always(world, until=60, untouched=low, alive=low)
    assert steps(world) == []
    assert len(world.ledger.of("page")) == 1


def test_a_lost_device_is_told_of_once_by_whoever_comes_first() -> None:
    """Locked up by its Xid, lost to the driver, a fault in the log: one cause, one page, with the step it needs."""
    world = node({"repair": {"allow": ["reset-gpu"]}})
    low = hog(world, used_mib=2_000, grow_mib_s=0)
    world.run_for(3)
    lost = world.cards.cards[card(0)]
    world.probe.event("xid", card(0), 79)
    lost.is_lost = True
    world.run_for(60)
    (page,) = world.ledger.of("page")
    assert "drain the node and reboot it" in page.text
    assert "gpu-reset" not in page.text
    lost.is_lost = False  # it is back, and nobody has said yet that it is well
    always(world, until=120, untouched=low, alive=low)
    assert len(world.ledger.of("page")) == 1


def test_who_was_told_that_a_reboot_is_needed_is_not_told_of_the_lock_as_well() -> None:
    world = node({"repair": {"allow": ["reset-gpu"]}})
    hog(world, used_mib=2_000, grow_mib_s=0)
    world.run_for(3)
    say(
        world,
        "NVRM: Xid (PCI:0000:10:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
    )
    world.run_for(0.5)
    world.cards.cards[card(0)].recovery_action = 2
    world.probe.event("recovery-action", card(0), 2)
    world.run_for(60)
    assert phase(world) is Phase.HANDED_OVER
    (page,) = world.ledger.of("page")
    assert "reboot" in page.text


def test_who_makes_room_is_part_of_the_repair_and_accused_of_nothing() -> None:
    """One incident tells of the fault, of those who were asked to go and of the reset; none is opened beside it."""
    world = repaired({"repair": {"allow": ALL_STEPS, "drain_evicts": "low"}}, devices=2)
    lows = [hog(world, used_mib=2_000, grow_mib_s=0, name=f"low-{n}") for n in range(2)]
    world.run_for(3)
    broken(world)
    for low in lows:
        expect(world, by=60, freed=low)
    until_phase(world, Phase.PROBATION, 120)
    until_phase(world, None, 500)
    (incident,) = world.board.incidents
    said = [s.text for s in incident.steps]
    assert any("reset-gpu is next" in text for text in said)
    assert any("is back in use" in text for text in said)
    assert "over: nothing is held against it any more" not in said
    assert [s.action for s in incident.steps if s.kind == "withheld"].count("one-per-device") <= 1
    assert len(world.ledger.of("stop")) == 2


def test_what_the_driver_has_named_is_not_told_again_by_what_is_polled_of_it() -> None:
    world = node({"agent": {"mode": "observe"}})
    sick = world.cards.cards[card(0)]
    sick.recovery_action = None  # a driver that does not tell
    sick.tell("errors", ecc_uncorrected_volatile_total=0)
    world.run_for(70)
    world.probe.event("xid", card(0), 48)
    expect(world, by=100, pages=1)
    sick.tell("errors", ecc_uncorrected_volatile_total=2)
    world.run_for(100)
    decided = world.board.decision
    assert decided is not None
    assert {"ecc", "fault"} <= {finding.rule for finding in decided.findings}
    assert len(world.ledger.of("page")) == 1
