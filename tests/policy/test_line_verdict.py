"""The verdict of a line: all codes in every situation, the precedence, and every kind of line."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.kernel_lines import read
from gpuwarden.model.fault import Basis, Gravity, RecoveryAction, Remedy, Scope, Verdict
from gpuwarden.model.kernel_line import (
    Containment,
    DriverLine,
    Kind,
    Recovery,
    SxidForm,
    SxidLine,
    XidLine,
)
from gpuwarden.model.tenant import TenantClass
from gpuwarden.policy.fault import catalogue, line_verdict
from gpuwarden.policy.fault.line_verdict import may_blame, of_xid, verdict
from tests.kernel_log_data import labelled, name_of

TABLES = Path(catalogue.__file__).parent / "tables"
REACH = ["info", "app", "link", "gpu", "node"]
WEIGHT = ["info", "warning", "error", "fatal"]
Triple = tuple[str, str, str]

with (TABLES / "xid_catalog.csv").open(encoding="utf-8", newline="") as file:
    CATALOGUE: dict[int, Triple] = {
        int(row["xid"]): (row["scope"], row["severity"], row["immediate_action"])
        for row in csv.DictReader(file)
    }
with (TABLES / "sxid_catalog.csv").open(encoding="utf-8", newline="") as file:
    SWITCHES: dict[int, tuple[bool, str]] = {
        int(row["sxid"]): (row["fatal"] == "yes", row["action"]) for row in csv.DictReader(file)
    }
ADVICE: dict[int, Triple] = {
    1: ("gpu", "fatal", "reset_gpu"),
    2: ("node", "fatal", "reboot_node"),
    3: ("link", "error", "workflow"),
    4: ("gpu", "error", "reset_gpu"),
    5: ("node", "error", "workflow"),
    6: ("gpu", "fatal", "reset_gpu"),
    7: ("node", "fatal", "reboot_node"),
    8: ("gpu", "error", "contact_support"),
}
"""By the driver's number; 8 is one that nobody knows yet."""


def triple(said: Verdict) -> Triple:
    return said.scope.value, said.severity.value, said.action.value


def ruled(code: int, number: int) -> Triple:
    """The catalogue's row once the driver has said what it wants."""
    (scope, severity, _), (scope_, severity_, action) = CATALOGUE[code], ADVICE[number]
    return (
        max(scope, scope_, key=REACH.index),
        max(severity, severity_, key=WEIGHT.index),
        action,
    )


def line(code: int, **rest: Any) -> XidLine:
    return XidLine(xid=code, pci="0000:65:00", **rest)


# --- all codes x {alone, with the driver's number, caused by another, MIG, protected tenant} ---

CODES = sorted(CATALOGUE)


@pytest.mark.parametrize("code", CODES)
def test_alone_a_code_is_what_the_catalogue_says(code: int) -> None:
    said = verdict(line(code))
    assert triple(said) == CATALOGUE[code]
    assert said.basis is (Basis.FOLLOW_ON if code == 45 else Basis.CATALOGUE)
    assert of_xid(code) == replace(said, hint=None)


@pytest.mark.parametrize("code", CODES)
def test_the_drivers_number_rules_the_action(code: int) -> None:
    for number in (None, 0, *ADVICE):
        said = verdict(line(code), number)
        assert of_xid(code, number) == replace(said, hint=None)
        if not number or code == 45:  # not told, nothing asked for, or never a verdict by itself
            assert said == verdict(line(code))
            continue
        assert triple(said) == ruled(code, number)
        assert said.basis is Basis.RECOVERY
        assert said.recovery == (number if number < 8 else None)


@pytest.mark.parametrize("code", CODES)
def test_a_consequence_is_never_a_verdict_by_itself(code: int) -> None:
    for number, flags in itertools.product([None, 0, *ADVICE], [None, True]):
        contained = flags and Containment(
            contained=False, location="SM", reset_needed=True, drain_reset_needed=True
        )
        said = verdict(line(code, caused_by_xid=79, containment=contained or None), number)
        assert triple(said) == (CATALOGUE[code][0], "info", "workflow")
        assert (said.basis, said.root_xid, said.is_standalone) == (Basis.FOLLOW_ON, 79, False)
        assert not any(may_blame(said, each) for each in TenantClass)


