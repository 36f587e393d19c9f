"""A process that holds device memory through the CUDA driver API, told what to do line by line.

    python3 holder.py DEVICE [--ignore-term]
    > alloc BYTES     < ok BYTES NANOSECONDS | failed CODE
    > free            < ok 0 NANOSECONDS
    > exit            < (ends)

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
        began = time.monotonic_ns()
        code = 0
        if verb == "alloc":
            pointer = ctypes.c_uint64()
            code = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(int(rest[0])))
            if not code:
                held.append(pointer)
        elif verb == "free":
            while held and not code:
                code = cuda.cuMemFree_v2(held.pop())
        else:
            break
        if code:
            _say("failed", code)
        else:
            _say("ok", rest[0] if rest else 0, time.monotonic_ns() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
