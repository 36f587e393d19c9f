"""Raw NVML bytes to plain data: what cannot be is dropped and said, whatever the bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.adapters.probe import decode, layout
from gpuwarden.adapters.probe.book import Book
from gpuwarden.adapters.probe.crew import Post
from gpuwarden.adapters.probe.specs import NUMBERED
from gpuwarden.adapters.probe.worker import Frame, Start, Worker, split
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import GapKind
from tests.adapters.test_probe_codes import FakeWorker

GIB = 2**30
DEVICE = DeviceId("GPU-1")
TOTAL = 80 * GIB


def record(used: int, *, code: int = 0, total: int = TOTAL, reserved: int = GIB) -> bytes:
    free = max(0, total - used - reserved)
    return layout.MEMORY_RECORD.pack(layout.MEMORY_V2_VERSION, code, total, reserved, free, used)


def listing(
    compute: list[tuple[int, int]],
    graphics: list[tuple[int, int]] | None = None,
    mps: list[tuple[int, int]] | None = None,
    *,
    code: int = 0,
    row: struct.Struct = layout.ROW,
) -> bytes:
    head: list[int] = [code, len(compute)]
    for rows in (graphics, mps):
        head += [layout.LIST_SKIPPED, 0] if rows is None else [0, len(rows)]
    body = b"".join(
        row.pack(pid, 0, used, 0xFFFFFFFF, 0xFFFFFFFF, *([7] if row is layout.ROW_535 else []))
        for pid, used in [*compute, *(graphics or []), *(mps or [])]
    )
    return record(GIB) + layout.LIST_HEAD.pack(*head, row.size, 0) + body


def entry(index: int, uuid: bytes, *, code: int = 0, parent: int = -1, flags: int = 0) -> bytes:
    return layout.RECORD.pack(code, index, parent, flags, 0, uuid, b"H100", b"0000:3b:00.0")


def post() -> Post:
    start = Start(library=None, fast_deadline_s=1, slow_deadline_s=1)
    return Post(worker=cast(Worker, FakeWorker(start)))


def test_one_process_in_several_lists_is_one_row() -> None:
    rows = decode.rows(
        DEVICE, listing([(10, GIB), (11, GIB)], [(10, GIB), (12, 5)], [(11, 2 * GIB)])
    )
    assert {r.raw_pid: r.used_bytes for r in rows.rows} == {10: GIB, 11: 2 * GIB, 12: 5}
    assert not rows.faults


def test_who_is_on_the_mps_list_is_a_client_of_mps() -> None:
    rows = decode.rows(DEVICE, listing([(10, GIB), (11, GIB)], [(12, 5)], [(11, GIB), (13, 7)]))
    assert {r.raw_pid for r in rows.rows if r.is_mps} == {11, 13}
    rows = decode.rows(DEVICE, listing([(10, GIB)], None, None))
    assert not any(r.is_mps for r in rows.rows)


def test_a_size_that_is_withheld_is_unknown_and_never_beats_a_known_one() -> None:
    hidden = layout.NOT_AVAILABLE
    rows = decode.rows(
        DEVICE, listing([(10, hidden), (11, hidden), (12, 7)], [(11, 9), (12, hidden)])
    )
    assert {r.raw_pid: r.used_bytes for r in rows.rows} == {10: None, 11: 9, 12: 7}


@pytest.mark.parametrize(
    ("pid", "used"),
    [(0, 1), (decode.PID_MAX + 1, 1), (0xFFFFFFFF, GIB), (10, TOTAL + 1), (10, 2**63)],
)
def test_rows_that_cannot_be_are_dropped_and_said(pid: int, used: int) -> None:
    rows = decode.rows(DEVICE, listing([(pid, used), (77, 3)]))
    assert [r.raw_pid for r in rows.rows] == [77]
    assert len(rows.faults) == 1


def test_rows_of_early_535_drivers_are_wider() -> None:
    rows = decode.rows(DEVICE, listing([(10, GIB), (11, 2)], row=layout.ROW_535))
    assert {r.raw_pid: r.used_bytes for r in rows.rows} == {10: GIB, 11: 2}


def test_a_list_that_was_cut_short_says_so() -> None:
    whole = listing([(10, 1), (11, 1), (12, 1)])
    rows = decode.rows(DEVICE, whole[: -layout.ROW.size])
    assert len(rows.rows) == 2
    assert rows.faults


def test_a_failed_compute_list_is_no_list() -> None:
    assert decode.rows(DEVICE, listing([], code=3)).code == 3


@pytest.mark.parametrize(
    "bad",
    [
        record(TOTAL + 1),
        record(2**64 - 1),
        record(0, total=0),
        record(1, total=2**60),
        record(1, reserved=2**50),
    ],
)
def test_a_size_beyond_the_device_is_no_size(bad: bytes) -> None:
    assert decode.memory(bad).fault


def test_garbage_memory_blinds_and_the_next_good_sample_restores() -> None:
    book, one = Book(), post()
    book.take(
        one, Frame(kind=layout.INVENTORY, part=5, ordinal=0, at=1.0, payload=entry(0, b"GPU-1"))
    )
    sizes = [(1.0, record(5)), (2.0, record(TOTAL * 2)), (3.0, record(7))]
    seen = []
    for at, payload in sizes:
        book.take(one, Frame(kind=layout.MEMORY, part=5, ordinal=0, at=at, payload=payload))
        (device,) = (view := book.view(at, 1.0)).devices
        seen.append((device.sight, device.used_bytes, [g.kind for g in view.gaps]))
    assert seen[0] == (Sight.OK, 5, [])
    assert seen[1][:2] == (Sight.BLIND, None)
    assert set(seen[1][2]) == {GapKind.GARBAGE}
    assert seen[2] == (Sight.OK, 7, [])
    assert book.counters["garbage"] == 1


def test_a_sample_ages_into_blindness() -> None:
    book, one = Book(), post()
    book.take(
        one, Frame(kind=layout.INVENTORY, part=5, ordinal=0, at=1.0, payload=entry(0, b"GPU-1"))
    )
    assert not book.view(1.5, 1.0).devices, "neither seen nor unseen before its first sample"
    assert book.view(3.0, 1.0).devices[0].sight is Sight.BLIND
    book.take(one, Frame(kind=layout.MEMORY, part=5, ordinal=0, at=3.0, payload=record(5)))
    assert book.view(4.0, 1.0).devices[0].used_bytes == 5
    old = book.view(4.01, 1.0)
    assert (old.devices[0].sight, old.devices[0].used_bytes) == (Sight.BLIND, None)
    assert old.gaps[0].kind is GapKind.STALE
    book.renew(one, 4.0)
    assert book.view(4.5, 1.0).devices[0].sight is Sight.OK


@pytest.mark.parametrize("uuid", [b"", b"\xff\xfe\x01", b"GPU 1", b"\x1b[31mGPU", b"GPU-1\n"])
def test_a_uuid_that_names_nothing_is_a_gap(uuid: bytes) -> None:
    book, one = Book(), post()
    payload = entry(0, uuid) + entry(1, b"GPU-2")
    book.take(one, Frame(kind=layout.INVENTORY, part=5, ordinal=0, at=1.0, payload=payload))
    memory = record(1) + record(2)
    book.take(one, Frame(kind=layout.MEMORY, part=5, ordinal=0, at=1.0, payload=memory))
    view = book.view(1.0, 1.0)
    assert [d.id for d in view.devices] == ["GPU-2"]
    assert any("index 0" in gap.detail for gap in view.gaps)


def test_two_devices_of_one_uuid_are_not_one_device() -> None:
    entries = decode.inventory(entry(0, b"GPU-1") + entry(1, b"GPU-1"))
    assert [e.id for e in entries] == ["GPU-1", None]


def fact(key: str, answer: bytes, code: int = 0) -> bytes:
    number = next(n for n, s in enumerate(NUMBERED) if any(o.key == key for o in s.outs))
    return layout.FACT.pack(number, code, len(answer)) + answer


@pytest.mark.parametrize("raw", [644_000_000, 201])
def test_a_temperature_that_cannot_be_is_unknown_and_counted(raw: int) -> None:
    values, faults = decode.facts(fact("temperature_c", struct.pack("=III", 0, 0, raw)))
    assert values["temperature_c"] is None
    assert faults


@pytest.mark.parametrize("raw", [0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF])
def test_all_ones_is_unknown(raw: int) -> None:
    field = layout.FIELD_VALUE.pack(83, 0, 0, 0, 3, 0, raw)
    assert decode.fields(field) == ({"energy_joules_total": None}, [])


@pytest.mark.parametrize(
    ("kind", "bits", "value"),
    [
        (0, struct.unpack("=Q", struct.pack("=d", 41.0))[0], 41.0),
        (1, 41, 41.0),
        (3, 41, 41.0),
        (4, 41, 41.0),
        (6, 41 | 0xABCD0000, 41.0),
        (9, 41, None),
        (4, 2**64 - 5, None),
    ],
)
def test_field_values_of_every_type(kind: int, bits: int, value: float | None) -> None:
    field = layout.FIELD_VALUE.pack(82, 0, 0, 0, kind, 0, bits)
    assert decode.fields(field)[0]["memory_temperature_c"] == value


def test_ratios_of_gpm_that_cannot_be_are_left_out() -> None:
    pack = layout.GPM_VALUE.pack
    values, faults = decode.gpm(
        pack(2, 0, 49.2)
        + pack(3, 0, 100.4)
        + pack(5, 0, float("nan"))
        + pack(10, 0, 1e9)
        + pack(11, layout.NOT_SUPPORTED, 0.0)
        + pack(4711, 0, 1.0)
        + b"torn"
    )
    assert values == {
        "sm_active_ratio": pytest.approx(0.492),
        "sm_occupancy_ratio": 1.0,
        "tensor_active_ratio": None,
        "dram_active_ratio": None,
        "pipe_active_ratio:fp64": None,
    }
    assert faults == ["dram_active_ratio of 1e+09 %"]


def counted(
    payload: bytes, before: Mapping[str, float | str | None]
) -> Mapping[str, float | str | None]:
    at = layout.MEMORY_RECORD.size
    return decode.counts(payload[at : at + layout.LIST_HEAD.size], before)


def test_processes_are_counted_by_kind_and_a_list_left_out_is_as_before() -> None:
    full = counted(listing([(10, GIB)], [(11, 5), (12, 5)], []), {})
    assert full == {"processes:compute": 1, "processes:graphics": 2, "processes:mps": 0}
    short = counted(listing([(10, GIB), (13, 1)]), full)
    assert short == {"processes:compute": 2, "processes:graphics": 2, "processes:mps": 0}
    failed = counted(listing([], code=999), short)
    assert failed["processes:compute"] is None


def test_failed_calls_are_counted_by_symbol_and_code_and_what_is_not_there_is_no_failure() -> None:
    book, one = Book(), post()
    book.take(one, told(layout.INVENTORY, entry(0, b"GPU-1")))
    codes = (999, layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND, 77, 0)
    for code in codes:
        answer = struct.pack("=I", 250_000) if code == 0 else b""
        book.take(one, told(layout.FACTS, fact("power_w", answer, code)))
    book.take(one, told(layout.MEMORY, record(5, code=15)))
    book.take(one, told(layout.LIST, listing([], code=1)))
    assert book.failures == {
        "nvmlDeviceGetPowerUsage/UNKNOWN": 1,
        "nvmlDeviceGetPowerUsage/other": 1,
        "nvmlDeviceGetMemoryInfo_v2/GPU_IS_LOST": 1,
        "nvmlDeviceGetComputeRunningProcesses_v3/UNINITIALIZED": 1,
    }


def test_percentages_of_processes_that_cannot_be_are_left_out() -> None:
    pack = layout.UTILIZATION_SAMPLE.pack
    samples = (
        pack(10, 0, 5, 50, 1, 0, 0) + pack(10, 0, 9, 60, 1, 0, 0) + pack(11, 0, 5, 101, 0, 0, 0)
    )
    assert decode.utilization(samples) == {10: (0.6, 0.01, 0.0, 0.0)}


def told(kind: int, payload: bytes, at: float = 1.0, part: int = 5) -> Frame:
    return Frame(kind=kind, part=part, ordinal=0, at=at, payload=payload)


def test_a_slow_fact_is_withdrawn_when_its_class_is_long_overdue() -> None:
    book, one = Book(), post()
    book.take(one, told(layout.INVENTORY, entry(0, b"GPU-1")))
    book.take(one, told(layout.MEMORY, record(5)))
    book.take(one, told(layout.FACTS, fact("power_w", struct.pack("=I", 250_000))))
    book.view(1.0, 1.0)
    assert book.details[DEVICE]["power_w"] == 250.0
    for at in (12.0, 20.0):  # memory goes on, the slow thread does not
        book.take(one, told(layout.MEMORY, record(int(at)), at))
        book.take(one, told(layout.FACTS, b"", at, part=15))
        book.view(at, 1.0)
    assert book.details[DEVICE]["power_w"] is None


def test_values_that_only_their_stamps_tell_apart_are_the_same() -> None:
    pack = layout.FIELD_VALUE.pack
    one = pack(82, 0, 5, 1, 1, 0, 41) + pack(83, 0, 5, 1, 3, 0, 7)
    assert decode.is_same_but_for_time(
        one, pack(82, 0, 9, 2, 1, 0, 41) + pack(83, 0, 8, 3, 3, 0, 7)
    )
    for other in (
        pack(82, 0, 5, 1, 1, 0, 42) + pack(83, 0, 5, 1, 3, 0, 7),  # value
        pack(82, 0, 5, 1, 1, 3, 41) + pack(83, 0, 5, 1, 3, 0, 7),  # return code
        pack(82, 1, 5, 1, 1, 0, 41) + pack(83, 0, 5, 1, 3, 0, 7),  # scope
        pack(82, 0, 5, 1, 1, 0, 41),
        one + b"torn",
    ):
        assert not decode.is_same_but_for_time(one, other)
        assert not decode.is_same_but_for_time(other, one)


def test_the_same_values_again_are_newer_values() -> None:
    book, one = Book(), post()
    book.take(one, told(layout.INVENTORY, entry(0, b"GPU-1")))
    for at in (1.0, 11.0, 21.0):
        book.take(one, told(layout.MEMORY, record(5), at))
        field = layout.FIELD_VALUE.pack(83, 0, int(at), 0, 3, 0, 5000)
        book.take(one, told(layout.FIELDS, field, at))
        book.view(at, 1.0)
        assert book.details[DEVICE]["energy_joules_total"] == 5.0


def test_a_gpu_that_the_driver_counts_no_more_is_lost_and_a_slice_is_gone() -> None:
    book, one = Book(), post()
    gpus = entry(0, b"GPU-1", flags=layout.IS_MIG_PARENT)
    slice_ = entry(0, b"MIG-1", parent=0, flags=layout.IS_MIG_SLICE)
    book.take(one, told(layout.INVENTORY, gpus + slice_ + entry(1, b"GPU-2")))
    book.take(one, told(layout.MEMORY, record(1) + record(2) + record(3)))
    before = book.view(1.0, 1.0)
    assert [d.id for d in before.devices] == ["GPU-1", "MIG-1", "GPU-2"]
    following = post()
    book.take(following, told(layout.INVENTORY, entry(0, b"GPU-1"), 2.0))
    book.take(following, told(layout.MEMORY, record(1), 2.0))
    after = book.view(2.0, 1.0)
    sights = [(d.id, d.sight) for d in after.devices]
    assert sights == [("GPU-1", Sight.OK), ("GPU-2", Sight.LOST)]
    assert after.epoch > before.epoch


frames = st.builds(
    Frame,
    kind=st.integers(0, 13),
    part=st.integers(0, 255),
    ordinal=st.integers(0, 4) | st.just(layout.NO_DEVICE),
    at=st.floats(allow_nan=False, allow_infinity=False),
    payload=st.binary(max_size=400),
)


@given(st.lists(frames, max_size=12))
def test_no_bytes_of_a_child_raise_or_make_a_device_fuller_than_it_is(sent: list[Frame]) -> None:
    book, one = Book(), post()
    payload = entry(0, b"GPU-1") + entry(1, b"GPU-2") + entry(2, b"MIG-3", parent=0, flags=2)
    book.take(one, Frame(kind=layout.INVENTORY, part=5, ordinal=0, at=1.0, payload=payload))
    for frame in sent:
        book.take(one, frame)
    for device in book.view(2.0, 1.0).devices:
        assert device.used_bytes is None or 0 <= device.used_bytes <= device.total_bytes
    book.own_gaps()


@given(st.binary(max_size=300))
def test_a_message_splits_into_whole_frames_or_none(message: bytes) -> None:
    for frame in split(message):
        assert len(frame.payload) <= len(message)