@pytest.mark.parametrize("code", CODES)
def test_a_mig_instance_changes_nothing(code: int) -> None:
    """Its fault has the reach of its code: a reset takes the whole GPU."""
    alone = line(code)
    for mig in (replace(alone, gpu_instance=5), replace(alone, gpu_instance=5, compute_instance=1)):
        for number in (None, 0, *ADVICE):
            assert verdict(mig, number) == verdict(alone, number)


@pytest.mark.parametrize("code", CODES)
def test_a_protected_tenant_is_not_blamed_and_changes_nothing(code: int) -> None:
    named = line(code, pid=4711, process="risk")
    assert verdict(named) == verdict(line(code))
    is_beyond = CATALOGUE[code][0] in ("link", "gpu", "node")
    for each in TenantClass:
        expected = is_beyond and code != 45 and each is not TenantClass.PROTECTED
        assert may_blame(verdict(named), each) == expected


# --- the driver's number in the line itself ---


@pytest.mark.parametrize("polled", [None, 0, 1, 2])
@pytest.mark.parametrize("number", range(9))
def test_an_advice_in_a_line_is_its_number(number: int, polled: int | None) -> None:
    advice = Recovery(from_=0, from_text="None", to=number, to_text="whatever it is called")
    said = verdict(line(154, recovery=advice), polled)
    assert triple(said) == (ADVICE[number] if number else ("info", "info", "monitor"))
    assert said.basis is Basis.RECOVERY


def test_an_advice_that_is_not_understood_is_left_to_people() -> None:
    assert triple(verdict(line(154))) == ("info", "warning", "workflow")


def test_an_advice_counts_only_where_the_driver_gives_it() -> None:
    forged = Recovery(from_=0, from_text="None", to=2, to_text="Node Reboot Required")
    assert triple(verdict(line(13, recovery=forged))) == CATALOGUE[13]


# --- containment ---


@pytest.mark.parametrize(
    ("code", "reset", "drain", "expected"),
    [
        (94, False, False, ("app", "error", "restart_app")),
        (94, None, None, ("app", "error", "restart_app")),
        (94, True, False, ("gpu", "fatal", "reset_gpu")),
        (94, False, True, ("gpu", "error", "reset_gpu")),
        (94, True, True, ("gpu", "fatal", "reset_gpu")),
        (95, False, False, ("gpu", "fatal", "reset_gpu")),
        (95, True, False, ("gpu", "fatal", "reset_gpu")),
        (95, False, True, ("gpu", "fatal", "reset_gpu")),
    ],
)
def test_flags_only_ask_for_more(
    code: int, reset: bool | None, drain: bool | None, expected: Triple
) -> None:
    flags = Containment(
        contained=code == 94, location="SM", reset_needed=reset, drain_reset_needed=drain
    )
    said = verdict(line(code, containment=flags))
    assert triple(said) == expected
    assert triple(verdict(line(code, containment=flags), 2)) == ("node", "fatal", "reboot_node")
    if code == 94 and (reset or drain):
        assert said.basis is Basis.CONTAINMENT


# --- NVSwitch ---


def sxid(code: int, form: SxidForm, **rest: Any) -> SxidLine:
    return SxidLine(sxid=code, pci="0000:c3:00.0", switch=0, form=form, **rest)


def test_the_word_in_the_line_is_stronger_than_the_table() -> None:
    for code, (is_fatal, action) in SWITCHES.items():
        _walk_words(code, is_fatal, action)


def _walk_words(code: int, is_fatal: bool, action: str) -> None:
    silent = verdict(sxid(code, SxidForm.DATA))
    assert (silent.severity.value == "fatal", silent.action.value) == (is_fatal, action)
    assert silent.basis is Basis.CATALOGUE
    for word in (True, False):
        said = verdict(sxid(code, SxidForm.EVENT, fatal=word, link=4))
        assert said == verdict(sxid(code, SxidForm.SEVERITY, severity=int(word)))
        assert said.severity.value == ("fatal" if word else "warning")
        assert said.basis is Basis.WORD
        if word == is_fatal:
            assert said.action.value == action
        elif word:
            assert said.action.value == ("workflow" if action == "monitor" else action)
        else:
            assert said.action not in (Remedy.RESET_GPU, Remedy.REBOOT_NODE, Remedy.RESTART_FABRIC)
        assert said.scope in (Scope.LINK, Scope.NODE)
        assert said.scope is silent.scope
        assert verdict(sxid(code, SxidForm.EVENT, fatal=word), 2) == verdict(
            sxid(code, SxidForm.EVENT, fatal=word)
        )


