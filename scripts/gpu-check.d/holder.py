"""A process that holds device memory through the CUDA driver API, told what to do line by line.

    python3 holder.py DEVICE [--ignore-term]
    > alloc BYTES               < ok BYTES NANOSECONDS | failed CODE
    > ramp BLOCK TOTAL MARK     < ok TOTAL NANOSECONDS CROSSED_AT | failed CODE
    > free                      < ok 0 NANOSECONDS
    > exit                      < (ends)

``ramp`` allocates blocks as fast as it can; CROSSED_AT is the monotonic clock, in ns, when the sum passed
MARK bytes.

Plain allocations (cuMemAlloc) and nothing else: no managed memory, no kernels, no settings. Prints
``ready PID`` when its context stands, or ``absent REASON`` when there is no CUDA here.
"""

import ctypes
import os
import signal
import sys
import time

LIBRARY = "libcuda.so.1"


def _start(cuda: ctypes.CDLL, device: int) -> int:
    """A context on the device: the CUDA code of the first call that failed, or 0."""
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    for call in (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(handle), device),
        lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle),
        lambda: cuda.cuCtxSetCurrent(context),
    ):
        if code := call():
            return int(code)
    return 0


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    if "--ignore-term" in argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        _say("absent", error)
        return 3
    if code := _start(cuda, int(argv[0])):
        _say("absent", "CUDA says", code)
        return 3
    _say("ready", os.getpid())
    held: list[ctypes.c_uint64] = []
    for line in sys.stdin:
        verb, *rest = line.split() or ["exit"]
        numbers = [int(word) for word in rest]
        if verb == "alloc":
            _say(*_ramp(cuda, held, numbers[0], numbers[0], 0)[:3])
        elif verb == "ramp":
            _say(*_ramp(cuda, held, *numbers))
        elif verb == "free":
            _say(*_free(cuda, held))
        else:
            break
    return 0


def _ramp(
    cuda: ctypes.CDLL, held: list[ctypes.c_uint64], block: int, total: int, mark: int
) -> tuple[object, ...]:
    began = time.monotonic_ns()
    crossed = taken = 0
    while taken < total:
        pointer = ctypes.c_uint64()
        if code := cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(block)):
            return "failed", code
        held.append(pointer)
        taken += block
        if taken > mark and not crossed:
            crossed = time.monotonic_ns()
    return "ok", taken, time.monotonic_ns() - began, crossed


def _free(cuda: ctypes.CDLL, held: list[ctypes.c_uint64]) -> tuple[object, ...]:
    began = time.monotonic_ns()
    while held:
        if code := cuda.cuMemFree_v2(held.pop()):
            return "failed", code
    return "ok", 0, time.monotonic_ns() - began


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
