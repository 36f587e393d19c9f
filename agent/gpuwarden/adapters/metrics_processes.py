"""Processes on the metrics page: only when the operator asks, only the largest of each device.

What NVML knows of them stands among the facts of their device; this is the rest: whose they are, and what
they cost the host.
"""

import os
from collections.abc import Iterable

from gpuwarden.adapters.exposition import Page, distinct, labels
from gpuwarden.model.status import View

_UTIME, _STIME, _RSS = 11, 12, 21  # fields 14, 15 and 24, counted from the state (field 3)


def add_processes(page: Page, view: View, pids: Iterable[str], proc: str = "/proc") -> None:
    """One info, CPU and memory series for each of ``pids``; a process that has ended has none."""
    owners = {str(pid.pid): tenant.id for tenant in view.snapshot.tenants for pid in tenant.pids}
    info = page.family("process_gpu_info", "gauge", "A process that holds device memory.")
    cpu = page.family("process_gpu_host_cpu_seconds_total", "counter", "CPU time of a process.")
    rss = page.family("process_gpu_host_rss_bytes", "gauge", "Host memory of a process.")
    ticks, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for pid in sorted(set(pids)):
        mine = labels((("pid", pid),))
        try:
            with open(f"{proc}/{pid}/stat", "rb") as file:
                # 4711 (a) b (c) S 1 4711 ...: the name may hold anything, the last ) ends it
                fields = file.read().rpartition(b")")[2].split()
            used = (int(fields[_UTIME]) + int(fields[_STIME])) / ticks
            resident = int(fields[_RSS]) * page_bytes
        except (OSError, ValueError, IndexError):
            continue
        info.add(f"{mine},{labels((('tenant', distinct(owners.get(pid, ''))),))}", 1)
        cpu.add(mine, used)
        rss.add(mine, resident)
