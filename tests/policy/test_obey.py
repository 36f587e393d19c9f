"""What operators ask for, decided: cordon, uncordon, set-healthy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.config import Config
from gpuwarden.model.action import Kind
from gpuwarden.model.command import Answer, Command, Verb
from gpuwarden.model.decision import Decision
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.memory import DeviceMemory, Memory
from gpuwarden.model.repair import Attempt, FaultClass, Phase, Repair, Step
from gpuwarden.policy.cordon import NODE_ITSELF
from gpuwarden.policy.decide import decide
from tests.policy.builders import NOW, device_id, device_memory, gpu, snap

OBSERVE = Config()


def command(verb: Verb, subject: str = "0", number: int = 1, reason: str = "new fan") -> Command:
    return Command(id=number, verb=verb, subject=subject, reason=reason, uid=1000, name="ada")


def asked(
    *commands: Command, memory: Memory | None = None, cfg: Config = OBSERVE, **more: object
) -> Decision:
    """One pass in which these are asked; observe mode, because an operator's word counts there too."""
    look = replace(snap(gpus=(gpu(0), gpu(1))), commands=commands, **more)  # type: ignore[arg-type]
    return decide(cfg, memory or Memory(boot_id=look.boot_id), look)


def only(decision: Decision) -> Answer:
    (answer,) = decision.answers
    return answer


def kinds(decision: Decision) -> list[tuple[Kind, DeviceId | None]]:
    return [(a.kind, a.device) for a in decision.actions]


@pytest.mark.parametrize(
    ("subject", "place"),
    [
        ("0", device_id(0)),
        ("1", device_id(1)),
        (str(device_id(1)), device_id(1)),
        ("node", NODE_ITSELF),
    ],
)
def test_a_cordon_of_an_operator_in_observe_mode(subject: str, place: DeviceId) -> None:
    told = asked(command(Verb.CORDON, subject))
    assert only(told).is_done
    assert kinds(told) == [(Kind.CORDON, place)]
    assert "new fan (ada)" in told.actions[0].why
    state = told.memory.devices[place]
    assert (state.cordoned_by, state.held_by) == (only(told).incident, "ada")
    assert told.is_notable


def test_it_stands_until_an_operator_lifts_it() -> None:
    mem = asked(command(Verb.CORDON)).memory
    for at in (NOW + 1000, NOW + 2000):
        told = decide(OBSERVE, mem, snap(at, gpus=(gpu(0, at=at), gpu(1, at=at))))
        assert Kind.UNCORDON not in [a.kind for a in told.actions]
        mem = told.memory
    incident = mem.devices[device_id(0)].cordoned_by
    assert incident in mem.open_incidents.values()
    lifted = asked(command(Verb.UNCORDON, reason=""), memory=mem)
    assert kinds(lifted) == [(Kind.UNCORDON, device_id(0))]
    assert lifted.memory.devices[device_id(0)].held_by == ""
    assert lifted.memory.devices[device_id(0)].uncordon_owed == incident


def test_an_agents_own_cordon_is_taken_over() -> None:
    mem = Memory(
        boot_id=snap().boot_id,
        devices={device_id(0): device_memory(cordoned_by=IncidentId("inc-7"), is_cordon_told=True)},
    )
    told = asked(command(Verb.CORDON), memory=mem)
    assert only(told).incident == "inc-7"
    assert Kind.CORDON not in [a.kind for a in told.actions]
    assert told.memory.devices[device_id(0)].held_by == "ada"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (command(Verb.CORDON, "7"), "no device is 7 (there are: 0, 1; node)"),
        (command(Verb.CORDON, "GPU-"), "no device is GPU-"),
        (command(Verb.CORDON, ""), "no device is "),
        (command(Verb.UNCORDON), "not cordoned"),
        (command(Verb.UNCORDON, "node"), "not cordoned"),
        (command(Verb.SET_HEALTHY), "nothing stands against"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(wanted: Command, why: str) -> None:
    told = asked(wanted)
    assert not only(told).is_done
    assert why in only(told).text
    assert told.actions == ()


def test_cordoned_twice_is_cordoned_once() -> None:
    told = asked(command(Verb.CORDON), command(Verb.CORDON, number=2))
    assert [a.is_done for a in told.answers] == [True, False]
    assert len(told.actions) == 1


def test_without_a_journal_nothing_is_done() -> None:
    told = asked(command(Verb.CORDON), can_record=False)
    assert "journal" in only(told).text
    assert told.actions == ()
    assert all(not d.held_by for d in told.memory.devices.values())


def repaired(phase: Phase, **more: object) -> Memory:
    repair = Repair(
        subject=str(device_id(0)),
        device=device_id(0),
        cls=FaultClass.LOST,
        incident=IncidentId("inc-7"),
        ladder=(Step.REBOOT, Step.HAND_OVER),
        phase=phase,
        rung=1,
        since=1.0,
        opened_at=1.0,
        attempts=(Attempt(step=Step.REBOOT, wall=1.0),),
    )
    return Memory(
        boot_id=snap().boot_id,
        repairs={repair.subject: repair},
        open_incidents={"device/x": IncidentId("inc-7")},
        devices={device_id(0): DeviceMemory(cordoned_by=IncidentId("inc-7"), **more)},  # type: ignore[arg-type]
    )


def test_a_repair_goes_on_probation_by_an_operators_word() -> None:
    told = asked(command(Verb.SET_HEALTHY), memory=repaired(Phase.HANDED_OVER))
    assert only(told).is_done
    assert told.memory.repairs[str(device_id(0))].phase is Phase.PROBATION
    assert told.memory.devices[device_id(0)].cordoned_by == "inc-7"
    assert "ada says that GPU 0 is healthy: new fan" in [n.text for n in told.incidents]


def test_what_is_being_repaired_stays_out_of_use() -> None:
    told = asked(command(Verb.UNCORDON), memory=repaired(Phase.EMPTYING))
    assert "being repaired" in only(told).text
    held = asked(command(Verb.UNCORDON), memory=repaired(Phase.EMPTYING, held_by="bob"))
    assert only(held).is_done
    assert held.memory.devices[device_id(0)].held_by == ""
    assert held.memory.devices[device_id(0)].cordoned_by == "inc-7"
    acting = asked(command(Verb.SET_HEALTHY), memory=repaired(Phase.ACTING))
    assert "under way" in only(acting).text


def test_the_end_of_one_cordon_names_those_that_stand() -> None:
    mem = asked(command(Verb.CORDON), command(Verb.CORDON, "node", number=2)).memory
    told = asked(command(Verb.UNCORDON), memory=mem)
    (end,) = told.actions
    assert dict(end.params)["still"] == mem.devices[NODE_ITSELF].cordoned_by
