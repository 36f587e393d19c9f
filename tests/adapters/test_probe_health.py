"""Slow facts as the model's typed classes: by name, each with its own time, withdrawn when too old."""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Any

import pytest

from gpuwarden.adapters.probe import health, layout
from gpuwarden.adapters.probe.book import Book
from gpuwarden.adapters.probe.specs import (
    DEEP_S,
    FIELDS,
    LINKS_MAX,
    MEDIUM_S,
    NUMBERED,
    SLOW_S,
    SPECS,
    part_of,
    period_s,
)
from gpuwarden.model.device import Device
from gpuwarden.model.health import EVERY_S, DeviceHealth, Errors, Setup, Vitals
from tests.adapters.test_probe_decode import entry, fact, post, record, told

FAST, MEDIUM, SLOW, DEEP = 5, 15, 60, part_of(DEEP_S)


class Parent:
    """A book with one device, fed by hand."""

    def __init__(self) -> None:
        self.book, self.post = Book(), post()
        self.take(layout.INVENTORY, entry(0, b"GPU-1"), 1.0)

    def take(self, kind: int, payload: bytes, at: float, part: int = FAST) -> None:
        self.book.take(self.post, told(kind, payload, at, part))

    def see(self, at: float) -> Device:
        self.take(layout.MEMORY, record(5), at)
        return self.book.view(at, 1.0).devices[0]

    def health(self, at: float) -> DeviceHealth:
        found = self.see(at).health
        assert found is not None
        return found


def field(number: int, value: int, scope: int = 0, code: int = 0) -> bytes:
    return layout.FIELD_VALUE.pack(number, scope, 0, 0, 3, code, value)


def word(value: int) -> bytes:
    return struct.pack("=I", value)


def test_every_field_of_the_model_is_read_at_the_pace_of_its_class() -> None:
    pace = {out.key.replace(":", "_"): s.every_s for s in NUMBERED for out in s.outs}
    pace |= {s.verdict[0]: s.every_s for s in NUMBERED if s.verdict is not None}
    pace |= {f.key.partition(":")[0]: f.every_s for f in FIELDS}
    pace |= dict.fromkeys(("nvlink_up_mask", "nvlink_down_mask"), pace["nvlink_up"])
    for name, kind, part in health.CLASSES:
        assert period_s(part) == EVERY_S[name]
        for each in fields(kind):
            if each.name != "at":
                assert pace[each.name] == period_s(part), each.name


def test_facts_become_numbers_counts_and_flags() -> None:
    parent = Parent()
    parent.take(layout.FACTS, fact("power_w", word(250_500)), 2.0)
    parent.take(layout.FIELDS, field(230, 4), 2.0)
    assert parent.health(2.0).vitals == Vitals(at=2.0, power_w=250.5, recovery_action=4)
    remaps = struct.pack("=IIII", 1, 2, 1, 0)
    parent.take(layout.FACTS, fact("row_remap_pending", remaps), 3.0, MEDIUM)
    errors = parent.health(3.0).errors
    assert errors == Errors(
        at=3.0,
        row_remaps_correctable_total=1,
        row_remaps_uncorrectable_total=2,
        row_remap_pending=True,
        row_remap_failed=False,
    )
    assert errors.row_remap_pending is True


def test_what_fails_or_withholds_is_not_told() -> None:
    parent = Parent()
    refused = fact("pcie_replays_total", b"", code=3)
    parent.take(
        layout.FACTS, refused + fact("temperature_margin_c", struct.pack("=Ii", 0, -1)), 2.0, MEDIUM
    )
    errors = parent.health(2.0).errors
    assert errors == Errors(at=2.0, temperature_margin_c=-1.0)


def test_nothing_told_is_no_health() -> None:
    assert Parent().see(2.0).health is None


def link(number: int, state: int | None) -> bytes:
    return field(165, state or 0, number, code=3 if state is None else 0)


@pytest.mark.parametrize(
    ("states", "up", "down"),
    [
        ([1, 1, 0, 1], 0b1011, 0b0100),
        ([0, 0], 0, 0b11),
        ([1, None, 0], 0b001, 0b100),
        ([None, None], None, None),  # a board without NVLink
        ([7, 1], 0b10, 0),  # a state that no header knows
    ],
)
def test_links_are_told_one_by_one(
    states: list[int | None], up: int | None, down: int | None
) -> None:
    parent = Parent()
    payload = b"".join(link(n, state) for n, state in enumerate(states))
    parent.take(layout.FIELDS, payload, 2.0, MEDIUM)
    errors = parent.health(2.0).errors
    assert errors is not None
    assert (errors.nvlink_up_mask, errors.nvlink_down_mask) == (up, down)


def test_counters_of_the_fifth_generation_are_added_up_over_the_links() -> None:
    parent = Parent()
    payload = field(208, 3, 0) + field(208, 4, 17) + field(208, 0, 5, code=3) + field(214, 0, 1, 3)
    parent.take(layout.FIELDS, payload, 2.0, MEDIUM)
    errors = parent.health(2.0).errors
    assert errors is not None
    assert (errors.nvlink_receive_errors_total, errors.nvlink_recovery_failures_total) == (7, None)


def fabric(cluster: bytes = bytes(16), state: int = 3, mask: int = 0xAA) -> bytes:
    return struct.pack("=I16siIBxxxI", 0x03000028, cluster, 0, 0, state, mask) + bytes(4)


