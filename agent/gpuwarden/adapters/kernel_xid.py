"""``NVRM: Xid (address): number, ...``: the driver's fault lines.

What follows the number depends on the code and on the driver: an optional pid, an optional process
name, then a message. Each reader below knows one form of it and answers ``None`` for the others;
the forms are those of the open kernel modules and of logs back to 2009.
"""

import re
from typing import Any

from gpuwarden.model.kernel_line import (
    Containment,
    DoubleBitError,
    DramError,
    GspException,
    GspFunction,
    MmuFault,
    Nvlink,
    Nvlink5,
    Recovery,
    RowRemap,
    SmException,
    XidLine,
)

COMM_BYTES = 15
"""The kernel cuts a process name here; it may hold any character, a comma too."""

# NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No
# NVRM: Xid (0009:00): 53, CMDre 00000000 00000080 00000000 00000005 00000005
_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?(?P<pci>[0-9a-fA-F]{4,8}(?::[0-9a-fA-F]{2}){1,2}(?:\.[0-9a-fA-F])?)"
    r"(?: GPU-I:(?P<gpu_instance>[0-9]{1,3}))?(?: GPU-CI:(?P<compute_instance>[0-9]{1,3}))?\): "
    r"(?P<xid>[0-9]{1,5})(?P<rest>[\s,].*|)\Z",
    re.DOTALL,
)
# pid='<unknown>', name=<unknown>, Graphics SM Warp Exception on (GPC 7, TPC 7, SM 0): ...
# pid=1818990, name=python3, Ch 00000001 caused by previous Xid 149
_PID = re.compile(r"pid=(?P<pid>[^,\s]{0,32})(?:,\s*|\s+|\Z)")
# ..., name=KMS thread, Timeout after 45s of waiting for RPC response from GPU0 GSP!
_NAME_ENDS = re.compile(r",\s+|,?\Z")
# How a message begins, in the cases in which a name with a comma in it could be mistaken for one.
_MESSAGE = re.compile(
    r"Ch |[Cc]hannel |Class Error|Graphics |(?:C|Unc)ontained: |Timeout |GSP |NVLink: |An uncorr|"
    r"Row Remapper|GPU |errorString |[A-Z]{3,5}_?[A-Z_/0-9]{0,40} +(?:F|Nonf)atal"
)
# channel 0x00000007, errorString CTX SWITCH TIMEOUT, Info 0x74007
# Graphics Exception: channel 0x0000000b, Class 0000c5c0, Offset 00000000, Data 00000000
_CHANNEL = re.compile(r"(?:\A|: )(?:Ch|channel|Channel ID|Channel) ((?:0x)?[0-9a-fA-F]{1,16})\b")
# Ch 00000020, errorString CTX SWITCH TIMEOUT, Info 0xac00d
_INFO = re.compile(r", Info (0x[0-9a-fA-F]{1,16})\b")
# Ch 0000000c caused by previous Xid 145
_CAUSED_BY = re.compile(r"(?:\A|\s)caused by previous Xid ([0-9]{1,5})\s*\Z")
# MMU Fault: ENGINE GRAPHICS GPC6 GPCCLIENT_T1_13 faulted @ 0x6f6f_320c2000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ
# MMU Fault: ENGINE CE0 HUBCLIENT_HOST faulted @ 0x0000000000001000. FAULT_PTE ACCESS_TYPE_ATOMIC
_MMU = re.compile(
    r"MMU Fault: ENGINE (?P<engine>\S{1,32})(?: GPC[0-9]{1,3})? (?P<client>\S{1,64}) faulted"
    r"(?: @ (?P<address>0x[0-9a-fA-F_]{1,32}))?"
    r"(?:\.{1,3} (?:Fault is of type )?(?P<fault>FAULT_\w{1,64})(?: (?P<access>ACCESS_\w{1,64}))?)?"
)
# Graphics SM Warp Exception on (GPC 1, TPC 0): Out Of Range Address
# Graphics SM Global Exception on (GPC 7, TPC 7, SM 0): Multiple Warp Errors
_SM = re.compile(
    r"Graphics SM (?:Warp|Global) Exception on "
    r"\(GPC ([0-9]{1,4}), TPC ([0-9]{1,4})(?:, SM ([0-9]{1,4}))?\): (.{1,200})"
)
# Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No
# Contained: DRAM (0x2,0x1). physAddr: 0x0a1b2c3d RST: No, D-RST: Yes
_CONTAINMENT = re.compile(r"(Contained|Uncontained): (.{1,120}?)(?:\.(?:\s|\Z)|\Z)")
_RESET = re.compile(r"(?<![-\w])RST: (Yes|No)\b")
_DRAIN_RESET = re.compile(r"\bD-RST: (Yes|No)\b")
# GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)
_RECOVERY = re.compile(
    r"GPU recovery action changed from (0x[0-9a-fA-F]{1,8}) \(([^)]{0,64})\)"
    r" to (0x[0-9a-fA-F]{1,8}) \(([^)]{0,64})"
)
# NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)
# NVLink: Link training failed for links 0x3(0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)
_NVLINK = re.compile(
    r"NVLink: (?:[Ff]atal error detected on link|Link training failed for links?) "
    r"(?:0x[0-9a-fA-F]{1,16}|(?P<link>[0-9]{1,4}))(?:\((?P<registers>[^)]{0,400}))?"
)
# RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000 0x00100000 0x00000004)
# NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)
# NVLINK_SW_DEFINED_ERROR  Fatal   XC0 i0 Link 03 : Link Down While Active.
_NVLINK5 = re.compile(
    r"(?P<unit>[A-Z][A-Z0-9_/]{1,64}(?: degraded)?)\s+(?P<word>Fatal|Nonfatal|Non-fatal)\s+"
    r"XC\s?[0-9]{1,2}\s+i\s?[0-9]{1,2}\s+Link\s+(?P<link>-?[0-9]{1,4})"
    r"(?:\s*[(\[](?P<registers>[^)\]]{0,400}))?"
)
_WORD = re.compile(r"0x[0-9a-fA-F]{1,16}\b")
# An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at physAddr 0x18f31d80 partition 16, subpartition 3.
# ... in the framebuffer at partition 4, subpartition 1
_DBE = re.compile(
    r"(?:physAddr (0x[0-9a-fA-F_]{1,32}),? )?\bpartition ([0-9]{1,4}), subpartition ([0-9]{1,4})"
)
# GDDR, Uncorrectable DRAM error in FBPA 3 subpartition 0 physAddr 0xe9b9107e0
_DRAM = re.compile(
    r"FBPA ([0-9]{1,4}) subpartition ([0-9]{1,4})(?: physAddr (0x[0-9a-fA-F_]{1,32}))?"
)
# Row Remapper: New row (0x0000000018f31d80) marked for remapping, reset gpu to activate.
# Row Remapper Error: (0x00000002eebc4100) - All reserved rows for bank are remapped
_ROW = re.compile(r"Row Remapper\b")
_PENDING = re.compile(r"marked for remapping|already pending")
# Timeout after 6s of waiting for RPC response from GPU4 GSP! Expected function 103 (GSP_RM_ALLOC) (0x2081 0x4).
# ... Expected function 76 (GSP_RM_CONTROL) sequence 4211 (0x20802a02 0x8).
_GSP_FUNCTION = re.compile(r"Expected function ([0-9]{1,8})(?: \((\w{1,64})\))?")
# GSP task exception: load access page fault (cause:0xd) @ pc:0x140ca4a, partition:4#0, task:3
# GSP task timeout @ pc:0x5b2b940, task:1
_GSP_EXCEPTION = re.compile(r"GSP (\w{1,32}) (exception|panic|timeout)\b(?:: ([^(@]{1,120}))?")


