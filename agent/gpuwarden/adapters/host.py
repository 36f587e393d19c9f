"""The host itself: CPU, memory, disks, network (psutil) and pressure (/proc/pressure)."""

import os
from pathlib import Path

import psutil

from gpuwarden.errors import Unavailable
from gpuwarden.model.snapshot import HostSample


class PsutilHost:
    """Samples at most every ``every_s``; between, the last sample is given again with its own time."""

    def __init__(self, every_s: float, state_dir: Path, proc: Path = Path("/proc")) -> None:
        self._every_s = every_s
        self._state_dir = state_dir
        self._proc = proc
        self._last: HostSample | None = None
        self._boot_id: str | None = None

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        if self._boot_id is None:
            path = self._proc / "sys/kernel/random/boot_id"
            try:
                self._boot_id = path.read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise Unavailable(f"{path}: {error}") from error
        return self._boot_id

    def sample(self, now: float) -> HostSample:
        """The newest sample; what cannot be read is ``None`` in it."""
        if self._last is None or now - self._last.at >= self._every_s:
            self._last = self._read(now)
        return self._last

    def _read(self, now: float) -> HostSample:
        try:
            memory = psutil.virtual_memory()
            swap_used: int | None = psutil.swap_memory().used
            disk = psutil.disk_io_counters()  # None on a host without disks of its own
            network = psutil.net_io_counters(pernic=True)
            cpu = psutil.cpu_percent(interval=None) / 100
        except (OSError, RuntimeError, ValueError) as error:
            raise Unavailable(f"host statistics: {error}") from error
        outside = [counts for name, counts in network.items() if name != "lo"]
        pressure = {name: self._pressure(name) for name in ("memory", "cpu", "io")}
        return HostSample(
            at=now,
            cpu_ratio=cpu if self._last is not None else None,  # the first reading has no interval
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            swap_used_bytes=swap_used,
            disk_read_bytes_total=getattr(disk, "read_bytes", None),
            disk_write_bytes_total=getattr(disk, "write_bytes", None),
            network_receive_bytes_total=sum(each.bytes_recv for each in outside),
            network_transmit_bytes_total=sum(each.bytes_sent for each in outside),
            filesystem_free_ratio=self._free_ratio(),
            memory_full_avg10=pressure["memory"].get("full"),
            memory_some_avg10=pressure["memory"].get("some"),
            cpu_some_avg10=pressure["cpu"].get("some"),
            io_full_avg10=pressure["io"].get("full"),
        )

    def _free_ratio(self) -> float | None:
        try:
            usage = os.statvfs(self._state_dir)
        except OSError:
            return None
        return usage.f_bavail / usage.f_blocks if usage.f_blocks else None

    def _pressure(self, name: str) -> dict[str, float]:
        """``some avg10=0.12 avg60=0.01 avg300=0.00 total=12345`` and the same for ``full``."""
        try:
            text = (self._proc / "pressure" / name).read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return {}  # a kernel without PSI, or one booted with psi=0
        found = {}
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 2 and words[1].startswith("avg10="):
                try:
                    found[words[0]] = float(words[1][6:])
                except ValueError:
                    continue
        return found
