"""What waits to be drained: bounded, fair, and told how far it goes."""

from __future__ import annotations

from gpuwarden.adapters.kmsg.inbox import ALL_MAX, EACH_MAX, SHARED_MAX, TAKE_MAX, Inbox
from gpuwarden.adapters.kmsg.source import Kept, Place
from gpuwarden.model.kernel_record import KernelForgery, KernelRecord, KernelTrust


def kept(number: int, key: bytes = b"kind", *, is_urgent: bool = False) -> Kept:
    record = KernelRecord(
        text=f"line {number}",
        source="kmsg",
        trust=KernelTrust.KERNEL,
        seen_at=1.0,
        sequence=number,
    )
    return Kept(key, record, str(number), is_urgent)


def place(at: int) -> Place:
    return Place(source="kmsg", stream="boot", at=str(at))


def test_records_come_out_in_order_and_a_tick_at_a_time() -> None:
    inbox = Inbox()
    inbox.put([kept(n) for n in range(TAKE_MAX + 10)], place(5_000), None)
    records, at, has_more = inbox.take()
    assert [r.sequence for r in records] == list(range(TAKE_MAX))
    assert (at, has_more) == (place(TAKE_MAX - 1), True)
    records, at, has_more = inbox.take()
    assert [r.sequence for r in records] == list(range(TAKE_MAX, TAKE_MAX + 10))
    assert (at, has_more) == (place(5_000), False)
    assert inbox.take() == ((), place(5_000), False)


def test_only_urgent_records_wake() -> None:
    inbox = Inbox()
    assert not inbox.put([kept(1)], place(1), None)
    assert inbox.put([kept(2), kept(3, is_urgent=True), kept(4)], place(4), None)
    assert not inbox.put([], place(9), None)


def test_a_loop_that_does_not_drain_costs_bounded_memory() -> None:
    inbox = Inbox()
    for number in range(3 * SHARED_MAX):
        inbox.put([kept(number)], place(number), None)
    assert inbox.counts.dropped == 2 * SHARED_MAX
    taken = 0
    while records := inbox.take()[0]:
        taken += len(records)
    assert taken == SHARED_MAX


def test_a_full_queue_still_takes_a_line_of_a_new_kind() -> None:
    inbox = Inbox()
    inbox.put([kept(n, b"Xid (PCI:0000:3b:00): 31") for n in range(2 * SHARED_MAX)], place(1), None)
    assert inbox.put(
        [kept(n, b"Xid (PCI:0000:3b:00): 79", is_urgent=True) for n in range(100)], place(2), None
    )
    records: list[KernelRecord] = []
    while taken := inbox.take()[0]:
        records += taken
    assert len(records) == SHARED_MAX + EACH_MAX


def test_kinds_without_number_are_bounded_too() -> None:
    inbox = Inbox()
    for number in range(2 * ALL_MAX):
        inbox.put([kept(number, b"kind %d" % number)], place(number), None)
    assert inbox.counts.dropped == ALL_MAX
    assert inbox.take()[2]


def test_what_was_taken_makes_room() -> None:
    inbox = Inbox()
    inbox.put([kept(n) for n in range(SHARED_MAX)], place(1), None)
    inbox.take()
    inbox.put([kept(n) for n in range(TAKE_MAX)], place(2), None)
    assert inbox.counts.dropped == 0


def test_forgeries_are_added_up() -> None:
    inbox = Inbox()
    assert inbox.accused() is None
    inbox.put([], place(1), KernelForgery(count=2, text="first", facility=1))
    inbox.put([], None, KernelForgery(count=3, text="second", facility=3))
    assert inbox.accused() == KernelForgery(count=5, text="first", facility=1)
    assert inbox.accused() is None
