"""Kernel lines: the labelled ones, every prefix they come with, records of several lines, forgeries."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.adapters import kernel_lines, kernel_xid
from gpuwarden.adapters.kernel_json import as_json
from gpuwarden.model.kernel_line import DriverLine, KernelLine, Kind, XidLine
from tests.kernel_log_data import labelled, name_of

XID = "NVRM: Xid (PCI:0000:65:00): 79, pid=4711, name=python3, GPU has fallen off the bus."
HEAD = "NVRM: The NVIDIA GPU 0000:b3:00.0"
PART = "NVRM: (PCI ID: 10de:26b5) installed in this system has"
END = "NVRM: fallen off the bus and is not responding to commands."

PREFIXES = [
    "",
    "               ",
    "[Wed Jul 31 23:14:18 2024] ",
    "[   38.175561] ",
    "[38889.018130] ",
    "[...] ",
    "[  +0.056775] ",
    "[ 130.456250] [ T1946] ",
    "[ 130.456250] [    C7] ",
    "kernel: ",
    "kernel: [16450076.435595] ",
    "host kernel: ",
    "Jul 09 10:42:47 pool0-0082 kernel: ",
    "Jul  9 10:42:47 pool0-0082.example.org kernel: [ 966.503025] ",
    "Sep 12 14:25:44.984246 host kernel: ",
    "kwi 15 07:56:59 testowy kernel: ",
    "déc. 02 11:49:53 worker4 kernel: ",
    "Mar 29 15:38:59 kernel: ",
    "Mon May 12 03:14:16 host kernel: ",
    "Mon May 12 03:14:16 2026 host kernel: ",
    "2025-01-25T10:34:54.859532+00:00 host kernel: ",
    "2026-04-22T21:27:51Z host kernel: ",
    "2026-03-23 00:00:00 kernel: ",
    "2025-01-25T10:34:54,859532+00:00 ",
    "kern  :err   : 2025-01-25T10:34:54,859532+00:00 ",
    "kern  :warn  : [ 38.175561] ",
    "192.168.11.119: kern: warning: [2026-04-22T21:27:51.291660856Z]: ",
    "<4>[   38.175561] ",
    "<4>Jul  9 10:42:47 host kernel: ",
    "4,1042,8462102,-;",
    "4,1042,8462102,-,caller=T412;",
    "0,18446744073709551615,18446744073709551615,c;",
]
FOREIGN = [
    "x",
    "x ",
    "> ",
    "usb 1-1: Product: ",
    "usb 1-1: Product: kernel: ",
    "host app[812]: ",
    "Jun 12 16:31:50 host app[812]: ",
    "Jun 12 16:31:50 host app[812]: kernel: ",
    "Jun 12 16:31:50 host sudo: root : COMMAND=",
    "12,1042,8462102,-;",
    "8191,1042,8462102,-;",
    "<12>",
    "<30>Jul  9 10:42:47 host kernel: ",
    "4,1042,8462102,-;EXT4-fs (loop0): mounted ",
    "4,1042,8462102,-;[   38.175561] ",
    "4,1042,8462102,-;kernel: ",
    "[" * 40,
    "[a] " * 40,
    "kernel: " * 40,
]


def said(line: KernelLine | None) -> dict[str, Any] | None:
    return None if line is None else as_json(line)


@pytest.mark.parametrize("row", labelled(), ids=name_of)
def test_what_a_labelled_line_says(row: dict[str, Any]) -> None:
    assert said(kernel_lines.read(row["line"])) == row["expect"]
    assert said(kernel_lines.read_bytes(row["line"].encode())) == row["expect"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_known_prefix_is_no_part_of_the_message(prefix: str) -> None:
    assert kernel_lines.read(prefix + XID) == kernel_lines.read_message(XID)
    assert isinstance(kernel_lines.read(prefix + XID), XidLine)


@pytest.mark.parametrize("prefix", FOREIGN)
def test_a_message_behind_other_words_is_not_the_drivers(prefix: str) -> None:
    assert kernel_lines.read(prefix + XID) is None


def test_a_record_has_no_prefix() -> None:
    """Who can print into the kernel's log could otherwise forge one from within a record."""
    for prefix in PREFIXES[2:]:
        assert kernel_lines.read_message(prefix + XID) is None


