"""For the person who was paged: which class of fault this is, and the first three things to look at.

The order is that of the night: first what tells whether it goes on, then what tells the cause, then
what decides between repairing and replacing. ``timeout`` stands before every call that goes into the
driver, because an ill one may never answer.
"""

from collections.abc import Iterable, Mapping

from gpuwarden.model.fault import Scope, Topic
from gpuwarden.model.kernel_line import DriverLine, KernelLine, Kind, SxidLine
from gpuwarden.policy.fault import catalogue

Steps = tuple[str, str, str]

_BY_XID: Mapping[Topic, Iterable[int]] = {
    Topic.ENGINE_STOPPED: (46, 59, 61, 62, 109, 119, 120, 158, 169),
    Topic.MEMORY_CONTAINED: (94,),
    Topic.MEMORY_UNCORRECTABLE: (48, 58, 95, 140, 171, 172, 175),
    Topic.REMAP_PENDING: (63, 92, 156, 160),
    Topic.REMAP_FAILED: (64, 157, 161, 168),
    Topic.LOST: (79,),
    Topic.INIT_FAILED: (143,),
    Topic.RECOVERY_ADVISED: (154,),
    Topic.PCIE: (18, 167, 176),
    Topic.POWER_OR_HEAT: (*range(49, 56), 162, 163, 164, 165),
    Topic.SOFTWARE: (78,),
    Topic.INFOROM: (93, 122, 123, 124, 125),
    Topic.SECURITY: (110, 151),
}
_TOPIC_OF_XID = {code: each for each, codes in _BY_XID.items() for code in codes}
_TOPIC_OF_KIND: Mapping[Kind, Topic] = {
    Kind.FALLEN_OFF_BUS: Topic.LOST,
    Kind.REFUSED_HEAD: Topic.INIT_FAILED,
    Kind.REFUSED_PART: Topic.INIT_FAILED,
    Kind.RM_INIT_FAILED: Topic.INIT_FAILED,
    Kind.GSP_HEARTBEAT_LOST: Topic.ENGINE_STOPPED,
    Kind.GSP_RATE_LIMITED: Topic.ENGINE_STOPPED,
    Kind.RC_WATCHDOG: Topic.ENGINE_STOPPED,
    Kind.UVM_FATAL: Topic.ENGINE_STOPPED,
    Kind.API_MISMATCH: Topic.SOFTWARE,
    Kind.NVLINK_MASK_FAILED: Topic.NVLINK,
    Kind.PEERMEM_ERROR: Topic.SOFTWARE,
    Kind.HUNG_TASK: Topic.DRIVER_HUNG,
}

