"""The fold over samples: each is judged once, none that is too old, and time alone heals nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.config_health import HealthConfig
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Severity
from gpuwarden.model.health import EVERY_S
from gpuwarden.policy import guard
from gpuwarden.policy.decide import decide
from gpuwarden.policy.fault.polled import OF_FAULT
from gpuwarden.policy.health import watch
from gpuwarden.policy.health.advice import OF_RULE
from gpuwarden.policy.health.rules import HOST_RULES, NAMES, RULES
from tests.policy.builders import NOW, Story, config, gpu, memory, snap
from tests.policy.health.ward import Ward, sampled

EVERYTHING_ILL = {
    "vitals": {"recovery_action": 1, "clock_event_mask": 0xE8, "temperature_c": 99.0},
    "errors": {"ecc_uncorrected_volatile_total": 1, "row_remap_failed": True},
    "setup": {"persistence_enabled": False, "temperature_slowdown_c": 89.0},
    "deep": {"inforom_corrupted": True},
}


def ill(at: float, index: int = 0) -> Device:
    return sampled(index, at=at, **EVERYTHING_ILL)  # type: ignore[arg-type]


def test_every_rule_has_its_settings_and_a_mode() -> None:
    for name in NAMES:
        assert name in HealthConfig.model_fields, name
        assert guard.is_on(config(), name)
        assert not guard.is_on(config(rules={name: {"mode": "off"}}), name)


def test_every_rule_says_what_to_do_next_and_stands_in_the_readme() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert OF_RULE[name], name
        assert f"| `{name}` |" in readme, name


def test_every_fault_has_a_class_and_a_remedy() -> None:
    faults = {fault for judge in RULES for fault in judge.needs}
    faults |= {fault for judge in HOST_RULES for fault in judge.needs}
    assert faults == set(OF_FAULT)


def test_no_two_rules_claim_the_same_fault() -> None:
    faults = [fault for judge in RULES for fault in judge.needs]
    faults += [fault for judge in HOST_RULES for fault in judge.needs]
    assert len(faults) == len(set(faults))


def test_a_device_without_health_costs_and_claims_nothing() -> None:
    ward = Ward()
    assert ward.see(NOW, gpu()) == {}
    assert ward.health.devices == {}


def test_a_sample_is_judged_once() -> None:
    ward = Ward()
    ward.see(NOW, ill(NOW))
    first = ward.health.signs
    ward.see(NOW + 1, ill(NOW))
    again = ward.health.signs
    assert all(again[key].seen_at == first[key].seen_at == NOW for key in first)


@pytest.mark.parametrize(("devices", "ticks"), [(1, 1), (4, 1), (5, 2), (16, 4), (64, 4)])
def test_every_device_has_its_turn_within_four_ticks(devices: int, ticks: int) -> None:
    ward = Ward()
    them = [ill(NOW, n) for n in range(devices)]
    for tick in range(ticks):
        assert len(ward.health.devices) < devices
        ward.see(NOW + tick, *them)
    assert len(ward.health.devices) == devices


@pytest.mark.parametrize("sight", [Sight.BLIND, Sight.LOST])
def test_what_cannot_be_seen_is_not_judged(sight: Sight) -> None:
    ward = Ward()
    assert ward.see(NOW, replace(ill(NOW), sight=sight)) == {}
    assert ward.health.signs == {}


def test_a_device_that_goes_blind_is_not_healed() -> None:
    ward = Ward()
    before = ward.see(NOW, ill(NOW))
    for n in range(1, 500, 7):
        after = ward.see(NOW + n, replace(ill(NOW), sight=Sight.BLIND, health=None))
        assert set(after) == set(before)


def test_a_sample_of_the_future_waits_and_one_of_long_ago_is_nothing() -> None:
    ward = Ward()
    assert ward.see(NOW, ill(NOW + 0.5)) == {}
    assert ward.health.devices == {}
    for part, every_s in EVERY_S.items():
        old = sampled(at=NOW - 2.5 * every_s - 0.1, **{part: EVERYTHING_ILL[part]})  # type: ignore[arg-type]
        assert ward.see(NOW, old) == {}
        assert ward.health.signs == {}, part


def test_a_device_that_is_no_more_is_forgotten_and_one_that_comes_back_is_not() -> None:
    ward = Ward()
    before = set(ward.see(NOW, ill(NOW), ill(NOW, 1)))
    for n in range(1, 300, 10):
        assert set(ward.see(NOW + n, ill(NOW, 1))) == before
    later = NOW + watch.FORGET_S
    assert set(ward.see(later, ill(NOW, 1))) == before
    assert {f.device for f in ward.see(later + 1, ill(NOW, 1)).values()} == {"GPU-1"}


def test_a_reboot_clears_what_it_clears() -> None:
    ward = Ward()
    assert ward.see(NOW, ill(NOW))
    story = Story(config())
    story.see(NOW, gpus=[ill(NOW)])
    assert story.mem.health.signs
    story.see(10.0, gpus=[sampled(at=10.0, vitals={})], boot_id="boot-2")
    assert story.mem.health.signs == {}


def test_findings_carry_what_decides_what_heals_them() -> None:
    for finding in Ward().see(NOW, ill(NOW)).values():
        assert finding.fault
        assert finding.scope is not None
        assert finding.rule in NAMES
        assert finding.summary.startswith("GPU 0 ")


def test_a_mode_of_its_own_switches_a_rule_off_and_its_fault_away() -> None:
    ward = Ward()
    assert "row-remap-failed GPU-0" in ward.see(NOW, ill(NOW))
    ward.cfg = config(rules={"remap": {"mode": "off"}})
    assert "row-remap-failed GPU-0" not in ward.see(NOW + 1, ill(NOW))


def test_errors_page_once_and_warnings_wake_nobody_and_nobody_is_harmed() -> None:
    # A repair that is handed over pages once for all that stands on its device.
    story = Story(config(rules={"repair": {"mode": "off"}}))
    for n in range(600):
        at = NOW + n
        story.see(at, gpus=[ill(NOW + n // 5 * 5)])
    by_severity: dict[Severity, int] = {}
    for finding in story.looks[-1].findings:
        if finding.fault and finding.rule != "recovery":
            by_severity[finding.severity] = by_severity.get(finding.severity, 0) + 1
    urgent = by_severity[Severity.ERROR] + by_severity[Severity.CRITICAL]
    assert by_severity[Severity.WARNING] > 0
    pages = [kind for _, kind, _ in story.ordered if kind.value == "page"]
    assert len(pages) == urgent
    assert {kind.value for _, kind, _ in story.ordered} == {"page"}


def test_same_inputs_same_decision() -> None:
    look = snap(gpus=[ill(NOW)])
    assert decide(config(), memory(), look) == decide(config(), memory(), look)