@pytest.mark.parametrize("cluster", [bytes(16), bytes(15) + b"\1"])
def test_the_fabric_and_whether_it_spans_hosts(cluster: bytes) -> None:
    parent = Parent()
    parent.take(layout.FACTS, fact("fabric_state", fabric(cluster)), 2.0, SLOW)
    assert parent.health(2.0).setup == Setup(
        at=2.0,
        fabric_state=3,
        fabric_status=0,
        fabric_health_mask=0xAA,
        fabric_has_cluster=any(cluster),
    )


@pytest.mark.parametrize(("code", "corrupted"), [(0, False), (14, True), (3, None), (999, None)])
def test_the_inforoms_verdict_is_a_return_code(code: int, corrupted: bool | None) -> None:
    number = next(n for n, spec in enumerate(NUMBERED) if spec.verdict is not None)
    answer = bytes(4) if code == 0 else b""
    parent = Parent()
    payload = layout.FACT.pack(number, code, len(answer)) + answer
    parent.take(layout.FACTS, payload, 2.0, DEEP)
    deep = parent.health(2.0).deep
    assert deep is not None
    assert deep.inforom_corrupted is corrupted


@pytest.mark.parametrize(
    ("part", "stands_s"), [(FAST, 12.5), (MEDIUM, 37.5), (SLOW, 150.0), (DEEP, 9000.0)]
)
def test_a_class_that_is_long_overdue_is_withdrawn(part: int, stands_s: float) -> None:
    parent = Parent()
    name = next(name for name, _, of in health.CLASSES if of == part)
    parent.take(layout.FIELDS, field(230, 1), 2.0, part)
    assert getattr(parent.health(2.0 + stands_s), name) is not None
    assert parent.see(2.0 + stands_s + 0.1).health is None


def test_the_same_object_while_nothing_new_came() -> None:
    parent = Parent()
    parent.take(layout.FACTS, fact("power_w", word(1000)), 2.0)
    parent.take(layout.FIELDS, field(29, 1), 2.0, SLOW)
    first = parent.health(2.0)
    assert parent.health(2.5) is first
    parent.take(layout.FACTS, fact("power_w", word(1000)), 7.0)
    second = parent.health(7.0)
    assert second.vitals == Vitals(at=7.0, power_w=1.0)
    assert second.setup is first.setup


def test_a_blind_device_tells_nothing_and_a_slice_has_no_health() -> None:
    parent = Parent()
    parent.take(layout.FIELDS, field(230, 1), 2.0)
    assert parent.health(2.0).vitals is not None
    assert parent.book.view(9.0, 1.0).devices[0].health is None
    pair = entry(0, b"GPU-1", flags=layout.IS_MIG_PARENT) + entry(
        0, b"MIG-1", parent=0, flags=layout.IS_MIG_SLICE
    )
    parent.take(layout.INVENTORY, pair, 10.0)
    parent.take(layout.MEMORY, record(1) + record(1), 10.0)
    for ordinal in (0, 1):
        sent: dict[str, Any] = {"kind": layout.FIELDS, "part": FAST, "at": 10.0}
        parent.book.take(parent.post, frame(ordinal, field(230, 1), **sent))
    found = {d.id: d.health is not None for d in parent.book.view(10.0, 1.0).devices}
    assert found == {"GPU-1": True, "MIG-1": False}


def frame(ordinal: int, payload: bytes, **rest: Any) -> Any:
    return told(rest["kind"], payload, rest["at"], rest["part"])._replace(ordinal=ordinal)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (0x1, "ecc-corrected"),
        (0x2, "ecc-uncorrected"),
        (0x8, "xid"),
        (0x10, "clock"),
        (0x100, "mig"),
        (0x200, "ecc-storm"),
        (0x800, "retirement-failed"),
        (0x8000, "recovery-action"),
        (0x40000000, "other"),
    ],
)
def test_events_by_their_words(kind: int, word: str) -> None:
    parent = Parent()
    parent.take(layout.EVENT, layout.EVENT_BODY.pack(kind, 0, 0, 0), 2.0)
    (event,) = parent.book.view(2.0, 1.0).events
    assert (event.kind, event.device, event.at) == (word, "GPU-1", 2.0)


def test_why_there_is_no_driver_is_told_with_the_versions() -> None:
    parent = Parent()
    assert parent.book.view(1.0, 1.0).driver is None
    body = layout.HELLO_BODY.pack(b"580.95.05", b"13.580.95.05", 13000)
    parent.take(layout.HELLO, body, 1.0)
    versions = parent.book.view(1.0, 1.0).driver
    assert versions is not None
    assert (versions.driver, versions.library) == ("580.95.05", "13.580.95.05")
    parent.take(layout.GONE, layout.GONE_BODY.pack(18, 0), 2.0)
    refused = parent.book.view(2.0, 1.0).driver
    assert refused is not None
    assert refused.is_refused


def test_what_takes_long_is_asked_of_one_device_at_a_time() -> None:
    assert [spec.symbol for spec in SPECS if spec.every_s == DEEP_S] == [
        "nvmlDeviceValidateInforom"
    ]
    assert sum(field.id == 165 for field in FIELDS) == LINKS_MAX
    assert {spec.every_s for spec in SPECS} == {5, MEDIUM_S, SLOW_S, DEEP_S}
