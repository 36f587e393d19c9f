"""The judge of a played fault: each thing that can be wrong is told. And what can be played is whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from gpuwarden.cli import main
from gpuwarden.sim.faults.cast import draw
from gpuwarden.sim.faults.judge import Evidence, as_json, judge, missed
from gpuwarden.sim.faults.play import Part
from gpuwarden.sim.faults.plays import PLAYS
from gpuwarden.sim.faults.scheduler import Told
from gpuwarden.wire.v1 import node_pb2 as pb

WELL = {"lost": False, "locked_up": False, "recovery_action": 0}
CORDON = {"verb": "cordon", "incident": "inc-1"}
UNCORDON = {"verb": "uncordon", "incident": "inc-1", "still": []}
# What the issue asks for, by the names of plays.
ASKED = {
    *("application", "double-bit", "remap-recorded", "remap-not-recorded", "contained"),
    *("uncontained", "nvlink", "nvlink5", "fallen-off", "gsp", "gsp-crash", "reboot-asked"),
    *("sxid-fatal", "sxid-nonfatal", "lost", "hung", "remap-pending", "throttle"),
    *("narrow-link", "fabric-manager", "mismatch", "zombie", "stuck"),
}


def fault(code: str, scope: str, cls: str, **more: Any) -> pb.Fault:
    return pb.Fault(root=pb.Sign(code=code, scope=scope, fault_class=cls, **more))


def a_reset(**changes: Any) -> Evidence:
    """A GSP fault that went as it should."""
    whole = Evidence(
        play=PLAYS["gsp"],
        has_containers=False,
        seconds=9.0,
        faults=(fault("xid 119", "gpu", "hang"),),
        phases=("open", "emptying", "acting", "verifying", "probation"),
        calls=("reset-gpu",),
        told=Told(orders=(CORDON, UNCORDON)),
        pages=({"summary": "GPU 0 is locked up"},),
        incidents=(pb.Incident(id="inc-1", rule="locked", closed_at=9.0),),
        is_over=True,
        device=WELL,
        was_healed=False,
        marks={"serve": ()},
    )
    return replace(whole, **changes)


def wrong(evidence: Evidence) -> tuple[str, ...]:
    return missed(evidence, judge(evidence))


def test_one_that_went_as_it_should() -> None:
    assert wrong(a_reset()) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"faults": (fault("xid 119", "node", "hang"),)}, "scope: node, expected gpu"),
        ({"faults": ()}, "scope: , expected gpu"),
        ({"calls": ()}, "rungs: none, expected reset-gpu"),
        ({"calls": ("reset-gpu", "reload-driver")}, "rungs: reset-gpu, reload-driver, expected"),
        ({"phases": ("handed-over",)}, "rungs: reset-gpu, hand-over, expected reset-gpu"),
        ({"phases": ("open", "acting", "verifying")}, "verified: false, expected true"),
        ({"device": {**WELL, "recovery_action": 1}}, "verified: false, expected true"),
        ({"device": {**WELL, "lost": True}}, "verified: false, expected true"),
        ({"told": Told()}, "cordoned: false, expected true"),
        ({"told": Told(orders=(CORDON,))}, "a cordon stands: inc-1"),
        ({"pages": ()}, "pages: 0, expected 1"),
        ({"pages": ({}, {})}, "pages: 2, expected 1"),
        ({"marks": {"serve": ("it is gone",)}}, "wrong_victims: 1, expected 0"),
        ({"is_over": False}, "not over within 60 s"),
    ],
)
def test_everything_that_can_be_wrong_is_told(changes: dict[str, Any], said: str) -> None:
    assert any(line.startswith(said) for line in wrong(a_reset(**changes)))


def test_what_was_said_goes_before_what_is_polled() -> None:
    polled = fault("device-count", "node", "host", is_condition=True)
    said = fault("xid 74", "link", "link")
    assert judge(a_reset(faults=(polled, said))).scope == "link"
    assert judge(a_reset(faults=(polled,))).scope == "node"


def test_nothing_done_is_nothing_verified() -> None:
    quiet = a_reset(play=PLAYS["application"], calls=(), phases=())
    assert not judge(quiet).verified
    assert judge(replace(quiet, was_healed=True)).verified


def test_keys_of_the_outcome_come_first() -> None:
    keys = ["fault", "scope", "rungs", "verified", "cordoned", "pages", "wrong_victims"]
    assert list(as_json(a_reset()))[:7] == keys


def test_a_scheduler_counts_what_stands() -> None:
    other = {"verb": "cordon", "incident": "inc-2"}
    kept = {"verb": "uncordon", "incident": "inc-1", "still": ["inc-2"]}
    assert Told(orders=(CORDON, other, kept)).standing == {"inc-2"}
    assert Told(orders=(CORDON, UNCORDON)).standing == frozenset()


def test_every_fault_that_was_asked_for_can_be_played() -> None:
    assert set(PLAYS) >= ASKED
    for play in PLAYS.values():
        assert play.events
        assert len(play.help) <= 130
        assert bool(play.heals) or play.rungs != ("hand-over",), f"{play.name} would never end"


def test_a_seed_draws_the_same_cast() -> None:
    play = PLAYS["protected"]
    assert draw(play, 3, 9000) == draw(play, 3, 9000)
    assert draw(play, 3, 9000) != draw(play, 4, 9000)
    assert draw(play, 3, 9000)[Part.GUARDED].device == 0


class TestList:
    def test_as_a_table(self) -> None:
        done = CliRunner().invoke(main, ["simulate", "fault", "--list"], env={"COLUMNS": "160"})
        assert done.exit_code == 0
        assert all(name in done.output for name in PLAYS)

    def test_as_json(self) -> None:
        done = CliRunner().invoke(main, ["simulate", "fault", "--list", "--json"])
        assert {row["fault"] for row in json.loads(done.output)} == set(PLAYS)

    @pytest.mark.parametrize("words", [[], ["gsp", "--all"], ["--list", "--all"], ["nonsense"]])
    def test_what_nobody_can_mean(self, words: list[str]) -> None:
        assert CliRunner().invoke(main, ["simulate", "fault", *words]).exit_code == 2
