"""Faults on simulated time: the right remedy, verified; one page; nobody else is hit."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.repair import NODE, Phase
from gpuwarden.sim.scenario import always, at, card, elapsed, expect
from gpuwarden.sim.world import World
from tests.scenario.stage import habit, hog, node, serve

ALL_STEPS = ["restart-services", "reset-gpu", "reload-driver", "reboot"]


def broken(world: World, device: int = 0, *, code: int = 119, recovery: int = 1) -> None:
    """The driver reports an Xid and asks for a recovery; only a repair ends that."""
    state = world.cards.cards[card(device)]
    state.recovery_action = recovery
    world.probe.event("xid", card(device), code)
    if recovery:
        world.probe.event("recovery-action", card(device), recovery)


def phase(world: World, subject: str = card(0)) -> Phase | None:
    assert world.board.decision is not None
    repair = world.board.decision.memory.repairs.get(subject)
    return None if repair is None else repair.phase


def until_phase(world: World, wanted: Phase | None, by: float, subject: str = card(0)) -> None:
    while (found := phase(world, subject)) != wanted:
        assert elapsed(world) < by, f"still {found}"
        world.run_for(0.1)


def is_drained(world: World) -> bool:
    return world.cordons.is_drained


def steps(world: World) -> list[str]:
    return [e.kind for e in world.ledger.entries if e.kind in ALL_STEPS]


def repaired(settings: dict[str, Any] | None = None, **shape: Any) -> World:
    return node({"repair": {"allow": ALL_STEPS}, **(settings or {})}, **shape)


def test_an_empty_device_is_reset_verified_and_given_back() -> None:
    world = repaired()
    world.run_for(2)
    broken(world)
    until_phase(world, Phase.PROBATION, 30)
    assert steps(world) == ["reset-gpu"]
    assert is_drained(world)
    world.run_for(250)
    assert phase(world) is Phase.PROBATION
    assert is_drained(world), "in use again only when it has been well for long"
    expect(world, by=400, pages=1)
    until_phase(world, None, 400)
    world.run_for(5)
    assert not is_drained(world)
    assert steps(world) == ["reset-gpu"]
    (incident,) = world.board.incidents
    assert incident.outcome == "device reset"


def test_who_is_on_it_is_waited_for_and_named_when_that_takes_long() -> None:
    world = repaired({"repair": {"allow": ALL_STEPS, "drain_wait_s": 60}})
    low = hog(world, used_mib=2_000, grow_mib_s=0)
    world.run_for(3)
    broken(world)
    until_phase(world, Phase.EMPTYING, 20)
    always(world, until=60, untouched=low, alive=low)
    assert steps(world) == []
    expect(world, by=90, pages=2)
    assert "hog" in world.ledger.of("page")[-1].text
    for process in world.kernel.of(low.tenant):
        world.kernel.end(process, "done")
    until_phase(world, Phase.PROBATION, 140)
    assert steps(world) == ["reset-gpu"]


def test_whom_no_list_shows_is_waited_for_with_patience_and_costs_no_budget() -> None:
    """Somebody has the device open and holds nothing on it: every reset is refused."""
    allowed = {"allow": ALL_STEPS, "drain_wait_s": 60, "resets_per_device_day": 1}
    world = repaired({"repair": allowed})
    world.remedies.is_open = True
    world.run_for(2)
    broken(world)
    world.run_for(200)
    assert steps(world) == []
    assert phase(world) is Phase.EMPTYING
    tried = [o for o in world.board.outcomes if o.kind is Kind.RESET_GPU]
    assert 3 <= len([o for o in tried if o.result is Result.REFUSED]) <= 8
    assert len(world.ledger.of("page")) == 2
    assert "no list shows" in world.ledger.of("page")[-1].text
    world.remedies.is_open = False
    until_phase(world, Phase.PROBATION, 600)
    assert steps(world) == ["reset-gpu"]


def test_what_comes_back_untouched_is_begun_with_the_same_step() -> None:
    """It passed by itself before anything was tried; when it is back the first remedy is still the first."""
    world = repaired()
    low = hog(world, used_mib=2_000, grow_mib_s=0)
    world.run_for(3)
    broken(world)
    until_phase(world, Phase.EMPTYING, 20)
    world.cards.cards[card(0)].recovery_action = 0
    world.probe.event("recovery-action", card(0), 0)
    until_phase(world, Phase.PROBATION, 60)
    broken(world)
    until_phase(world, Phase.EMPTYING, 100)
    for process in world.kernel.of(low.tenant):
        world.kernel.end(process, "done")
    until_phase(world, Phase.PROBATION, 160)
    assert steps(world) == ["reset-gpu"]


def test_a_drain_ends_the_low_and_spares_the_protected() -> None:
    world = repaired({"repair": {"allow": ALL_STEPS, "drain_evicts": "low"}})
    low = hog(world, used_mib=2_000, grow_mib_s=0)
    kept = serve(world, on=0, used_mib=2_000)
    world.run_for(3)
    world.services.services["serve"].forced = None
    broken(world, code=95, recovery=4)
    expect(world, by=60, freed=low)
    always(world, until=100, untouched=kept, alive=kept)
    assert steps(world) == []


def test_a_reset_that_does_not_help_is_followed_by_a_reboot() -> None:
    world = repaired()
    world.restart_after_s = 1.0
    world.cards.cards[card(0)].heals_by = frozenset({"reboot"})
    world.run_for(2)
    broken(world)
    until_phase(world, Phase.ACTING, 120)
    expect(world, by=200, pages=1)
    while "reboot" not in steps(world):
        assert elapsed(world) < 200
        world.run_for(1)
    assert steps(world) == ["reset-gpu", "reboot"]
    told = [step.text for incident in world.board.incidents for step in incident.steps]
    assert not [text for text in told if "is well" in text], "believed before it was seen"
    until_phase(world, Phase.PROBATION, 400)
    until_phase(world, None, 1000)
    assert steps(world) == ["reset-gpu", "reboot"]
    assert not is_drained(world)


def test_what_the_operator_does_not_allow_is_handed_over_with_the_command() -> None:
    world = node({"repair": {"allow": []}})
    world.run_for(2)
    broken(world)
    until_phase(world, Phase.HANDED_OVER, 30)
    assert steps(world) == []
    assert is_drained(world)
    always(world, until=100, untouched=[])
    assert len(world.ledger.of("page")) == 1
    assert "nvidia-smi --gpu-reset -i 0" in world.ledger.of("page")[0].text


def test_people_repair_it_and_it_is_given_back() -> None:
    world = node({"repair": {"allow": []}})
    world.run_for(2)
    broken(world)
    until_phase(world, Phase.HANDED_OVER, 30)
    world.cards.cards[card(0)].heal("reset-gpu")
    world.probe.event("recovery-action", card(0), 0)
    until_phase(world, Phase.PROBATION, 60)
    until_phase(world, None, 500)
    world.run_for(2)
    assert not is_drained(world)


def test_the_same_fault_after_two_repairs_begins_one_step_further_on() -> None:
    world = repaired({"ladder": {"uncordon_after_s": 10}})
    world.restart_after_s = 1.0
    world.run_for(2)
    for count in range(2):
        broken(world)
        until_phase(world, Phase.PROBATION, 200 * (count + 1))
        until_phase(world, None, 200 * (count + 1))
    assert steps(world) == ["reset-gpu", "reset-gpu"]
    broken(world)
    while len(steps(world)) < 3:
        assert elapsed(world) < 800
        world.run_for(1)
    assert steps(world)[2] == "reboot"


def test_a_budget_a_day_hands_over() -> None:
    world = repaired({"repair": {"allow": ALL_STEPS, "resets_per_device_day": 0}})
    world.run_for(2)
    broken(world)
    until_phase(world, Phase.HANDED_OVER, 30)
    assert steps(world) == []
    assert world.board.decision is not None


def test_observe_mode_touches_nothing_and_says_so() -> None:
    world = node({"agent": {"mode": "observe"}, "repair": {"allow": ALL_STEPS}})
    world.run_for(2)
    broken(world)
    world.run_for(60)
    assert steps(world) == []
    assert not is_drained(world)
    assert len(world.ledger.of("page")) == 1
    incident = world.board.incidents[0]
    assert [s.action for s in incident.steps if s.kind == "withheld"] == ["observe"]


def test_a_scheduler_that_is_down_is_told_later_and_the_end_as_well() -> None:
    world = repaired({"ladder": {"uncordon_after_s": 10}})
    world.cordons.is_down = True
    world.run_for(2)
    broken(world)
    until_phase(world, Phase.PROBATION, 30)
    assert not is_drained(world)
    world.cordons.is_down = False
    until_phase(world, None, 120)
    world.run_for(60)
    assert not is_drained(world)
    assert not world.cordons.held


def test_what_passes_before_anything_was_done_is_over_at_once() -> None:
    """In observe mode nothing is begun: there is nothing to watch, and its incident does not wait."""
    world = node({"agent": {"mode": "observe"}, "repair": {"allow": ALL_STEPS}})
    world.run_for(2)
    broken(world)
    world.run_for(20)
    assert phase(world) is Phase.OPEN
    world.cards.cards[card(0)].heal("reset-gpu")
    world.probe.event("recovery-action", card(0), 0)
    world.run_for(20)
    assert phase(world) is None
    assert [i for i in world.board.incidents if i.closed_at is None] == []


def test_a_log_that_others_can_write_is_shown_and_nothing_is_done() -> None:
    world = repaired()
    world.kernel_log.trust = KernelTrust.UNTRUSTED
    world.run_for(2)
    say(world, "NVRM: Xid (PCI:0000:10:00): 119, Timeout waiting for RPC from GSP!")
    say(world, "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 10003, Fatal, Link 00 Host_unhandled")
    world.run_for(90)
    assert steps(world) == []
    assert not is_drained(world)
    assert not world.ledger.of("page")
    assert any("others can write" in i.summary for i in world.board.incidents)


def test_a_lock_up_that_ends_with_its_offender_takes_nothing_out_of_use() -> None:
    """Its bytes take their time to come back: until then it is dealt with by ending who did it."""
    world = repaired({"sampling": {"slow_every_s": 0.5}})
    serve(world)
    low = hog(world, obeys=False, free_s=5.0)
    at(world, 3.6, lambda: world.cards.lock(card(0), low.tenant))
    at(world, 3.6, lambda: setattr(world.cards.cards[card(0)], "recovery_action", 1))
    at(world, 3.6, lambda: world.probe.event("xid", card(0), 119))
    world.run_for(60)
    assert not world.is_alive(low.tenant)
    assert not world.ledger.of("drain", *ALL_STEPS)


def test_one_reset_at_a_time() -> None:
    world = repaired(devices=3)
    world.run_for(2)
    for device in range(3):
        broken(world, device)
    for device in range(3):
        until_phase(world, Phase.PROBATION, 120, card(device))
    resets = [e.at for e in world.ledger.of("reset-gpu")]
    assert len(resets) == 3
    assert {e.device for e in world.ledger.of("reset-gpu")} == {card(n) for n in range(3)}


@pytest.mark.parametrize("recovery", [0, None])
def test_a_driver_that_asks_for_nothing_is_believed(recovery: int | None) -> None:
    """After an Xid whose catalogue entry says reset, the driver itself, asked since, says none is needed."""
    world = repaired()
    world.run_for(2)
    world.probe.event("xid", card(0), 31)
    world.run_for(90)
    assert steps(world) == []
    assert NODE not in (world.board.decision.memory.repairs if world.board.decision else {})


def test_a_fault_of_an_application_wakes_nobody() -> None:
    world = repaired()
    low = hog(world, used_mib=2_000, grow_mib_s=0)
    world.run_for(3)
    at(world, 4, lambda: world.probe.event("xid", card(0), 31, pid=1))
    always(world, until=100, untouched=low, alive=low)
    assert not world.ledger.of("page")
    assert any("Xid 31" in i.summary for i in world.board.incidents)
    assert habit() is not None


def say(world: World, text: str) -> None:
    world.kernel_log.say(text)


def test_the_lines_of_a_fall_are_one_incident_and_one_page() -> None:
    world = node({"repair": {"allow": []}}, devices=2)
    for index, state in enumerate(world.cards.cards.values()):
        state.pci = f"0000:{0x3B + index:02x}:00"
    world.run_for(2)
    say(
        world,
        "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    )
    for number in range(20):
        channel = f"Ch {number:08x}"
        say(world, f"NVRM: Xid (PCI:0000:3b:00): 45, pid={900 + number}, name=python3, {channel}")
    say(
        world,
        "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
    )
    world.cards.cards[card(0)].is_lost = True
    world.run_for(60)
    assert world.board.decision is not None
    faults = world.board.decision.memory.faults
    (fault,) = [f for f in faults.values() if f.root.device == card(0)]
    assert fault.root.code == "xid 79"
    assert dict(fault.followers)["xid 45"] == 20
    assert fault.recovery == 2
    assert len(world.ledger.of("page")) == 1
    assert len([i for i in world.board.incidents if i.device == card(0)]) == 1
    assert phase(world) is Phase.HANDED_OVER


def test_what_a_failed_step_leaves_is_kept_before_the_next_is_tried() -> None:
    world = repaired()
    world.remedies.broken.add("reset-gpu")
    world.run_for(2)
    broken(world)
    expect(world, by=120, that=lambda: "reboot" in steps(world))
    assert len(world.remedies.kept) == 1
    decided = world.board.decision
    assert decided is not None
    assert world.remedies.kept[0] == decided.memory.repairs[card(0)].incident


def test_in_observe_mode_nothing_is_kept() -> None:
    world = repaired({"agent": {"mode": "observe"}})
    world.run_for(2)
    broken(world)
    world.run_for(120)
    assert steps(world) == []
    assert world.remedies.kept == []
