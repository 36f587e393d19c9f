"""What the NVIDIA drivers print beside Xids and SXids, and what the kernel prints about their users.

One row a form: the pattern, and what it means. The first that matches is the reading; a line of the
driver that none matches is noise, and a line of anybody else is nothing.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from gpuwarden.model.kernel_line import DriverLine, Kind

_PCI = r"(?:PCI:)?(?P<pci>(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-9a-fA-F])?)"
_GPU = r"(?:GPU(?P<gpu_index>[0-9]{1,4}):? )?"
_FALLEN_XID = 79

Fields = Mapping[str, str | None]


def _plain(kind: Kind) -> Callable[[Fields, str], DriverLine]:
    """A reading whose fields are the groups of its pattern."""

    def make(found: Fields, text: str) -> DriverLine:
        return DriverLine(kind=kind, **_typed(found))

    return make


def _typed(found: Fields) -> dict[str, Any]:
    """The groups of a pattern under their names, numbers as numbers."""
    numbers = {"gpu_index", "pid", "minor", "line", "seconds", "caused_by_xid"}
    return {
        name: int(value) if value is not None and name in numbers else value
        for name, value in found.items()
    }


def _fallen(found: Fields, text: str) -> DriverLine:
    return DriverLine(kind=Kind.FALLEN_OFF_BUS, implied_xid=_FALLEN_XID, **_typed(found))


def _refused(kind: Kind) -> Callable[[Fields, str], DriverLine]:
    def make(found: Fields, text: str) -> DriverLine:
        return DriverLine(kind=kind, continues=True, **_typed(found))

    return make


def _failed_init(found: Fields, text: str) -> DriverLine:
    codes = found.get("codes")
    rest = {name: value for name, value in found.items() if name not in ("codes", "device")}
    if found.get("device") is not None:
        rest["minor"] = found["device"]
    words = tuple(codes.split(":")) if codes else ()
    return DriverLine(kind=Kind.RM_INIT_FAILED, codes=words, **_typed(rest))


# nvAssertOkFailedNoLog: Assertion failed: Reset required [NV_ERR_RESET_REQUIRED] (0x00000062) returned from status @ kernel_channel.c:2874
_STATUS = re.compile(r"\[(NV_ERR_[A-Z0-9_]{1,64})\]")
_PLACE = re.compile(r" @ (?P<file>[\w.+-]{1,128}):(?P<line>[0-9]{1,8})\s*\Z")


def _claim(found: Fields, text: str) -> DriverLine:
    status, place = _STATUS.search(text), _PLACE.search(text)
    return DriverLine(
        kind=Kind.DRIVER_ASSERT if found["word"] == "Assertion" else Kind.DRIVER_CHECK,
        gpu_index=None if found["gpu_index"] is None else int(found["gpu_index"]),
        file=place["file"] if place else None,
        line=int(place["line"]) if place else None,
        reset_required=status is not None and status[1] == "NV_ERR_RESET_REQUIRED",
        status=status[1] if status else None,
    )


_FORMS: tuple[tuple[re.Pattern[str], Callable[[Fields, str], DriverLine]], ...] = (
    # NVRM: GPU at PCI:0000:00:05: GPU-efbdfde9-5798-a6e7-4c46-12518fa15375
    # NVRM: GPU at 0000:03:00: GPU-b850f46d-d5ea-c752-ddf3-c4453e44d3f7
    (
        re.compile(rf"NVRM: GPU at {_PCI}: (?P<uuid>(?:GPU|MIG)-\S{{1,64}})"),
        _plain(Kind.GPU_UUID),
    ),
    # NVRM: GPU Board Serial Number: 1650423013443
    (
        re.compile(r"NVRM: GPU Board Serial Number: (?P<serial>\S{1,64})"),
        _plain(Kind.GPU_SERIAL),
    ),
    # NVRM: GPU 0000:91:00.0: GPU serial number is 1653723052734.
    (
        re.compile(rf"NVRM: GPU {_PCI}: GPU serial number is (?P<serial>[^\s.]{{1,64}})"),
        _plain(Kind.GPU_SERIAL),
    ),
    # NVRM: GPU at 0000:01:00.0 has fallen off the bus.
    # NVRM: GPU 0000:06:00.0: GPU has fallen off the bus.
    # NVRM: The NVIDIA GPU 0000:05:00.0 installed in this system has fallen off the bus and is not responding to commands.
    (
        re.compile(
            rf"NVRM: (?:The NVIDIA )?GPU (?:at )?{_PCI}:?"
            r"(?: \(PCI ID: (?P<pci_id>[0-9a-fA-F]{4}:[0-9a-fA-F]{4})\))?"
            r"(?: installed in this system| GPU)? has fallen off the bus"
        ),
        _fallen,
    ),
    # NVRM: fallen off the bus and is not responding to commands.
    # NVRM: system has fallen off the bus and is not responding to commands.
    (re.compile(r"NVRM: (?:(?:system )?has )?fallen off the bus\b"), _fallen),
    # NVRM: The NVIDIA GPU 000a:00:00.0 (PCI ID: 10de:2330) installed in this system
    (
        re.compile(
            rf"NVRM: The NVIDIA (?:probe routine was not called for )?GPU {_PCI}\b"
            r"(?: \(PCI ID: (?P<pci_id>[0-9a-fA-F]{4}:[0-9a-fA-F]{4})\))?"
        ),
        _refused(Kind.REFUSED_HEAD),
    ),
    # NVRM: (PCI ID: 10de:26b5) installed in this system has
    # NVRM: installed in this system is not supported by the
    (
        re.compile(
            r"NVRM: (?:\(PCI ID: (?P<pci_id>[0-9a-fA-F]{4}:[0-9a-fA-F]{4})\) )?"
            r"installed in this system\b"
        ),
        _refused(Kind.REFUSED_PART),
    ),
    # NVRM: RmInitAdapter: Cannot initialize GSP firmware RM
    (
        re.compile(r"NVRM: (?:GPU[0-9]{1,4} )?RmInitAdapter: (?P<message>\S.{0,400})"),
        _failed_init,
    ),
    # NVRM: GPU 0000:04:01.0: RmInitAdapter failed! (0x11:0x45:2525)
    # NVRM: RmInitAdapter failed! (0x26:0xffff:1114)
    (
        re.compile(
            rf"NVRM: (?:GPU {_PCI}: |GPU[0-9]{{1,4}} )?RmInitAdapter failed!"
            r"(?: \((?P<codes>[0-9a-fA-Fx]{1,16}(?::[0-9a-fA-Fx]{1,16}){0,7})\))?"
        ),
        _failed_init,
    ),
    # NVRM: GPU 0000:98:00.0: rm_init_adapter failed, device minor number 0
    # NVRM: rm_init_adapter failed for device bearing minor number 1
    # NVRM: rm_init_adapter(0) failed
    (
        re.compile(
            rf"NVRM: (?:GPU {_PCI}: )?rm_init_adapter(?:\((?P<device>[0-9]{{1,6}})\))? failed"
            r"(?:,? .{0,32}?minor number (?P<minor>[0-9]{1,6}))?"
        ),
        _failed_init,
    ),
    # NVRM: kgspRcAndNotifyAllChannels_IMPL: RC all channels for critical error 79.
    (
        re.compile(
            r"NVRM: (?:GPU[0-9]{1,4} )?\w{1,64}: RC all channels for critical error "
            r"(?P<caused_by_xid>[0-9]{1,5})\b"
        ),
        _plain(Kind.CHANNELS_TORN_DOWN),
    ),
    # NVRM: GPU6 _kgspIsHeartbeatTimedOut: Heartbeat timed out, currentTimeMs 812751949 heartbeat 1899482 ...
    # NVRM: GPU0 _kgspRpcRecvPoll: GSP RM heartbeat timed out
    (
        re.compile(rf"NVRM: {_GPU}\w{{1,64}}: (?:GSP RM )?[Hh]eartbeat timed out"),
        _plain(Kind.GSP_HEARTBEAT_LOST),
    ),
    # NVRM: Rate limiting GSP RPC error prints for GPU at PCI:0000:9b:00 (printing 1 of every 30).  The GPU likely needs to be reset.
    (
        re.compile(
            rf"NVRM: (?:GPU[0-9]{{1,4}} )?Rate limiting GSP RPC error prints(?: for GPU at {_PCI})?"
        ),
        _plain(Kind.GSP_RATE_LIMITED),
    ),
    # NVRM: krcWatchdog_IMPL: RC watchdog: GPU is probably locked!  Notify Timeout Seconds: 7
    (
        re.compile(rf"NVRM: {_GPU}krcWatchdog\w{{0,32}}: RC watchdog: GPU is probably locked"),
        _plain(Kind.RC_WATCHDOG),
    ),
    # NVRM: nvGpuOpsReportFatalError: uvm encountered global fatal error 0x60, requiring os reboot to recover.
    (
        re.compile(
            r"NVRM: (?:GPU[0-9]{1,4} )?nvGpuOpsReportFatalError: "
            r"(?P<message>uvm encountered global fatal error .{0,200})"
        ),
        _plain(Kind.UVM_FATAL),
    ),
    # NVRM: API mismatch: the client 'nvidia-smi' (pid 4711) has the version 595.84, but this kernel module has the version 595.71.05.
    # NVRM: API mismatch: the client has the version 535.247.01, but
    (
        re.compile(
            r"NVRM: API mismatch: the client (?:'(?P<process>[^'\n]{0,64})' )?"
            r"(?:\(pid (?P<pid>[0-9]{1,10})\)\s+)?has the version (?P<client_version>[0-9.]{1,32})\b"
            r"(?:.{0,64}?\s(?:NVRM:\s+)?this kernel module has the version "
            r"(?P<module_version>[0-9.]{0,31}[0-9]))?",
            re.DOTALL,
        ),
        _plain(Kind.API_MISMATCH),
    ),
    # NVRM: GPU0 nvAssertFailedNoLog: Assertion failed: (status == NV_OK) || ... @ rs_client.c:844
    # NVRM: nvCheckOkFailedNoLog: Check failed: Reset required [NV_ERR_RESET_REQUIRED] (0x00000062)
    (
        re.compile(
            rf"NVRM: {_GPU}nv(?:Assert|Check)\w{{1,32}}: (?P<word>Assertion|Check) failed\b"
        ),
        _claim,
    ),
    # NVRM: knvlinkDiscoverPostRxDetLinks_GH100: Getting peer0's postRxDetLinkMask failed!
    (
        re.compile(
            r"NVRM: (?:GPU[0-9]{1,4} )?knvlink\w{1,64}: Getting peer.{1,16} postRxDetLinkMask failed"
        ),
        _plain(Kind.NVLINK_MASK_FAILED),
    ),
    # nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context, skipping further processing
    (re.compile(r"nvidia-peermem \w{1,64}:[0-9]{1,6} ERROR "), _plain(Kind.PEERMEM_ERROR)),
    # INFO: task cache_mgr_event:620917 blocked for more than 120 seconds.
    (
        re.compile(
            r"INFO: task (?P<process>.{1,64}):(?P<pid>[0-9]{1,10}) blocked"
            r"(?: in .{1,16})? for more than (?P<seconds>[0-9]{1,10}) seconds"
        ),
        _plain(Kind.HUNG_TASK),
    ),
)

_FIRST = (
    r"Xid |GPU |The NVIDIA |\(PCI ID: |installed in |fallen off |has |system has |RmInitAdapter|"
    r"rm_init_adapter|Rate limiting |krcWatchdog|nvGpuOpsReport|API mismatch: |"
    r"\w{1,64}: (?:RC all |GSP RM |[Hh]eartbeat |Getting )"
)
_CLAIMS = r"nv(?:Assert|Check)\w{1,32}: "
_SAID = r"NVRM: (?:GPU[0-9]{1,4}:? )?(?:%s)|nvidia-peermem |INFO: task "
_WORDS = re.compile(_SAID % f"{_FIRST}|{_CLAIMS}")
"""How each form begins, in one pattern: a driver can print 40,000 lines of noise a second."""
GRAVE = _SAID % rf"{_FIRST}|{_CLAIMS}[^\n]{{1,400}}\[NV_ERR_(?:RESET_REQUIRED|GPU_IS_LOST)\]"
"""The same without assertions that ask for nothing, for patterns over raw records."""
# NVRM: os_pci_init_handle: invalid context!
# NVRM cpuidInfoAMD: Unrecognized AMD processor in cpuidInfoAMD
_DRIVER = re.compile(r"NVRM\b(?!: Xid\b)")
_NOISE = DriverLine(kind=Kind.DRIVER_NOISE)


def read(text: str) -> DriverLine | None:
    """What one kernel message without its prefix says; ``None``: nothing. Xids are not read here."""
    if _WORDS.match(text) is not None:
        for pattern, make in _FORMS:
            match = pattern.match(text)
            if match is not None:
                return make(match.groupdict(), text)
    return _NOISE if _DRIVER.match(text) else None
