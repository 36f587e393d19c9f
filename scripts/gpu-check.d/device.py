"""One device seen through the agent's own door to NVML, and pidfds: what the stages measure with."""

from __future__ import annotations

import mmap
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gpuwarden.adapters.probe import decode, inventory, layout
from gpuwarden.adapters.probe.decode import MemoryReading
from gpuwarden.adapters.probe.fast import MemoryTable
from gpuwarden.adapters.probe.library import Handle, Library, Marks

MIB = 2**20
SLACK_BYTES = 96 * MIB
"""What others on the device may move while a stage looks at it."""


class NoDevice(Exception):
    """There is no NVIDIA device here; the text says why."""


@dataclass(frozen=True, slots=True)
class Device:
    """An open device. Everything that calls the driver blocks for as long as the driver does."""

    library: Library
    marks: Marks
    handle: Handle
    table: MemoryTable
    count: int
    driver_version: str
    nvml_version: str
    name: str

    def memory(self) -> MemoryReading:
        """Memory now; RuntimeError when the driver does not say."""
        reading = decode.memory(self.table.read_all())
        if reading.code or reading.fault:
            raise RuntimeError(f"memory: {layout.code_name(reading.code)} {reading.fault}")
        return reading

    def free_bytes(self) -> int:
        reading = self.memory()
        return reading.total - reading.reserved - reading.used

    def wait_used(self, claim: Callable[[int], bool], timeout_s: float) -> float | None:
        """Monotonic seconds of the first sample of which the claim holds; looks all the time."""
        end = time.monotonic() + timeout_s
        while (now := time.monotonic()) < end:
            if claim(self.memory().used):
                return now
        return None


@contextmanager
def open_device(index: int) -> Iterator[Device]:
    """Raises NoDevice where there is no library, driver or such index."""
    try:
        library = Library(os.environ.get("GPUWARDEN_NVML"))
    except OSError as error:
        raise NoDevice(f"no NVML library: {error}") from error
    marks = Marks(mmap.mmap(-1, layout.SHARED_BYTES), layout.FAST)
    if code := inventory.start(library, marks):
        raise NoDevice(f"the driver says {layout.code_name(code)}")
    try:
        code, count = inventory.count(library, marks)
        if code or index >= count:
            raise NoDevice(f"no device {index}: {layout.code_name(code)}, {count} devices")
        handle = inventory.open_gpu(library, marks, index, index)
        if not handle.is_open:
            raise NoDevice(f"device {index}: {layout.code_name(handle.code)}")
        driver, nvml, _ = layout.HELLO_BODY.unpack(inventory.hello(library, marks))
        yield Device(
            library=library,
            marks=marks,
            handle=handle,
            table=MemoryTable(library, marks, [handle]),
            count=count,
            driver_version=decode.text(driver),
            nvml_version=decode.text(nvml),
            name=decode.text(handle.name),
        )
    finally:
        library.call(marks, -1, "nvmlShutdown")


def wait_exit(pidfd: int, timeout_s: float) -> float | None:
    """Monotonic seconds at which the process had ended; None when it still runs."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return time.monotonic() if poller.poll(timeout_s * 1000) else None


def spent_us(call: Callable[[], object], times: int, limit_s: float) -> list[float]:
    """Microseconds of each of so many calls, fewer when they take longer than the limit together."""
    costs: list[float] = []
    end = time.monotonic() + limit_s
    while len(costs) < times and time.monotonic() < end:
        began = time.perf_counter_ns()
        call()
        costs.append((time.perf_counter_ns() - began) / 1000)
    return costs