def test_a_record_of_three_lines_is_one_fault() -> None:
    whole = kernel_lines.read_message(f"{HEAD}\n{PART}\n{END}\n")
    assert whole == DriverLine(
        kind=Kind.FALLEN_OFF_BUS, pci="0000:b3:00.0", pci_id="10de:26b5", implied_xid=79
    )
    raw = rf"4,8812,99120042,-;{HEAD}\x0a{PART}\x0a{END}"
    assert kernel_lines.read(raw) == whole
    assert kernel_lines.read_bytes(f"{raw}\n SUBSYSTEM=pci\n".encode()) == whole
    indented = f"[ 1843.308145] {HEAD}\n               {PART}\n               {END}"
    assert kernel_lines.read(indented) == whole


def test_the_xid_of_a_record_tells_more_than_its_other_lines() -> None:
    record = f"{HEAD}\n{PART}\n{END}\n{XID}"
    assert isinstance(kernel_lines.read_message(record), XidLine)


def test_a_sentence_that_came_in_pieces_is_joined_with_its_head() -> None:
    head, end = kernel_lines.read(HEAD), kernel_lines.read(END)
    assert isinstance(head, DriverLine)
    assert isinstance(end, DriverLine)
    assert end.pci is None
    joined = kernel_lines.joined(head, end)
    assert joined is not None
    assert (joined.kind, joined.pci) == (Kind.FALLEN_OFF_BUS, "0000:b3:00.0")
    own = kernel_lines.read("NVRM: GPU 0000:06:00.0: GPU has fallen off the bus.")
    for first, second in ((None, end), (end, end), (head, None), (head, own), (head, head)):
        assert kernel_lines.joined(first, second) is None


def test_escapes_of_a_record_are_undone_in_records_only() -> None:
    line = r"NVRM: Xid (PCI:0000:65:00): 43, name=h\xc3\xa4\x5c, Ch 00000008"
    record = kernel_lines.read(f"4,1,2,-;{line}")
    text = kernel_lines.read(line)
    assert isinstance(record, XidLine)
    assert isinstance(text, XidLine)
    assert (record.process, text.process) == ("hä\\", r"h\xc3\xa4\x5c")


@pytest.mark.parametrize(
    ("comm", "process"),
    [
        ("python3", "python3"),
        ("KMS thread", "KMS thread"),
        ("nvc:[driver]", "nvc:[driver]"),
        ("ray::WorkerDict", "ray::WorkerDict"),
        ("a, b, c", "a, b, c"),
        ("x, RST: Yes", "x, RST: Yes"),
        ("x, Ch 1", "x, Ch 1"),
        ("<unknown>", None),
        ("", None),
        ("   ", None),
    ],
)
def test_a_process_may_be_called_anything(comm: str, process: str | None) -> None:
    line = f"NVRM: Xid (PCI:0000:65:00): 94, pid=7, name={comm}, Contained: SM (0x1). RST: No, D-RST: No"
    reading = kernel_lines.read(line)
    assert isinstance(reading, XidLine)
    if comm == "x, Ch 1":  # cannot be told from a name "x": the message is kept whole
        assert (reading.process, reading.message) == ("x", line.partition("x, ")[2])
        return
    assert (reading.pid, reading.process) == (7, process)
    assert reading.containment is not None
    assert reading.containment.reset_needed is False


def test_a_name_ends_where_a_name_can_end() -> None:
    line = "NVRM: Xid (PCI:0000:65:00): 43, name=a, something that nobody has seen yet, Ch 00000008"
    reading = kernel_lines.read(line)
    assert isinstance(reading, XidLine)
    assert (reading.process, reading.channel) == ("a", None)


def test_a_flag_that_is_not_printed_is_unknown() -> None:
    reading = kernel_lines.read("NVRM: Xid (PCI:0000:65:00): 94, Contained: SM (0x1). D-RST: Yes")
    assert isinstance(reading, XidLine)
    assert reading.containment is not None
    assert (reading.containment.reset_needed, reading.containment.drain_reset_needed) == (
        None,
        True,
    )


@pytest.mark.parametrize(
    ("pid", "number"),
    [
        ("4711", 4711),
        ("0", 0),
        ("'<unknown>'", None),
        ("<unknown>", None),
        ("<n/a>", None),
        ("", None),
        ("99999999999", None),
        ("-1", None),
        ("²", None),
    ],
)
def test_a_pid_is_a_number_or_unknown(pid: str, number: int | None) -> None:
    reading = kernel_lines.read(f"NVRM: Xid (PCI:0000:65:00): 43, pid={pid},   name=a, Ch 00000008")
    assert isinstance(reading, XidLine)
    assert (reading.pid, reading.process, reading.channel) == (number, "a", "00000008")