def looks_like_xid(text: str) -> bool:
    """Whether a kernel message claims to be an Xid: one that ``read`` does not understand is counted."""
    return text.startswith("NVRM: Xid")


def read(text: str) -> XidLine | None:
    """The Xid of one kernel message without its prefix; ``None`` when it is none or is malformed."""
    match = _XID.match(text)
    if match is None:
        return None
    pid, process, message = _who(match["rest"].removeprefix(",").strip())
    return XidLine(
        xid=int(match["xid"]),
        pci=match["pci"],
        gpu_instance=_number(match["gpu_instance"]),
        compute_instance=_number(match["compute_instance"]),
        pid=pid,
        process=process,
        message=message or None,
        **_details(message),
    )


def _who(rest: str) -> tuple[int | None, str | None, str]:
    """Pid, process name and what remains."""
    pid = None
    match = _PID.match(rest)
    if match is not None:
        digits = match["pid"].strip("'")
        pid = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else None
        rest = rest[match.end() :]
    if not rest.startswith("name="):
        return pid, None, rest
    rest = rest.removeprefix("name=").lstrip()
    end, begin = _name_end(rest)
    name = rest[:end].strip()
    return pid, None if name in ("", "<unknown>", "'<unknown>'") else name, rest[begin:]


def _name_end(rest: str) -> tuple[int, int]:
    """Where the name ends and the message begins: at the first comma, unless a later one that still
    is inside of what a name can hold comes before the known beginning of a message."""
    first = None
    for end in _NAME_ENDS.finditer(rest):
        first = first or end
        if end.start() > COMM_BYTES:
            break
        if _MESSAGE.match(rest, end.end()):
            return end.start(), end.end()
    return (first.start(), first.end()) if first else (len(rest), len(rest))


