"""A kernel record is heard once a boot, by whichever agent; its device is found where it is, or was."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.adapters import kernel_lines
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.kernel_record import KernelRecord, KernelTrust
from gpuwarden.policy.fault import records
from tests.policy.builders import NOW, Story, device_id, device_memory, gpu, memory, scene, snap

FELL = (
    "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
)


def record(number: int | None = 7, text: str = FELL, **rest: Any) -> KernelRecord:
    stamp_us = None if number is None else number * 1_000_000
    return KernelRecord(
        **{
            "text": text,
            "source": "kmsg",
            "trust": KernelTrust.KERNEL,
            "seen_at": NOW,
            "sequence": number,
            "boot_us": stamp_us,
            "line": kernel_lines.read_message(text),
            **rest,
        }
    )


def unheard(mark: tuple[int, int] | None, *said: KernelRecord) -> list[int | None]:
    mem, look = memory(kernel_heard=mark), scene(look=snap(kernel=said))
    return [r.sequence for r in records.unheard(mem, look)]


def test_what_was_folded_in_is_heard_no_second_time() -> None:
    said = [record(n) for n in (6, 7, 8)]
    assert unheard(None, *said) == [6, 7, 8]
    assert unheard((7, 7_000_000), *said) == [8]
    assert unheard((8, 8_000_000), *said) == []


def test_a_stream_that_began_anew_counts_from_zero() -> None:
    assert unheard((900, 5_000_000), record(0, boot_us=5_000_001)) == [0]


def test_a_source_without_numbers_is_always_heard() -> None:
    assert unheard((900, 5_000_000), record(None)) == [None]


def test_the_stamps_of_two_processors_may_be_out_of_order() -> None:
    said = (record(10, boot_us=1_000), record(11, boot_us=998))
    mark = records.heard(memory(), scene(look=snap(kernel=said)))
    assert mark == (11, 1_000)
    assert unheard(mark, *said) == []


def test_the_agent_after_one_that_was_killed_opens_no_second_incident() -> None:
    """It reads the line again, and the device is not counted any more."""
    story = Story()
    story.see(NOW, gpus=[gpu(0, pci="0000:3b:00.0"), gpu(1)])
    first = story.see(NOW + 1, gpus=[gpu(0, pci="0000:3b:00.0"), gpu(1)], kernel=(record(),))
    assert [n.kind for n in first.incidents].count(NoteKind.OPENED) == 1
    again = story.see(NOW + 3, gpus=[gpu(1)], kernel=(record(is_backlog=True),))
    assert not [n for n in again.incidents if n.kind is NoteKind.OPENED]
    (fault,) = story.mem.faults.values()
    assert (fault.root.device, fault.count) == (device_id(0), 1)


def test_another_boot_hears_its_own_records() -> None:
    story = Story()
    story.see(NOW, gpus=[gpu(0, pci="0000:3b:00.0")], kernel=(record(50),))
    story.see(NOW + 1, gpus=[gpu(0, pci="0000:3b:00.0")], kernel=(record(3),), boot_id="boot-2")
    assert {f.root.code for f in story.mem.faults.values()} == {"xid 79"}
    assert story.mem.kernel_heard == (3, 3_000_000)


@pytest.mark.parametrize("written", ["0000:3b:00", "00000000:3B:00.0", "PCI:0000:3b:00.7"])
def test_a_device_is_found_however_its_address_is_written(written: str) -> None:
    look = scene(look=snap(gpus=[gpu(0, pci="00000000:3B:00.0"), gpu(1, pci="0000:3c:00.0")]))
    assert records.device_at(memory(), look, written) == device_id(0)


@pytest.mark.parametrize("written", [None, "", "3b", "zz:3b:00", "0000:ff:00", "1:2:3:4"])
def test_what_is_no_address_is_no_device(written: str | None) -> None:
    look = scene(look=snap(gpus=[gpu(0, pci="0000:3b:00.0")]))
    assert records.device_at(memory(), look, written) is None


def test_a_device_that_is_gone_is_found_where_it_was_unless_another_is_there_now() -> None:
    mem = memory(devices={device_id(0): device_memory(pci="0000:3b:00.0")})
    gone = scene(look=snap(gpus=[gpu(1, pci="0000:3c:00.0")]))
    assert records.device_at(mem, gone, "0000:3b:00") == device_id(0)
    taken = scene(look=snap(gpus=[gpu(1, pci="0000:3b:00.0")]))
    assert records.device_at(mem, taken, "0000:3b:00") == device_id(1)
