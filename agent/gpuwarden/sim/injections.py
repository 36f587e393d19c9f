"""What can be injected into a running simulated host, as data: the driver's commands, their
arguments, and how a person types them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

LIMIT_MODES = ("enforced", "not-supported", "no-permission", "no-effect", "forgotten")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of a driver command. ``kind`` is device, function, number, decimal, bytes,
    text, flag or one of several words."""

    name: str
    kind: str = "number"
    help: str = ""
    is_required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One verb of ``simulate inject``. ``command`` is the driver's name for it."""

    command: str
    help: str
    parameters: tuple[Parameter, ...] = ()


DEVICE = Parameter(name="device", kind="device", is_required=True)
ANY_DEVICE = Parameter(
    name="device", kind="device", help="Only on this device (index or UUID); default: all."
)
FUNCTION = Parameter(name="function", kind="function", is_required=True)


def _number(name: str, text: str) -> Parameter:
    return Parameter(name=name, help=text)


def _flag(name: str, text: str) -> Parameter:
    return Parameter(name=name, kind="flag", help=text)


INJECTIONS: Mapping[str, Injection] = MappingProxyType(
    {
        "xid": Injection(
            command="xid",
            help="An Xid error: an NVML event and a line of the simulated kernel log.",
            parameters=(
                DEVICE,
                Parameter(name="xid", is_required=True),
                _number("pid", "The process the line names."),
                Parameter(name="text", kind="text", help="The line's text after the process."),
            ),
        ),
        "kernel-line": Injection(
            command="kernel_line",
            help="A line of the simulated kernel log.",
            parameters=(
                Parameter(name="text", kind="text", is_required=True),
                _number("level", "0 emergency to 7 debug; default 4."),
                _number("facility", "0 kernel (default); others are what user space can write."),
                _number("count", "So many times."),
            ),
        ),
        "hang": Injection(
            command="hang",
            help="Calls of one NVML function never return, until unhang.",
            parameters=(FUNCTION, ANY_DEVICE),
        ),
        "unhang": Injection(
            command="unhang",
            help="Lets the calls of one function return again.",
            parameters=(FUNCTION, ANY_DEVICE),
        ),
        "slow": Injection(
            command="slow",
            help="Each call of one function takes so much longer; 0 ends it.",
            parameters=(
                FUNCTION,
                Parameter(name="ms", kind="decimal", is_required=True),
                ANY_DEVICE,
            ),
        ),
        "error": Injection(
            command="error",
            help="Each call of one function returns an NVML code; 0 ends it.",
            parameters=(FUNCTION, Parameter(name="code", is_required=True), ANY_DEVICE),
        ),
        "clear": Injection(command="clear_faults", help="No function hangs, is slow or fails."),
        "lose": Injection(
            command="lose", help="A device falls off the bus (Xid 79).", parameters=(DEVICE,)
        ),
        "restore": Injection(
            command="restore", help="A lost device is back.", parameters=(DEVICE,)
        ),
        "lock-up": Injection(
            command="lock_up",
            help="Nothing completes on a device, until its offender is gone.",
            parameters=(
                DEVICE,
                _number("pid", "The offender."),
                _flag("persistent", "Stays after the offender is gone, until a reset."),
                _number("xid", "The Xid it comes with; default 119."),
            ),
        ),
        "unlock": Injection(command="unlock", help="Ends a lock-up.", parameters=(DEVICE,)),
        "reset": Injection(
            command="reset",
            help="Resets a device, which must be empty.",
            parameters=(DEVICE, _flag("force", "Takes it from the processes that use it.")),
        ),
        "shift": Injection(
            command="shift",
            help="NVML indices move under connected clients.",
            parameters=(_number("by", "By so many places; default 1."),),
        ),
        "reload": Injection(
            command="reload",
            help="The driver is unloaded and loaded again; every client loses its connection.",
            parameters=(
                _number("away_ms", "How long it is away; default 500."),
                _number("shift", "By how many places the indices move meanwhile."),
            ),
        ),
        "recovery": Injection(
            command="recovery",
            help="The driver's advised recovery action (0 none .. 7), with Xid 154.",
            parameters=(DEVICE, Parameter(name="action", is_required=True)),
        ),
        "ecc": Injection(
            command="ecc",
            help="ECC errors.",
            parameters=(
                DEVICE,
                _flag("uncorrected", "Double-bit errors."),
                _number("location", "0 L1, 1 L2, 2 memory (default), 3 registers, 7 SRAM."),
                _number("count", "So many; default 1."),
                _number("sram_threshold", "1: the SRAM threshold is exceeded."),
            ),
        ),
        "remap": Injection(
            command="remap",
            help="Row remaps; counts are set, not added.",
            parameters=(
                DEVICE,
                _number("correctable", "Rows remapped for corrected errors."),
                _number("uncorrectable", "Rows remapped for uncorrected errors."),
                _number("pending", "1: a reset is needed to remap."),
                _number("failed", "1: a remap failed."),
            ),
        ),
        "retire": Injection(
            command="retire",
            help="Retired pages (profiles before Ampere).",
            parameters=(
                DEVICE,
                _flag("double_bit", "For a double-bit error."),
                _number("count", "So many; default 1."),
            ),
        ),
        "nvlink": Injection(
            command="nvlink",
            help="The state or the error counters of an NVLink.",
            parameters=(
                DEVICE,
                Parameter(name="link", is_required=True),
                _number("up", "0 down, 1 up."),
                _number("counter", "0 replay, 1 recovery, 2 CRC flit, 3 CRC data, 4 ECC."),
                _number("count", "Errors to add."),
            ),
        ),
        "pcie": Injection(
            command="pcie",
            help="PCIe counters (added) and link width (set).",
            parameters=(
                DEVICE,
                _number("replays", "Replays."),
                _number("correctable", "Correctable errors."),
                _number("nonfatal", "Non-fatal errors."),
                _number("fatal", "Fatal errors."),
                _number("width", "Link width."),
            ),
        ),
        "thermal": Injection(
            command="thermal",
            help="A temperature or clock-event reasons that stay; 0 lets go.",
            parameters=(
                DEVICE,
                _number("celsius", "Temperature."),
                _number("reasons", "NVML clock-event reasons, a mask."),
            ),
        ),
        "fabric": Injection(
            command="fabric",
            help="State and health of the NVLink fabric.",
            parameters=(
                DEVICE,
                _number("state", "0 not supported .. 3 completed."),
                _number("health", "Health mask; 170 is healthy."),
            ),
        ),
        "repair": Injection(
            command="repair",
            help="Pending repairs of the board.",
            parameters=(
                DEVICE,
                _number("channel", "1: channel repair pending."),
                _number("tpc", "1: TPC repair pending."),
                _number("unrepairable", "1: memory that cannot be repaired."),
            ),
        ),
        "modes": Injection(
            command="modes",
            help="Modes of a board, as a tool would set them.",
            parameters=(
                DEVICE,
                _number("persistence", "1: the driver stays loaded."),
                _number("ecc", "1: ECC is on."),
                _number("ecc_pending", "1: ECC is on after the next reset."),
            ),
        ),
        "power": Injection(
            command="power",
            help="Something other than the driver holds the board to a power limit; 0 lets go.",
            parameters=(DEVICE, Parameter(name="held_w", is_required=True)),
        ),
        "inforom": Injection(
            command="inforom",
            help="The InfoROM's checksums.",
            parameters=(
                DEVICE,
                Parameter(name="corrupted", is_required=True, help="1: they are wrong."),
            ),
        ),
        "spares": Injection(
            command="spares",
            help="Memory banks that run out of spare rows.",
            parameters=(
                DEVICE,
                _number("low", "So many have few."),
                _number("none", "So many have none."),
            ),
        ),
        "link-speed": Injection(
            command="link_speed",
            help="The PCIe link does not get beyond a generation; 0 lets go.",
            parameters=(DEVICE, Parameter(name="generation", is_required=True)),
        ),
        "unattributed": Injection(
            command="unattributed",
            help="Device memory that no process accounts for, set to this size.",
            parameters=(DEVICE, Parameter(name="bytes", kind="bytes", is_required=True)),
        ),
        "limit-mode": Injection(
            command="limit_mode",
            help="How the driver treats memory limits per cgroup.",
            parameters=(
                Parameter(name="mode", kind="text", is_required=True, choices=LIMIT_MODES),
            ),
        ),
    }
)