_LOG = (
    "journalctl -k --since -1h | grep -E 'NVRM|SXid|AER': which line came first, and does it go on?"
)
_STEPS: Mapping[Topic, Steps] = {
    Topic.APPLICATION: (
        "gpuwarden explain: which tenant raised it, and has it done so before with the same image?",
        (
            "the tenant's own log at that second: an illegal address or instruction is named there by CUDA;"
            " compute-sanitizer on a small run finds the kernel"
        ),
        (
            "the same program on another GPU: if it fails there too it is the program, if only here run"
            " dcgmi diag -r 3{i} when the device is empty"
        ),
    ),
    Topic.ENGINE_STOPPED: (
        "timeout 10 nvidia-smi -q{i}: does the device answer, and what does 'GPU Recovery Action' say?",
        _LOG,
        (
            "keep evidence before the reset (timeout 300 nvidia-bug-report.sh); driver and GSP firmware"
            " version against the vendor's known issues"
        ),
    ),
    Topic.MEMORY_CONTAINED: (
        (
            "timeout 10 nvidia-smi -q{i} -d ECC,ROW_REMAPPER: do the uncorrectable counts still grow, is a"
            " remap pending?"
        ),
        "gpuwarden explain: only the named tenant may have ended; is every other one still making progress?",
        "how many such errors in 30 days: a second one in the same bank is a case for the vendor",
    ),
    Topic.MEMORY_UNCORRECTABLE: (
        "timeout 10 nvidia-smi -q{i} -d ECC,ROW_REMAPPER: DRAM or SRAM, how many, remap pending or failed?",
        "who computed on the device since the first of the lines: their results are not to be trusted",
        (
            "after the reset, on the empty device: dcgmi diag -r 3{i}; when it fails, or this is the second"
            " time, open a case with the serial number"
        ),
    ),
    Topic.REMAP_PENDING: (
        "timeout 10 nvidia-smi -q{i} -d ROW_REMAPPER: pending yes? how full are the banks (histogram)?",
        "nothing is lost yet: plan a reset at the next time the device is empty",
        "after the reset: pending must say no, and the failure flag too",
    ),
    Topic.REMAP_FAILED: (
        "timeout 10 nvidia-smi -q{i} -d ROW_REMAPPER: failure flag, and how many banks have none left?",
        "take the device out of use: its memory can no longer repair itself",
        "open a case with the vendor: serial number, nvidia-bug-report, the histogram",
    ),
    Topic.NVLINK: (
        (
            "timeout 10 nvidia-smi nvlink -s{i}; timeout 10 nvidia-smi nvlink -e{i}: which link, do its"
            " counts grow?"
        ),
        "both ends: the GPU or switch on the other side of the link, and its lines at the same second",
        (
            "one link again and again: reseat the baseboard or cable; many links at once: fabric manager"
            " and switches"
        ),
    ),
    Topic.FABRIC: (
        (
            "systemctl status nvidia-fabricmanager; tail /var/log/fabricmanager.log: does it run, what does"
            " it say of this switch?"
        ),
        _LOG,
        (
            "timeout 10 nvidia-smi -q | grep -A3 Fabric: is every GPU 'Completed' and 'Success'? A fatal"
            " switch fault needs all of its GPUs reset together"
        ),
    ),
    Topic.LOST: (
        "lspci -vv{s}: is the device there, link up at full width, or does it read as all ff?",
        _LOG,
        (
            "the board management controller's event log: power, temperature, slot; reseat or replace when"
            " it is gone again after a reboot"
        ),
    ),
    Topic.INIT_FAILED: (
        (
            "journalctl -k -b | grep NVRM: the first line of this device says why; the later ones repeat"
            " with every nvidia-smi"
        ),
        (
            "modinfo -F version nvidia; cat /proc/driver/nvidia/version: does the loaded module fit this"
            " device and its firmware?"
        ),
        (
            "lspci -vv{s}: memory regions assigned, no [disabled]? Then reset the device, and reboot when"
            " that does not help"
        ),
    ),
    Topic.RECOVERY_ADVISED: (
        "timeout 10 nvidia-smi -q{i} | grep -A2 'Recovery Action': does the driver still ask for it?",
        "the Xid just before it is the cause: gpuwarden explain shows both as one incident",
        "is the device empty? A reset needs that; gpuwarden tenants says who is left",
    ),
    Topic.PCIE: (
        "lspci -vv{s} | grep -E 'LnkSta|UESta|CESta': width and speed against LnkCap, error bits",
        "timeout 10 nvidia-smi -q{i} -d PCIE: does the replay count grow while it is in use?",
        "riser, cable and slot: move the device; when the error moves with it, replace it",
    ),
    Topic.POWER_OR_HEAT: (
        "timeout 10 nvidia-smi -q{i} -d TEMPERATURE,POWER,CLOCK,PERFORMANCE: which reason slows it down?",
        "fans, inlet temperature and power supplies in the board management controller",
        "the neighbours: one device is its heat sink or cable, all of them are the room or the rack",
    ),
    Topic.SOFTWARE: (
        "cat /proc/driver/nvidia/version; timeout 10 nvidia-smi: do module and library have one version?",
        "what was installed since the last boot: grep -h nvidia /var/log/apt/history.log /var/log/dnf.log",
        (
            "drain the node and reboot, or unload and load the module; containers carry the host's library"
            " and have to be restarted"
        ),
    ),
    Topic.INFOROM: (
        "timeout 10 nvidia-smi -q{i} | grep -A6 'Inforom': does it read, is it flagged corrupted?",
        _LOG,
        "the device computes on; its record of errors does not: ask the vendor for a reflash or exchange",
    ),
    Topic.SECURITY: (
        "timeout 10 nvidia-smi conf-compute -f: is confidential computing on, in which state?",
        _LOG,
        (
            "restart the guest that owns the device; when it comes back, firmware and driver to the vendor's"
            " matching release"
        ),
    ),
    Topic.DRIVER_HUNG: (
        "ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/': who waits, in which function?",
        "cat /proc/PID/stack of one of them: inside of the nvidia module, or in storage or network?",
        (
            "do not kill or restart what waits in the driver: it does not help, and a later reset then fails;"
            " drain the node for a reboot"
        ),
    ),
    Topic.MEMORY_HELD: (
        "timeout 10 nvidia-smi --query-compute-apps=pid,used_memory --format=csv{i}; fuser -v /dev/nvidia*",
        (
            "for each pid: grep -E 'State|PPid' /proc/PID/status; whose child is it, does it wait in the"
            " driver?"
        ),
        (
            "let its parent collect it, or restart the container's runtime shim; a reset only when the device"
            " is empty"
        ),
    ),
    Topic.UNCLASSIFIED: (
        "gpuwarden explain: every line, event and change that belongs to it",
        _LOG,
        "timeout 300 nvidia-bug-report.sh, and the vendor's catalogue for this number",
    ),
    Topic.NONE: (
        "nothing to do: the line names a device, or repeats what another line says",
        _LOG,
        "gpuwarden status",
    ),
}


def topic_of(line: KernelLine) -> Topic:
    """The class of the fault that a line reports."""
    if isinstance(line, SxidLine):
        return Topic.FABRIC
    if not isinstance(line, DriverLine):
        root = line.caused_by_xid
        return topic_of_xid(line.xid if root is None else root)
    if line.kind is Kind.CHANNELS_TORN_DOWN and line.caused_by_xid is not None:
        return topic_of_xid(line.caused_by_xid)
    if line.status == "NV_ERR_GPU_IS_LOST":
        return Topic.LOST
    if line.reset_required:
        return Topic.RECOVERY_ADVISED
    return _TOPIC_OF_KIND.get(line.kind, Topic.NONE)


def topic_of_xid(code: int) -> Topic:
    """The class of an Xid: by the table above, else by the reach that the catalogue gives it."""
    if code in _TOPIC_OF_XID:
        return _TOPIC_OF_XID[code]
    row = catalogue.xid(code)
    if row is None or row.is_retired:
        return Topic.UNCLASSIFIED
    if row.scope is Scope.LINK:
        return Topic.NVLINK
    if row.scope is Scope.INFO:
        return Topic.NONE
    return Topic.APPLICATION if row.scope is Scope.APP else Topic.UNCLASSIFIED


def first_steps(fault: Topic, pci: str | None = None) -> Steps:
    """The first three diagnostic steps, with the device's address put into the commands."""
    bus = None if pci is None else pci if "." in pci else f"{pci}.0"
    words = {"i": f" -i {bus}" if bus else "", "s": f" -s {bus}" if bus else ""}
    one, two, three = (_filled(step, words) for step in _STEPS[fault])
    return one, two, three


def _filled(step: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        step = step.replace(f"{{{name}}}", value)
    return step