@pytest.mark.parametrize(
    "address",
    [
        "PCI:0000:65:00",
        "0000:01:00",
        "0009:00",
        "PCI:0018:01:00",
        "PCI:0000:00:08.0",
        "PCI:00000000:65:00.0",
        "PCI:0000:01:00 GPU-I:05",
        "PCI:0000:01:00 GPU-I:05 GPU-CI:01",
    ],
)
def test_every_form_of_address(address: str) -> None:
    reading = kernel_lines.read(f"NVRM: Xid ({address}): 43, Ch 00000008")
    assert isinstance(reading, XidLine)
    assert reading.pci == address.removeprefix("PCI:").split(" ")[0]
    assert reading.gpu_instance == (5 if "GPU-I" in address else None)
    assert reading.compute_instance == (1 if "GPU-CI" in address else None)


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: Xid (PCI:0000:65:00): 100000, Ch 00000008",
        "NVRM: Xid (PCI:0000:65:00): 43x, Ch 00000008",
        "NVRM: Xid (PCI:0000:65:00): -1",
        "NVRM: Xid (PCI:zz:65:00): 43",
        "NVRM: Xid (PCI:0000:65:00 GPU-I:x): 43",
        "NVRM: Xid: 31",
        "NVRM: Xid",
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): garbled, Fatal",
        "nvidia-nvswitch: SXid (PCI:0000:c1:00.0): 20034, Fatal",
    ],
)
def test_a_malformed_fault_is_nothing_and_can_be_counted(text: str) -> None:
    assert kernel_lines.read(text) is None
    assert kernel_xid.looks_like_xid(text) == text.startswith("NVRM")


def test_what_may_matter_is_decided_on_bytes() -> None:
    """Only noise, and assertions that ask for nothing, may be dropped unread."""
    for row in labelled():
        facts = row["expect"]
        if facts is None or row["line"].startswith(("4,", "3,")):
            continue
        message = row["line"][row["line"].find(_mark(row["line"])) :].split("\n")[0]
        is_idle = facts["kind"] == "driver_noise" or (
            facts["kind"] in ("driver_assert", "driver_check")
            and not facts["reset_required"]
            and "GPU_IS_LOST" not in message
        )
        assert is_idle or kernel_lines.may_matter(f"4,1042,8462102,-;{message}".encode()), message


@pytest.mark.parametrize(
    "record",
    [
        "4,1,2,-;NVRM: GPU6 _threadNodeCheckTimeout: Timeout was set to: 4000 msecs!",
        "4,1,2,-;NVRM: _issueRpcAndWait: rpcSendMessage failed with status 0x0000000f for fn 76!",
        "4,1,2,-;NVRM: GPU0 nvAssertFailedNoLog: Assertion failed: 0 @ kernel_gsp.c:1446",
        "6,1,2,-;usb 1-1: new high-speed USB device number 5 using xhci_hcd",
        f"6,1,2,-;usb 1-1: Product: {XID}",
        XID,
        "",
    ],
)
def test_a_flood_is_dropped_unread(record: str) -> None:
    assert not kernel_lines.may_matter(record.encode())


def _mark(line: str) -> str:
    return next(mark for mark in ("NVRM", "nvidia-", "INFO: task ") if mark in line)


def test_what_is_behind_the_longest_record_is_not_looked_at() -> None:
    long = XID + " x" * kernel_lines.MAX_CHARS
    reading = kernel_lines.read(long)
    assert isinstance(reading, XidLine)
    assert len(reading.message or "") < kernel_lines.MAX_CHARS
    assert kernel_lines.read(" " * kernel_lines.MAX_CHARS + XID) is None


def test_control_characters_do_not_get_through() -> None:
    reading = kernel_lines.read(
        "NVRM: Xid (PCI:0000:65:00): 43, name=a\x00\x1b[31m\x9b, Ch 00000008"
    )
    assert isinstance(reading, XidLine)
    assert reading.process == "a\ufffd\ufffd[31m\ufffd"
    record = kernel_lines.read(r"4,1,2,-;NVRM: Xid (PCI:0000:65:00): 43, name=a\x1b[31m, Ch 1")
    assert isinstance(record, XidLine)
    assert record.process == "a\ufffd[31m"
