"""Faults of one device."""

from __future__ import annotations

from gpuwarden.sim.faults.play import (
    LOW,
    NOTHING_TO_REPAIR,
    Event,
    Part,
    Play,
    person,
    recovery,
    say,
    xid,
)

RESET = ("reset-gpu",)
PEOPLE = ("hand-over",)
MEMORY_INFO = "nvmlDeviceGetMemoryInfo_v2"
LOST_CODE = 15  # NVML_ERROR_GPU_IS_LOST
BURST = tuple(
    say(f"NVRM: Xid (PCI:{{pci}}): 45, pid={9000 + n}, name=python3, Ch 0000000{n}")
    for n in range(5)
)


def _unit(code: int, unit: str, severity: str, info: int, status: int) -> Event:
    """What an NVLink 5 unit writes, as drivers since R575 lay the interrupt info out."""
    words = " ".join(f"{word:#010x}" for word in (info, status, 0, 0, 0, 0))
    return xid(code, f"{unit} {severity} XC0 i0 Link 09 ({words})")


SAID_HEALTHY = person("set-healthy", subject="0", reason="reseated")

_OF_APPLICATIONS = (
    Play(
        name="application",
        help="Xid 31 and 13: an application touched an address that is not its own.",
        events=(xid(31, pid="{batch}"), xid(13, pid="{batch}")),
        scope="app",
        verified=NOTHING_TO_REPAIR,
        pages=0,
    ),
    Play(
        name="contained",
        help="Xid 94: a memory error that only its application felt.",
        events=(xid(94, "Contained: SM (0x1). RST: No, D-RST: No", pid="{batch}"),),
        scope="app",
        verified=NOTHING_TO_REPAIR,
        pages=0,
    ),
)

_OF_MEMORY = (
    Play(
        name="double-bit",
        help="Xid 48 with 63: an uncorrectable memory error, its row is to be replaced; drain and reset.",
        events=(xid(48), xid(63), recovery(4)),
        scope="gpu",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="remap-recorded",
        help="Xid 63 alone: a row is replaced at the next reset; nobody is woken, nobody has to go.",
        events=(xid(63),),
        scope="gpu",
        verified=NOTHING_TO_REPAIR,
        pages=0,
    ),
    Play(
        name="remap-not-recorded",
        help="Xid 64: the replacement of a row could not be recorded; the driver asks for a reset.",
        events=(xid(64), recovery(1)),
        scope="gpu",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="uncontained",
        help="Xid 95: a memory error that everybody on the device felt; drain and reset.",
        events=(xid(95, "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No"), recovery(4)),
        scope="gpu",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="remap-pending",
        help="A row remap is pending: the reset waits until the device is empty by itself.",
        events=(Event(command="remap", arguments={"pending": 1}),),
        scope="gpu",
        rungs=RESET,
        cordoned=True,
        pages=0,
        heals=(person("leave", part=Part.BATCH), person("leave", part=Part.NEIGHBOUR)),
        settings={"repair": {"drain_evicts": "best-effort", "drain_wait_s": "10m"}},
        within_s=120.0,
        is_slow=True,
    ),
)

_STOPPED = (
    Play(
        name="gsp",
        help="Xid 119: the GPU's own processor does not answer; the driver asks for a reset.",
        events=(xid(119), recovery(1)),
        scope="gpu",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="gsp-crash",
        help="Xid 120: the GPU's own processor has crashed; the driver asks for a reset.",
        events=(xid(120), recovery(1)),
        scope="gpu",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="protected",
        help="Xid 119 under a protected tenant: it is not touched; its owner moves it, then the reset follows.",
        events=(xid(119), recovery(1)),
        scope="gpu",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
        heals=(person("leave", part=Part.GUARDED),),
        has_guarded=True,
        settings={"repair": {"drain_wait_s": "10m"}},
    ),
    Play(
        name="reboot-asked",
        help="Xid 154: the driver asks for a reboot, which is left to people.",
        events=(recovery(2),),
        scope="node",
        rungs=PEOPLE,
        cordoned=True,
        heals=(recovery(0), SAID_HEALTHY),
    ),
    Play(
        name="unknown",
        help="Xid 999: a number that the vendor has not published is told, and nothing is tried.",
        events=(xid(999),),
        scope="gpu",
        rungs=PEOPLE,
        cordoned=True,
        heals=(SAID_HEALTHY,),
        settings={"fault": {"quiet_s": "1h"}},
    ),
)

