"""One peer's full poll, over and over: `peer.py floor|nvitop|gpustat`, then a number of polls a line.

Runs in the peers' environment and imports nothing of gpuwarden. Answers each line with a JSON list: CPU
milliseconds (user and system) of each poll.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable

# Those of reference clients: links, power, ECC, retired pages, remaps, PCIe, clock events, thermal.
FIELD_IDS = (
    *(91, 138, 139, 230, 82, 83, 186, 185, 3, 4, 5, 6, 29, 30, 31, 142, 143, 144, 145, 94, 95),
    *(173, 179, 180, 197, 198, 38, 45, 52, 59, 165, 164, 208, 214, 222, 74, 76, 269, 270, 271),
    *(193, 194, 307),
)


def floor() -> Callable[[], object]:
    """13 getters, 43 field values, process list and process utilisation a device; one stat a pid."""
    import pynvml as nv

    nv.nvmlInit()
    handles = [nv.nvmlDeviceGetHandleByIndex(i) for i in range(nv.nvmlDeviceGetCount())]
    getters: tuple[Callable[[object], object], ...] = (
        nv.nvmlDeviceGetUtilizationRates,
        lambda h: nv.nvmlDeviceGetMemoryInfo(h, nv.nvmlMemory_v2),
        lambda h: nv.nvmlDeviceGetTemperature(h, 0),
        nv.nvmlDeviceGetPowerUsage,
        nv.nvmlDeviceGetEnforcedPowerLimit,
        lambda h: nv.nvmlDeviceGetClockInfo(h, 0),
        lambda h: nv.nvmlDeviceGetClockInfo(h, 1),
        lambda h: nv.nvmlDeviceGetClockInfo(h, 2),
        lambda h: nv.nvmlDeviceGetClockInfo(h, 3),
        nv.nvmlDeviceGetPerformanceState,
        nv.nvmlDeviceGetEncoderUtilization,
        nv.nvmlDeviceGetDecoderUtilization,
        lambda h: nv.nvmlDeviceGetTotalEccErrors(h, 0, 0),
    )
    assert len(getters) == 13
    assert len(FIELD_IDS) == 43

    def poll() -> None:
        pids = []
        for handle in handles:
            for getter in getters:
                getter(handle)
            nv.nvmlDeviceGetFieldValues(handle, FIELD_IDS)
            pids += [p.pid for p in nv.nvmlDeviceGetComputeRunningProcesses(handle)]
            with contextlib.suppress(nv.NVMLError):  # no sample yet
                nv.nvmlDeviceGetProcessUtilization(handle, 0)
        for pid in pids:
            with open(f"/proc/{pid}/stat", "rb") as file:
                file.read()

    return poll


def nvitop() -> Callable[[], object]:
    from nvitop import Device, take_snapshots

    devices = Device.all()
    return lambda: take_snapshots(devices, gpu_processes=True)


def gpustat() -> Callable[[], object]:
    from gpustat import new_query

    return new_query


PEERS = {"floor": floor, "nvitop": nvitop, "gpustat": gpustat}


def main() -> int:
    poll = PEERS[sys.argv[1]]()
    poll()
    poll()
    for line in sys.stdin:
        costs = []
        for _ in range(int(line)):
            began = time.process_time()
            poll()
            costs.append((time.process_time() - began) * 1000)
        print(json.dumps(costs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