def _details(message: str) -> dict[str, Any]:
    """What the known forms of message say; forms exclude each other, so few are found at a time."""
    found: dict[str, Any] = {}
    for name, pattern in (("channel", _CHANNEL), ("info", _INFO)):
        if match := pattern.search(message):
            found[name] = match[1]
    if match := _CAUSED_BY.search(message):
        found["caused_by_xid"] = int(match[1])
    for name, reader in _READERS:
        if (detail := reader(message)) is not None:
            found[name] = detail
    return found


def _mmu(message: str) -> MmuFault | None:
    match = _MMU.search(message)
    return MmuFault(**match.groupdict()) if match else None


def _sm(message: str) -> SmException | None:
    match = _SM.match(message)
    if match is None:
        return None
    return SmException(
        gpc=int(match[1]), tpc=int(match[2]), sm=_number(match[3]), reason=match[4].strip()
    )


def _containment(message: str) -> Containment | None:
    match = _CONTAINMENT.match(message)
    if match is None:
        return None
    reset, drain = _RESET.search(message), _DRAIN_RESET.search(message)
    return Containment(
        contained=match[1] == "Contained",
        location=match[2].strip(),
        reset_needed=None if reset is None else reset[1] == "Yes",
        drain_reset_needed=None if drain is None else drain[1] == "Yes",
    )


def _recovery(message: str) -> Recovery | None:
    match = _RECOVERY.match(message)
    if match is None:
        return None
    return Recovery(
        from_=int(match[1], 16), from_text=match[2], to=int(match[3], 16), to_text=match[4]
    )


def _nvlink(message: str) -> Nvlink | None:
    match = _NVLINK.match(message)
    if match is None:
        return None
    return Nvlink(link=_number(match["link"]), registers=_words(match["registers"]))


def _nvlink5(message: str) -> Nvlink5 | None:
    match = _NVLINK5.match(message)
    if match is None:
        return None
    return Nvlink5(
        unit=match["unit"],
        fatal=match["word"] == "Fatal",
        link=int(match["link"]),
        registers=_words(match["registers"]),
    )


def _dbe(message: str) -> DoubleBitError | None:
    match = _DBE.search(message)
    if match is None:
        return None
    return DoubleBitError(address=match[1], partition=int(match[2]), subpartition=int(match[3]))


def _dram(message: str) -> DramError | None:
    match = _DRAM.search(message)
    if match is None:
        return None
    return DramError(fbpa=int(match[1]), subpartition=int(match[2]), address=match[3])


def _row_remap(message: str) -> RowRemap | None:
    if _ROW.match(message) is None:
        return None
    address = _WORD.search(message)
    return RowRemap(
        address=address[0] if address else None, pending=_PENDING.search(message) is not None
    )


def _gsp_function(message: str) -> GspFunction | None:
    match = _GSP_FUNCTION.search(message)
    return GspFunction(number=int(match[1]), name=match[2]) if match else None


def _gsp_exception(message: str) -> GspException | None:
    match = _GSP_EXCEPTION.match(message)
    if match is None:
        return None
    reason = (match[3] or "").strip() or (None if match[2] == "exception" else match[2])
    return GspException(where=match[1], reason=reason)


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _words(registers: str | None) -> tuple[str, ...]:
    return tuple(_WORD.findall(registers or ""))


_READERS = (
    ("mmu", _mmu),
    ("sm", _sm),
    ("containment", _containment),
    ("recovery", _recovery),
    ("nvlink", _nvlink),
    ("nvlink5", _nvlink5),
    ("dbe", _dbe),
    ("dram", _dram),
    ("row_remap", _row_remap),
    ("gsp_function", _gsp_function),
    ("gsp_exception", _gsp_exception),
)