@pytest.mark.parametrize(
    ("word", "severity"), [(True, "fatal"), (None, "error"), (False, "warning")]
)
def test_an_unknown_switch_fault_is_left_to_people(word: bool | None, severity: str) -> None:
    said = verdict(sxid(99_999, SxidForm.EVENT, fatal=word))
    assert triple(said) == ("link", severity, "contact_support")
    assert said.basis is Basis.UNKNOWN


# --- what nobody knows ---


@pytest.mark.parametrize("code", [0, 177, 178, 999, 65_535])
def test_an_unknown_number_is_told_to_people_and_nothing_is_done(code: int) -> None:
    said = verdict(line(code))
    assert triple(said) == ("gpu", "error", "contact_support")
    assert said == of_xid(code)
    assert said.basis is Basis.UNKNOWN
    assert not any(may_blame(said, each) for each in TenantClass)
    assert triple(verdict(line(code), 1)) == ("gpu", "fatal", "reset_gpu")


# --- the other kinds ---


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.XID, Kind.SXID)])
def test_every_kind_has_a_verdict(kind: Kind) -> None:
    said = verdict(DriverLine(kind=kind, caused_by_xid=79))
    assert said.is_standalone == (kind is not Kind.CHANNELS_TORN_DOWN)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Kind.FALLEN_OFF_BUS, 79),
        (Kind.RM_INIT_FAILED, 143),
        (Kind.GSP_HEARTBEAT_LOST, 120),
        (Kind.GSP_RATE_LIMITED, 119),
    ],
)
def test_a_line_without_a_number_means_what_its_number_means(kind: Kind, code: int) -> None:
    assert triple(verdict(DriverLine(kind=kind))) == CATALOGUE[code]


def test_an_assertion_says_what_its_error_says() -> None:
    plain = DriverLine(kind=Kind.DRIVER_ASSERT, reset_required=False)
    assert triple(verdict(plain)) == ("info", "info", "monitor")
    asks = replace(plain, reset_required=True, status="NV_ERR_RESET_REQUIRED")
    assert triple(verdict(asks)) == ("gpu", "fatal", "reset_gpu")
    lost = replace(plain, status="NV_ERR_GPU_IS_LOST")
    assert triple(verdict(lost)) == CATALOGUE[79]


# --- hints, and the labelled lines ---


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("145, RLW_REMAP Nonfatal XC1 i0 Link 10 (0x00000082 0x00000040)", Remedy.RESET_GPU),
        ("149, NETIR_BER_EVENT Nonfatal XC0 i0 Link 03 (0x00086226 0x00000001)", Remedy.MONITOR),
        ("145, RLW_SRC_TRACK Nonfatal XC1 i0 Link 03 (0x040868e2 0x00000008)", None),
        ("145, RLW_REMAP Nonfatal XC0 i0 Link 02", None),
        (
            "74, NVLink: fatal error detected on link 1(0x0, 0x0, 0x0, 0x40000, 0x0, 0x0, 0x0)",
            Remedy.RESET_GPU,
        ),
        ("74, NVLink: fatal error detected on link 1", None),
        (
            "48, An uncorrectable double bit error (DBE) at partition 4, subpartition 1",
            Remedy.RESET_GPU,
        ),
        ("79, GPU has fallen off the bus.", None),
    ],
)
def test_where_it_depends_the_registers_give_a_hint(text: str, hint: Remedy | None) -> None:
    reading = read(f"NVRM: Xid (PCI:0000:65:00): {text}")
    assert isinstance(reading, XidLine)
    said = verdict(reading)
    assert said.hint is hint
    assert triple(said) == CATALOGUE[reading.xid]
    assert verdict(reading, 2).hint is None


@pytest.mark.parametrize("row", labelled(), ids=name_of)
def test_the_verdict_of_a_labelled_line(row: dict[str, Any]) -> None:
    reading = read(row["line"])
    if reading is None:
        assert row["verdict"] is None
        return
    said = verdict(reading)
    expected = row["verdict"]
    assert triple(said) == (expected["scope"], expected["severity"], expected["action"])


def test_the_order_of_words_is_that_of_the_vocabulary() -> None:
    assert [each.value for each in line_verdict._REACH] == REACH
    assert [each.value for each in line_verdict._WEIGHT] == WEIGHT
    assert set(REACH) == set(Scope)
    assert set(WEIGHT) == set(Gravity)
    assert set(line_verdict._BY_RECOVERY) == set(RecoveryAction)
