"""What the probe's children cost: resident memory and CPU time, from /proc."""

import os
from collections.abc import Iterable, Mapping


def cost(pids: Iterable[int]) -> Mapping[str, float]:
    """Sums over the processes that are there; a child that has just ended counts nothing."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    rss = cpu = 0.0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # 4711 (gpuwarden-probe) S 1 ...: the name may hold anything, the last ) ends it
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / ticks  # utime, stime: fields 14 and 15
        rss += int(fields[21]) * page  # field 24
    return {"probe_rss_bytes": rss, "probe_cpu_s_total": cpu}