_OF_LINKS = (
    Play(
        name="nvlink",
        help="Xid 74: an NVLink of the device failed; the driver asks for a reset.",
        events=(xid(74, "NVLink: fatal error detected on link 1"), recovery(1)),
        scope="link",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="nvlink5",
        help="Xid 149 (of 144 to 150): a link event of NVLink 5; the driver asks for a reset.",
        events=(
            xid(
                149,
                "NETIR_LINK_EVT  Fatal   XC0 i0 Link 09"
                " (0x025525c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)",
            ),
            recovery(1),
        ),
        scope="link",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="nvlink5-units",
        help="Xids 144, 145 and 150: three units of NVLink 5 fail fatally; the driver asks for a reset.",
        events=(
            _unit(144, "SAW_MVB", "Fatal", 0x01, 0x02),
            _unit(145, "RLW_REMAP", "Fatal", 0x04, 0x40),
            _unit(150, "MSE_WATCHDOG", "Fatal", 0x00, 0x00),
            recovery(1),
        ),
        scope="link",
        rungs=RESET,
        cordoned=True,
        ends=LOW,
    ),
    Play(
        name="nvlink5-watch",
        help="Xids 146, 147 and 148: NVLink 5 units report what is only to be watched; everybody stays.",
        events=(
            _unit(146, "TLW_CTRL", "Nonfatal", 0x09, 0x02),
            _unit(147, "TREX", "Nonfatal", 0x0E, 0x01),
            _unit(148, "NVLPW_CTRL", "Nonfatal", 0x0F, 0x8000_0000),
        ),
        scope="link",
        verified=NOTHING_TO_REPAIR,
        pages=0,
    ),
    Play(
        name="narrow-link",
        help="The PCIe link has 4 lanes of 16: somebody is told, and everybody stays.",
        events=(Event(command="pcie", arguments={"width": 4}),),
        scope="link",
        heals=(Event(command="pcie", arguments={"width": 16}),),
        within_s=240.0,
        is_slow=True,
    ),
)

_GONE = (
    Play(
        name="fallen-off",
        help="Xid 79: the device is gone from the bus, with a burst of 45 after it: one incident, about the 79.",
        events=(Event(command="lose"), *BURST),
        scope="node",
        rungs=PEOPLE,
        cordoned=True,
        heals=(Event(command="restore"), SAID_HEALTHY),
    ),
    Play(
        name="lost",
        help="The device is gone for NVML, and the kernel says it in words, without a number.",
        events=(
            Event(command="error", arguments={"function": MEMORY_INFO, "code": LOST_CODE}),
            say("NVRM: GPU {pci}.0: GPU has fallen off the bus."),
        ),
        scope="node",
        rungs=PEOPLE,
        cordoned=True,
        heals=(
            Event(command="error", arguments={"function": MEMORY_INFO, "code": 0}),
            SAID_HEALTHY,
        ),
    ),
    Play(
        name="hung",
        help="Calls on the device never return: it is blind, the others are watched on.",
        events=(Event(command="hang", arguments={"function": MEMORY_INFO}),),
        scope="gpu",
        rungs=PEOPLE,
        cordoned=True,
        heals=(Event(command="unhang", arguments={"function": MEMORY_INFO}),),
        within_s=180.0,
        is_slow=True,
    ),
)

_SLOWED = (
    Play(
        name="throttle",
        help="Heat holds the clocks down: somebody is told, and everybody stays.",
        events=(Event(command="thermal", arguments={"reasons": 0x48}),),
        scope="gpu",
        heals=(Event(command="thermal", arguments={"reasons": 0}),),
    ),
)

PLAYS: tuple[Play, ...] = (
    *_OF_APPLICATIONS,
    *_OF_MEMORY,
    *_STOPPED,
    *_OF_LINKS,
    *_GONE,
    *_SLOWED,
)
