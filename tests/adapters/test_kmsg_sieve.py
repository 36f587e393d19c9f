"""Which lines are handed on: their kinds, allowances, and forgeries."""

from __future__ import annotations

import pytest

from gpuwarden.adapters.kmsg.sieve import (
    KEYS_MAX,
    OTHERS,
    PLAIN_BURST,
    PLAIN_PER_S,
    URGENT_BURST,
    Counts,
    Sieve,
    is_of_a_process,
    is_urgent,
    kind_anywhere,
    kind_of,
    mentions,
    pretends,
)

URGENT_LINES = [
    b"NVRM: Xid (PCI:0000:3b:00): 79, pid=4711, name=python, GPU has fallen off the bus.",
    b"NVRM: Xid (PCI:0018:01:00 GPU-I:05): 94, pid='<unknown>', name=<unknown>, Contained: SM (0x1)",
    b"nvidia-nvswitch3: SXid (PCI:0000:04:00.0): 22013, Data {0x0000002b, 0x0000002b}",
    b"NVRM: GPU at 0000:01:00.0 has fallen off the bus.",
    b"NVRM: RmInitAdapter: Cannot initialize GSP firmware RM",
    b"NVRM: GPU 0000:98:00.0: rm_init_adapter failed, device minor number 0",
    b"NVRM: kgspRcAndNotifyAllChannels_IMPL: RC all channels for critical error 79.",
    b"NVRM: GPU6 _kgspIsHeartbeatTimedOut: Heartbeat timed out, currentTimeMs 812751949",
    b"NVRM: nvAssertFailedNoLog: Assertion failed: NV_ERR_RESET_REQUIRED @ kern_gmmu.c:1",
]
PLAIN_LINES = [
    b"NVRM: GPU at PCI:0000:3b:00: GPU-efbdfde9-5798-a6e7-4c46-12518fa15375",
    b"nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context",
    b"nvidia 0000:3b:00.0: AER: can't recover (no error_detected callback)",
    b"INFO: task cache_mgr_event:620917 blocked for more than 120 seconds.",
    b"Memory cgroup out of memory: Killed process 4711 (python3) total-vm:1kB",
    b"Out of memory: Killed process 4711 (python3) total-vm:1kB",
    b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x",
]
QUOTED_LINES = [
    b"process '/tmp/NVRM: Xid (PCI:0000:3b:00): 79, x' started with executable stack",
    rb"process '/tmp/x\x0aNVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.' started",
    b" NVRM: Xid (PCI:0000:3b:00): 79, behind a blank",
    b"usb 1-1: Product: nvidia-nvswitch3: SXid (PCI:0000:04:00.0): 22013, Fatal",
    b"audit: INFO: task x:1 blocked for more than 120 seconds.",
]


@pytest.mark.parametrize("line", URGENT_LINES)
def test_lines_that_may_name_a_fault_are_urgent(line: bytes) -> None:
    kind = kind_of(line)
    assert kind is not None
    assert kind[1]
    assert mentions(line)
    assert is_urgent(line)


@pytest.mark.parametrize("line", [*URGENT_LINES, *PLAIN_LINES])
def test_true_lines_do_not_begin_with_the_name_of_a_process(line: bytes) -> None:
    assert not is_of_a_process(line)


@pytest.mark.parametrize("line", PLAIN_LINES)
def test_others_are_handed_on_and_wake_nobody(line: bytes) -> None:
    kind = kind_of(line)
    assert kind is not None
    assert not kind[1]
    assert mentions(line)


@pytest.mark.parametrize("line", QUOTED_LINES)
def test_a_kernel_line_that_quotes_the_driver_is_not_the_drivers(line: bytes) -> None:
    assert kind_of(line) is None


@pytest.mark.parametrize("line", URGENT_LINES + PLAIN_LINES)
def test_a_line_of_a_log_file_is_found_behind_what_stands_before_it(line: bytes) -> None:
    for before in (b"", b"Jan 18 11:38:05 host kernel: [ 269.516977] ", b"kern  :err   : "):
        assert kind_anywhere(before + line) == kind_of(line)


