"""A kernel log's line or record -> what it says, or ``None``. Text in, data out; it never fails.

Whoever can print into the kernel's log can write what they like behind their own words, so a message
counts only where it begins: right behind a prefix that is known to the last character.
"""

import re

from gpuwarden.adapters import kernel_driver, kernel_nvswitch, kernel_xid
from gpuwarden.model.kernel_line import DriverLine, KernelLine, Kind, SxidLine, XidLine

MAX_CHARS = 8192
"""No kernel record is longer; what follows is not looked at."""

_MARKS = ("NVRM", "nvidia-", "INFO: task ")
_MAX_PREFIXES = 8

# 3,1042,8462102,-;NVRM: GPU 0000:00:03.0: RmInitAdapter failed! (0x22:0x65:884)
# 6,339,5140900,-,caller=T12;NET: Registered protocol family 10
_RECORD = re.compile(
    r"\s*(?P<priority>[0-9]{1,6}),[0-9]{1,20},[0-9]{1,20},[^;\n]{1,256};(?P<text>.*)", re.DOTALL
)
# The kernel writes a byte that is no printable ASCII as \x0a, and a backslash as \x5c.
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
# <4>[ 38.175561] nvidia-nvswitch3: SXid (PCI:0000:04:00.0): ...
_PRIORITY = re.compile(r"<(?P<priority>[0-9]{1,4})>")
_PREFIX = re.compile(
    # [Wed Jul 31 23:14:18 2024] ... [   38.175561] ... [ T1946] ... [...] ... [  +0.056775]
    r"\[[^\[\]\n]{1,64}\]:?"
    # 2025-01-21T04:41:44,283575+00:00
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[0-9.,:+Z-]{0,24}(?=\s)"
    # Jul 09 10:42:47 ... kwi 15 07:56:59 ... Sep 12 14:25:44.984246 ... Mon May 12 03:14:15 2026
    r"|(?:\w{1,12}\.?\s{1,2}){1,2}[0-9]{1,2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
    r"(?: [0-9]{4})?(?=\s)"
    # kern  :warn  :
    r"|kern\s{0,4}:\s{0,4}\w{1,8}\s{0,4}:"
    # kernel:
    r"|kernel(?:\[[0-9]{1,10}\])?:"
    # pool0-0082 kernel: ... 192.168.11.119: kern: warning: ... <pc> kernel:
    r"|[\w.<>:-]{1,255}(?=\s{1,4}kern(?:el(?:\[[0-9]{1,10}\])?)?\s{0,4}:)"
)
# The same, for a record as it is read: what cannot be worth more is not even decoded.
_WORTH = re.compile(
    rf"[0-9]{{1,6}},[^;\n]{{1,256}};(?:nvidia-nvswitch|{kernel_driver.GRAVE})".encode()
)
_CONTROL = {code: "\ufffd" for code in (*range(9), *range(11, 32), *range(127, 160))}


def read(line: str) -> KernelLine | None:
    """What a line of any kernel log says: dmesg, syslog, journal, or a raw record of /dev/kmsg.

    A record that was not written by the kernel (facility other than 0) says nothing, whatever it holds.
    """
    if not any(mark in line for mark in _MARKS):
        return None
    record = _RECORD.match(line[:MAX_CHARS])
    if record is not None:
        if int(record["priority"]) >> 3:
            return None
        return read_message(unescaped(record["text"]))
    return _first(_readings(line, is_prefixed=True))


def read_bytes(raw: bytes) -> KernelLine | None:
    """As ``read``; bytes that are no UTF-8 stay recognisable as ``\\xff``."""
    return read(raw[: 4 * MAX_CHARS].decode("utf-8", "backslashreplace"))


def may_matter(record: bytes) -> bool:
    """Whether a raw record is worth reading. False: it says nothing, or noise, or is an assertion of
    the driver that neither asks for a reset nor says that a GPU is lost."""
    return _WORTH.match(record) is not None


def read_message(text: str) -> KernelLine | None:
    """What the text of one kernel record says: nothing comes before it; it may have several lines."""
    if not any(mark in text for mark in _MARKS):
        return None
    return _first(_readings(text, is_prefixed=False))


def unescaped(text: str) -> str:
    """The text of a raw record as the driver printed it, without the record's dictionary lines."""
    head = text.split("\n", 1)[0]
    raw = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), head.encode("utf-8", "replace"))
    return raw.decode("utf-8", "backslashreplace")


def joined(head: DriverLine | None, line: KernelLine | None) -> DriverLine | None:
    """The end of a driver's sentence told with the address its head named; ``None``: it is no end.

    For sources that give a record of several lines one by one: ``head`` is the last reading that was
    a head, and ``line`` one of the few right behind it.
    """
    if head is None or head.kind is not Kind.REFUSED_HEAD:
        return None
    if not isinstance(line, DriverLine) or line.kind is not Kind.FALLEN_OFF_BUS or line.pci:
        return None
    return DriverLine(
        kind=line.kind, pci=head.pci, implied_xid=line.implied_xid, pci_id=head.pci_id
    )


def _readings(text: str, *, is_prefixed: bool) -> list[KernelLine]:
    """One reading for each line that says something; a sentence over several lines becomes one."""
    text = text[:MAX_CHARS].translate(_CONTROL)
    found: list[KernelLine] = []
    head: DriverLine | None = None
    for number, line in enumerate(text.split("\n")):
        message = line.strip()
        if is_prefixed or number:
            message = _stripped(message)
        reading = _message(message, text)
        if reading is None:
            continue
        if isinstance(reading, DriverLine):
            if reading.kind is Kind.REFUSED_HEAD:
                head = reading
            elif reading.kind is Kind.REFUSED_PART and head is not None and head.pci_id is None:
                head = DriverLine(
                    kind=head.kind, pci=head.pci, pci_id=reading.pci_id, continues=True
                )
            reading = joined(head, reading) or reading
        found.append(reading)
    return found


def _message(message: str, record: str) -> KernelLine | None:
    if message.startswith("NVRM: Xid"):
        return kernel_xid.read(message)
    if message.startswith("nvidia-nvswitch"):
        return kernel_nvswitch.read(message)
    # The two versions of an API mismatch stand in two lines of one record.
    is_mismatch = message.startswith("NVRM: API mismatch")
    return kernel_driver.read(record[record.index(message) :] if is_mismatch else message)


def _stripped(line: str) -> str:
    """The message behind its prefixes; empty when what stands before it is not known."""
    at = 0
    for _ in range(_MAX_PREFIXES):
        while at < len(line) and line[at] in " \t":
            at += 1
        if line.startswith(_MARKS, at):
            return line[at:]
        match = _PRIORITY.match(line, at)
        if match is not None and int(match["priority"]) >> 3:
            return ""
        match = match or _PREFIX.match(line, at)
        if match is None:
            return ""
        at = match.end()
    return ""


def _first(found: list[KernelLine]) -> KernelLine | None:
    """The reading that tells most: an Xid, an SXid, the end of a sentence, what comes first."""
    return min(found, key=_rank) if found else None


def _rank(line: KernelLine) -> int:
    if isinstance(line, XidLine):
        return 0
    if isinstance(line, SxidLine):
        return 1
    last = (Kind.DRIVER_NOISE, Kind.REFUSED_PART)
    return {Kind.FALLEN_OFF_BUS: 2, Kind.REFUSED_HEAD: 4}.get(
        line.kind, 5 if line.kind in last else 3
    )
