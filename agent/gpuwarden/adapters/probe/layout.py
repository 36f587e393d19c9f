"""What passes between the agent and its probe child: frames, plans, requests, call marks.

Both ends are this very file on one host, so native byte order and a private format are safe. It
imports ``struct`` alone: the child's memory and start-up time are part of the agent's cost.

A message is one datagram of a SOCK_SEQPACKET pair and holds one frame or several. A frame is a
header of 16 bytes (payload length, type, thread, device ordinal, monotonic seconds of the sample)
and a payload of raw NVML bytes wherever NVML gave bytes: the child translates nothing.
"""

import struct

Error = struct.error
"""Raised for bytes that do not fit a layout."""

HEADER = struct.Struct("=IBBHd")
"""length of the payload, frame type, part, device ordinal (``NO_DEVICE``: none), at.

The part is the thread that sends or, of slow facts, the seconds of their class."""
MESSAGE_MAX = 192 * 1024
"""Largest message: below the 208 KiB that Linux lets an ordinary user queue on a socket."""
NO_DEVICE = 0xFFFF

# Frames of the child.
HELLO = 1
INVENTORY = 2
MEMORY = 3
LIST = 4
FACTS = 5
FIELDS = 6
TEXTS = 7
PROCESS_UTILIZATION = 8
EVENT = 9
GONE = 10
"""The child ends by itself; the reason follows."""
LATE = 11
"""A call has passed its deadline: the parent reads the marks and judges."""
EVENT_MASK = 12
GPM = 13

# Frames of the parent.
PLAN = 32

# Threads.
FAST, SLOW, EVENTS = 0, 1, 2
THREADS = 3
THREAD_NAMES = ("fast", "slow", "events")

HELLO_BODY = struct.Struct("=80s80si")
"""driver version, NVML version, CUDA driver version (1000 x major + 10 x minor; 0: not told)."""

RECORD = struct.Struct("=iihHI96s96s32s")
"""One device of an inventory: NVML code, index, ordinal of the parent GPU (-1: is none), flags, minor
number, UUID, name, PCI bus id. The ordinal is its place in the frame."""
IS_MIG_PARENT = 1
IS_MIG_SLICE = 2
IS_MEMORY_V1 = 4
NO_MINOR = 0xFFFFFFFF

MEMORY_RECORD = struct.Struct("=IIQQQQ")
"""nvmlMemory_v2_t: version, return code (in the struct's padding), total, reserved, free, used."""
MEMORY_V2_VERSION = 0x02000028
MEMORY_V1 = struct.Struct("=QQQ")
"""nvmlMemory_t: total, free, used; ``used`` includes what the driver reserves (R510 and later)."""

LIST_HEAD = struct.Struct("=IIIIIIII")
"""Three pairs (return code, rows) for the compute, graphics and MPS lists, stride of a row, flags."""
LIST_SKIPPED = 0xFFFFFFFF
"""In place of a return code: this list was not asked for in this pass."""
ROW = struct.Struct("=IIQII")
"""nvmlProcessInfo_t: pid, padding, bytes, GPU instance, compute instance."""
ROW_535 = struct.Struct("=IIQIIQ")
"""The 32 bytes of early 535 drivers: one more counter, of protected memory, at the end."""
NOT_AVAILABLE = 0xFFFFFFFFFFFFFFFF
ROWS_MAX = 2000
"""Rows of one list that a message can carry; the count still says how many there were."""

FACT = struct.Struct("=HHI")
"""Specification number, NVML return code, bytes that follow (none on an error)."""
FIELD_VALUE = struct.Struct("=IIqqIIQ")
"""nvmlFieldValue_t: id, scope, timestamp us, latency us, value type, return code, value bits."""
UTILIZATION_SAMPLE = struct.Struct("=IIQIIII")
"""nvmlProcessUtilizationSample_t: pid, padding, timestamp us, SM, memory, encoder, decoder %."""
GPM_VALUE = struct.Struct("=IId24x")
"""nvmlGpmMetric_t: metric id, return code, percent, three pointers of the child's."""
EVENT_BODY = struct.Struct("=QQII")
"""Event type, event data (the Xid number), GPU instance, compute instance."""
GONE_BODY = struct.Struct("=ii")
"""NVML return code, number of the symbol that gave it."""

PLAN_HEAD = struct.Struct("=ddddI")
"""Period of the fast loop, seconds between regular lists, least gap of lists of one device, between slow
facts of the fastest class, devices."""
PLAN_ITEM = struct.Struct("=QI")
"""Per ordinal: bytes of change that make it list, 1 to list at once."""

# Requests of the slow thread (memory limits), on a socket of their own.
REQUEST = struct.Struct("=IIHHQQ")
"""id, operation, device ordinal, length of the path that follows, soft bytes, hard bytes."""
ANSWER = struct.Struct("=IiQQQ")
"""id, NVML return code, soft, hard, used bytes."""
SET_LIMITS, GET_LIMITS = 1, 2
UNLIMITED = 0xFFFFFFFFFFFFFFFF

# Shared memory: one mark a thread, then one line of progress a thread.
MARK = struct.Struct("=dqq")
"""Since when (monotonic s), device ordinal or -1, symbol number (0: no call in progress)."""
PROGRESS = struct.Struct("=dqqq")
"""Time of the last finished pass, passes, messages dropped, NVML calls."""
PROGRESS_AT = THREADS * MARK.size
SHARED_BYTES = PROGRESS_AT + THREADS * PROGRESS.size

# Return codes of NVML that change what is done (nvml.h, nvmlReturn_t).
SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIB_RM_VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25
GPU_NOT_FOUND = 28
UNKNOWN = 999

INVENTORY_CHANGED = -1
"""In GONE, in place of a return code: the devices by index are not those of the inventory."""

CODE_NAMES = {
    0: "SUCCESS",
    1: "UNINITIALIZED",
    2: "INVALID_ARGUMENT",
    3: "NOT_SUPPORTED",
    4: "NO_PERMISSION",
    5: "ALREADY_INITIALIZED",
    6: "NOT_FOUND",
    7: "INSUFFICIENT_SIZE",
    8: "INSUFFICIENT_POWER",
    9: "DRIVER_NOT_LOADED",
    10: "TIMEOUT",
    11: "IRQ_ISSUE",
    12: "LIBRARY_NOT_FOUND",
    13: "FUNCTION_NOT_FOUND",
    14: "CORRUPTED_INFOROM",
    15: "GPU_IS_LOST",
    16: "RESET_REQUIRED",
    17: "OPERATING_SYSTEM",
    18: "LIB_RM_VERSION_MISMATCH",
    19: "IN_USE",
    20: "MEMORY",
    21: "NO_DATA",
    22: "VGPU_ECC_NOT_SUPPORTED",
    23: "INSUFFICIENT_RESOURCES",
    24: "FREQ_NOT_SUPPORTED",
    25: "ARGUMENT_VERSION_MISMATCH",
    26: "DEPRECATED",
    27: "NOT_READY",
    28: "GPU_NOT_FOUND",
    29: "INVALID_STATE",
    30: "RESET_TYPE_NOT_SUPPORTED",
    999: "UNKNOWN",
}


def code_name(code: int) -> str:
    """The driver's word for a return code; a number nobody has named stays a number."""
    return CODE_NAMES.get(code, f"code {code}")
