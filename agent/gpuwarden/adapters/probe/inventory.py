"""Which devices there are: every GPU by index, and the MIG slices of those that are cut up."""

from __future__ import annotations

import ctypes

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.library import Handle, Library, Marks

DEVICES_MAX = 512
"""64 GPUs of 7 slices each and themselves; more is a broken driver."""
_PCI_BUS_ID = slice(36, 68)


def start(library: Library, marks: Marks) -> int:
    """Initialise the driver library; its return code. References are counted: call it once."""
    if library.function("nvmlInitWithFlags") is not None:
        return library.call(marks, -1, "nvmlInitWithFlags", ctypes.c_uint(0))
    return library.call(marks, -1, "nvmlInit_v2")


def hello(library: Library, marks: Marks) -> bytes:
    """The versions frame; what the driver does not tell is empty."""
    _, driver = library.text(marks, -1, "nvmlSystemGetDriverVersion", 80, None)
    _, nvml = library.text(marks, -1, "nvmlSystemGetNVMLVersion", 80, None)
    code, cuda = library.number(marks, -1, "nvmlSystemGetCudaDriverVersion_v2", None)
    return layout.HELLO_BODY.pack(
        driver[:79], nvml[:79], cuda & 0x7FFFFFFF if code == layout.SUCCESS else 0
    )


def count(library: Library, marks: Marks) -> tuple[int, int]:
    """Return code and number of GPUs, lost ones included."""
    return library.number(marks, -1, "nvmlDeviceGetCount_v2", None)


def devices(
    library: Library, marks: Marks, indexes: frozenset[int] | None, skip: frozenset[int]
) -> tuple[int, list[Handle]]:
    """Return code of the count, and every wanted GPU with its slices.

    ``indexes`` None: all. One that cannot be opened stays in the list with its code: it may be lost.
    """
    code, gpus = count(library, marks)
    found: list[Handle] = []
    for index in range(min(gpus, DEVICES_MAX) if code == layout.SUCCESS else 0):
        if index in skip or (indexes is not None and index not in indexes):
            continue
        # Until the parent has the inventory, marks name a GPU by its index: there is no ordinal yet.
        gpu = open_gpu(library, marks, index, index)
        found.append(gpu)
        if gpu.is_open and _is_mig_on(library, marks, index, gpu.pointer):
            gpu.flags |= layout.IS_MIG_PARENT
            found.extend(_slices(library, marks, gpu, len(found) - 1, index))
        if len(found) >= DEVICES_MAX:
            break
    return code, found[:DEVICES_MAX]


def open_gpu(library: Library, marks: Marks, index: int, ordinal: int) -> Handle:
    """The GPU at this index now, with its identity; the code of the first call that failed."""
    gpu = _handle_at(library, marks, index, ordinal)
    if not gpu.is_open:
        return gpu
    _, gpu.name = library.text(marks, ordinal, "nvmlDeviceGetName", 95, gpu.pointer)
    pci = ctypes.create_string_buffer(128)
    if library.call(marks, ordinal, "nvmlDeviceGetPciInfo_v3", gpu.pointer, pci) == layout.SUCCESS:
        gpu.pci = pci.raw[_PCI_BUS_ID].split(b"\0", 1)[0]
    minor_code, minor = library.number(marks, ordinal, "nvmlDeviceGetMinorNumber", gpu.pointer)
    gpu.minor = minor if minor_code == layout.SUCCESS else layout.NO_MINOR
    return gpu


def _handle_at(library: Library, marks: Marks, index: int, ordinal: int) -> Handle:
    """The GPU at this index, opened and named by its UUID; the code says what failed."""
    pointer = ctypes.c_void_p()
    code = library.call(
        marks,
        ordinal,
        "nvmlDeviceGetHandleByIndex_v2",
        ctypes.c_uint(index),
        ctypes.byref(pointer),
    )
    gpu = Handle(code=code, index=index, parent=-1, pointer=pointer.value)
    if code == layout.SUCCESS:
        gpu.code, gpu.uuid = library.text(marks, ordinal, "nvmlDeviceGetUUID", 95, gpu.pointer)
    return gpu


def identify(library: Library, marks: Marks, index: int, ordinal: int) -> tuple[bytes, ...] | None:
    """UUIDs at this index now: the GPU's and its slices'; None when it does not answer."""
    gpu = _handle_at(library, marks, index, ordinal)
    if not gpu.is_open:
        return None
    if not _is_mig_on(library, marks, ordinal, gpu.pointer):
        return (gpu.uuid,)
    return (gpu.uuid, *(s.uuid for s in _slices(library, marks, gpu, -1, ordinal)))


def _is_mig_on(library: Library, marks: Marks, ordinal: int, pointer: ctypes.c_void_p) -> bool:
    current, pending = ctypes.c_uint(0), ctypes.c_uint(0)
    code = library.call(
        marks,
        ordinal,
        "nvmlDeviceGetMigMode",
        pointer,
        ctypes.byref(current),
        ctypes.byref(pending),
    )
    return code == layout.SUCCESS and current.value == 1


def _slices(library: Library, marks: Marks, gpu: Handle, parent: int, ordinal: int) -> list[Handle]:
    """The MIG slices of a GPU that is cut up; ``parent`` is its ordinal in the inventory."""
    code, most = library.number(marks, ordinal, "nvmlDeviceGetMaxMigDeviceCount", gpu.pointer)
    found: list[Handle] = []
    for place in range(min(most, 64) if code == layout.SUCCESS else 0):
        pointer = ctypes.c_void_p()
        code = library.call(
            marks,
            ordinal,
            "nvmlDeviceGetMigDeviceHandleByIndex",
            gpu.pointer,
            ctypes.c_uint(place),
            ctypes.byref(pointer),
        )
        if code != layout.SUCCESS:  # NOT_FOUND: an empty place
            continue
        slice_ = Handle(code=code, index=place, parent=parent, pointer=pointer.value)
        slice_.flags = layout.IS_MIG_SLICE
        slice_.pci, slice_.minor = gpu.pci, gpu.minor
        slice_.code, slice_.uuid = library.text(
            marks, ordinal, "nvmlDeviceGetUUID", 95, slice_.pointer
        )
        _, slice_.name = library.text(marks, ordinal, "nvmlDeviceGetName", 95, slice_.pointer)
        found.append(slice_)
    return found
