"""What a kernel line says of a GPU or an NVSwitch, as plain data.

A field is ``None`` when the line does not say it; an address is kept as the line writes it. Register
words stay text: their width tells which driver wrote them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a line is about."""

    XID = "xid"
    SXID = "sxid"
    FALLEN_OFF_BUS = "fallen_off_bus"
    """The GPU is gone from PCIe; such a line carries no Xid number and means Xid 79."""
    REFUSED_HEAD = "driver_refused_gpu_head"
    """First of the lines by which the driver refuses a GPU; the last of them says why."""
    REFUSED_PART = "driver_refused_gpu_part"
    RM_INIT_FAILED = "rm_init_failed"
    CHANNELS_TORN_DOWN = "channels_torn_down"
    GSP_HEARTBEAT_LOST = "gsp_heartbeat_lost"
    GSP_RATE_LIMITED = "gsp_rate_limited"
    """The driver stops printing GSP time-outs of a GPU one by one."""
    RC_WATCHDOG = "rc_watchdog"
    UVM_FATAL = "uvm_fatal"
    API_MISMATCH = "api_mismatch"
    DRIVER_ASSERT = "driver_assert"
    DRIVER_CHECK = "driver_check"
    NVLINK_MASK_FAILED = "nvlink_mask_failed"
    PEERMEM_ERROR = "peermem_error"
    HUNG_TASK = "hung_task"
    GPU_UUID = "gpu_uuid"
    GPU_SERIAL = "gpu_serial"
    DRIVER_NOISE = "driver_noise"
    """The driver spoke, and said nothing that this agent acts on."""


class SxidForm(StrEnum):
    """The driver prints an NVSwitch event as three lines; each has its own part of it."""

    EVENT = "event"
    SEVERITY = "severity"
    DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class MmuFault:
    """Who touched which address, and what was wrong with it (31, 44)."""

    engine: str
    client: str
    address: str | None
    fault: str | None
    access: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmException:
    """Which multiprocessor raised an exception, and which (13)."""

    gpc: int
    tpc: int
    sm: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    """How far a memory error spread (94, 95), and what the driver asks for by its two flags."""

    contained: bool
    location: str
    reset_needed: bool | None
    drain_reset_needed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The driver's advice changed (154). The numbers are NVML's; the words differ by driver."""

    from_: int
    from_text: str
    to: int
    to_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvlink:
    """A fault on a link before NVLink 5 (74, 136)."""

    link: int | None
    registers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvlink5:
    """A fault of an NVLink 5 unit (144 to 150, 155); link -1 is none in particular."""

    unit: str
    fatal: bool
    link: int
    registers: tuple[str, ...]
    """Interrupt info, error status, then four words of debug data; empty when none are printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleBitError:
    """Where an uncorrectable memory error was found (48)."""

    address: str | None
    partition: int
    subpartition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRemap:
    """A memory row that is to be replaced (63), or cannot be (64: not pending)."""

    address: str | None
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DramError:
    """Where in DRAM an uncorrectable error was found (171)."""

    fbpa: int
    subpartition: int
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GspFunction:
    """The call that the GSP firmware did not answer (119)."""

    number: int
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GspException:
    """What stopped the GSP firmware (120): ``where`` is task or kernel."""

    where: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class XidLine:
    """``NVRM: Xid (PCI:...): number, ...``.

    ``pid`` is of the host's namespace and may be reused; ``process`` is what a tenant calls itself,
    cut at 15 bytes. ``caused_by_xid``: this line is the consequence of an earlier one.
    """

    xid: int
    pci: str
    gpu_instance: int | None = None
    compute_instance: int | None = None
    pid: int | None = None
    process: str | None = None
    message: str | None = None
    channel: str | None = None
    info: str | None = None
    caused_by_xid: int | None = None
    mmu: MmuFault | None = None
    sm: SmException | None = None
    containment: Containment | None = None
    recovery: Recovery | None = None
    nvlink: Nvlink | None = None
    nvlink5: Nvlink5 | None = None
    dbe: DoubleBitError | None = None
    row_remap: RowRemap | None = None
    dram: DramError | None = None
    gsp_function: GspFunction | None = None
    gsp_exception: GspException | None = None

    @property
    def kind(self) -> Kind:
        return Kind.XID


@dataclass(frozen=True, slots=True, kw_only=True)
class SxidLine:
    """``nvidia-nvswitchN: SXid (PCI:...): number, ...``: one of the three lines of an event."""

    sxid: int
    pci: str
    switch: int
    form: SxidForm
    fatal: bool | None = None
    """The word in the line. A severity line has the same as a number: see ``severity``."""
    link: int | None = None
    message: str | None = None
    data: tuple[str, ...] = ()
    severity: int | None = None
    """0 non-fatal, 1 fatal."""
    engine_instance: int | None = None
    sub_engine_instance: int | None = None

    @property
    def kind(self) -> Kind:
        return Kind.SXID


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverLine:
    """Any other line of a driver, or of the kernel about one; ``kind`` says which fields it has."""

    kind: Kind
    pci: str | None = None
    pid: int | None = None
    process: str | None = None
    gpu_index: int | None = None
    uuid: str | None = None
    serial: str | None = None
    implied_xid: int | None = None
    caused_by_xid: int | None = None
    pci_id: str | None = None
    continues: bool | None = None
    """The driver's sentence goes on in the next line."""
    message: str | None = None
    minor: int | None = None
    codes: tuple[str, ...] = ()
    file: str | None = None
    line: int | None = None
    reset_required: bool | None = None
    status: str | None = None
    """The driver's own name of the error, such as NV_ERR_GPU_IS_LOST."""
    seconds: int | None = None
    client_version: str | None = None
    module_version: str | None = None


KernelLine = XidLine | SxidLine | DriverLine