def test_each_device_and_number_is_a_kind_of_its_own() -> None:
    kinds = {kind_of(line) for line in URGENT_LINES[:3]}
    assert kinds == {
        (b"Xid (PCI:0000:3b:00): 79", True),
        (b"Xid (PCI:0018:01:00 GPU-I:05): 94", True),
        (b"Xid (PCI:0000:04:00.0): 22013", True),
    }
    assert kind_of(b"NVRM: Xid (" + b"x" * 500 + b",") == (b"Xid (", True)


@pytest.mark.parametrize("line", [*URGENT_LINES, *PLAIN_LINES[:3]])
def test_every_prefix_of_the_driver_is_a_pretence_of_others(line: bytes) -> None:
    assert pretends(b"12,1,2,-;" + line)


@pytest.mark.parametrize(
    "text",
    [
        rb"x\x0aNVRM: Xid (PCI:0000:3b:00): 79, after a new line",
        b"kernel: NVRM: Xid (PCI:0000:3b:00): 79, after a word",
        b"[ 12.345678] NVRM: RmInitAdapter failed!",
        b"SXid (PCI:0000:04:00.0): 22013, Fatal",
    ],
)
def test_a_pretence_may_be_hidden(text: bytes) -> None:
    assert pretends(b"12,1,2,-;" + text)


@pytest.mark.parametrize(
    "text",
    [
        b"systemd[1]: Started nvidia-persistenced.service - NVIDIA Persistence Daemon.",
        b"nvidia-persistenced: Started (812)",
        b"gpuwarden: nothing of interest",
    ],
)
def test_who_speaks_of_the_driver_does_not_pretend_to_be_it(text: bytes) -> None:
    assert not pretends(b"30,1,2,-;" + text)


def sieve() -> Sieve:
    return Sieve(Counts())


def test_a_kind_has_a_burst_and_then_a_rate() -> None:
    one = sieve()
    let_through = [one.admits(OTHERS, 10.0, is_urgent=False) for _ in range(1000)]
    assert let_through.count(True) == PLAIN_BURST
    assert not any(let_through[int(PLAIN_BURST) :])
    assert one.is_muted(10.0)
    assert not one.is_muted(10.0 + 1 / PLAIN_PER_S)
    later = [one.admits(OTHERS, 11.0, is_urgent=False) for _ in range(100)]
    assert later.count(True) == PLAIN_PER_S
    at_rest = [one.admits(OTHERS, 9_999.0, is_urgent=False) for _ in range(1000)]
    assert at_rest.count(True) == PLAIN_BURST
    assert one.counts.dropped == 2100 - 2 * PLAIN_BURST - PLAIN_PER_S


def test_a_flood_of_one_kind_leaves_the_others_theirs() -> None:
    one = sieve()
    for _ in range(10_000):
        one.admits(b"Xid (PCI:0000:3b:00): 31", 1.0, is_urgent=True)
        one.admits(OTHERS, 1.0, is_urgent=False)
    assert all(one.admits(b"Xid (PCI:0000:3b:00): 79", 1.0, is_urgent=True) for _ in range(50))
    assert one.counts.dropped == 20_000 - URGENT_BURST - PLAIN_BURST


def test_kinds_without_number_do_not_grow_memory() -> None:
    one = sieve()
    admitted = [one.admits(b"Xid (%d" % n, 1.0, is_urgent=True) for n in range(3 * KEYS_MAX)]
    assert len(one._allowances) <= KEYS_MAX + 1
    assert sum(admitted) == KEYS_MAX + URGENT_BURST
    assert one.admits(b"Xid (of a later time", 1_000.0, is_urgent=True)
    assert len(one._allowances) < 10


def test_forgeries_are_added_up_until_they_are_told() -> None:
    one = sieve()
    assert one.accused() is None
    one.accuse(b"NVRM: first \xff" + b"x" * 1000, 1)
    one.accuse(b"NVRM: second", 3, count=4)
    told = one.accused()
    assert told is not None
    assert (told.count, told.facility) == (5, 1)
    assert told.text.startswith("NVRM: first \\xff")
    assert len(told.text) < 250
    assert one.accused() is None
    assert one.counts.forgeries == 5
