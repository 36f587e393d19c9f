"""The stages: each takes a device index and returns what it measured, in plain JSON types."""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cgroups
from device import MIB, SLACK_BYTES, Device, open_device, spent_us, wait_exit

from gpuwarden.adapters.probe import decode, inventory, layout
from gpuwarden.adapters.probe.facts import Call, Facts
from gpuwarden.adapters.probe.gpm import Gpm
from gpuwarden.adapters.probe.limits import _Limits
from gpuwarden.adapters.probe.lists import Lister
from gpuwarden.adapters.probe.parent import NvmlProbe
from gpuwarden.adapters.probe.specs import CLASSES_S, NUMBERED
from gpuwarden.model.decision import ProbePlan
from tests.contract import nvml_contract
from tests.contract.nvml_contract import NotHere
from tests.contract.real_holder import Absent, RealHolder, holding
from tests.contract.seat import Seat

GIB = 2**30
USABLE = 0.75
"""Share of the free memory that is ever taken."""
PERIODS_S = (0.02, 0.05, 0.1, 0.25)
KILL_SIZES = (1 * GIB, 10 * GIB, 50 * GIB)
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """What the probe reads of the agent's settings, without the library that validates them."""

    library: str | None = None
    fast_base_s: float = 0.1
    list_every_s: float = 2.0
    list_gap_s: float = 0.1
    slow_every_s: float = 5.0
    list_trigger_bytes: int = 64 * MIB
    fast_deadline_s: float = 0.5
    slow_deadline_s: float = 2.0


@contextmanager
def probe() -> Iterator[NvmlProbe]:
    settings: Any = Settings(library=os.environ.get("GPUWARDEN_NVML"))
    made = NvmlProbe(settings, settings, time.monotonic())
    try:
        yield made
    finally:
        made.close()


@contextmanager
def holder(device: int) -> Iterator[RealHolder]:
    """A process with a context and nothing else; NotHere without CUDA."""
    try:
        made = RealHolder(device)
    except Absent as reason:
        raise NotHere(f"CUDA: {reason}") from reason
    try:
        yield made
    finally:
        made.end()


def contract(device: int) -> dict[str, Any]:
    """The checks of tests/contract over this driver."""
    results: dict[str, str] = {}

    def hold(size_bytes: int) -> Any:
        return holding(size_bytes, device)

    for check in nvml_contract.CHECKS:
        with probe() as made:
            is_shared = nvml_contract.is_host_pid_namespace()
            bench = nvml_contract.Bench(seat=Seat(made), hold=hold, is_pid_shared=is_shared)
            try:
                check(bench)
                results[check.__name__] = "ok"
            except (NotHere, Absent) as reason:
                results[check.__name__] = f"not here: {reason}"
            except AssertionError as error:
                results[check.__name__] = f"BROKEN: {error}"
    if any(result.startswith("BROKEN") for result in results.values()):
        raise AssertionError("; ".join(f"{k}: {v}" for k, v in results.items() if "BROKEN" in v))
    return dict(results)


def costs(device: int) -> dict[str, Any]:
    """Microseconds of each call: median, p99, code; and of the probe's own passes."""
    found: dict[str, Any] = {}
    with open_device(device) as gpu:
        for name, call in _calls(gpu):
            code: list[int] = []
            spent = spent_us(lambda call=call, code=code: code.append(call()), 200, 2.0)
            found[name] = _summary(spent) | {"code": layout.code_name(code[-1])}
        lister = Lister(gpu.library, gpu.marks)
        facts = Facts(gpu.library, gpu.marks, [gpu.handle])
        gpm = Gpm(gpu.library, gpu.marks, [gpu.handle])
        record = gpu.table.read_all()
        passes: dict[str, Callable[[], object]] = {
            "pass memory": gpu.table.read_all,
            "pass lists": lambda: lister.read(gpu.handle, 0, record, is_full=True),
            "pass process utilization": lambda: facts.utilization(0),
            "pass gpm": lambda: gpm.read(0),
        }
        for every_s in CLASSES_S:
            passes[f"pass facts {every_s} s"] = lambda every_s=every_s: facts.read(0, every_s)
            passes[f"pass fields {every_s} s"] = lambda every_s=every_s: facts.fields(0, every_s)
        for name, work in passes.items():
            found[name] = _summary(spent_us(work, 100, 4.0))
        found["gpm"] = decode.gpm(gpm.read(0))[0]
    began = time.monotonic()
    with open_device(device):
        found["initialise and open"] = {"median_us": (time.monotonic() - began) * 1e6}
    return found


def _calls(gpu: Device) -> Iterator[tuple[str, Callable[[], int]]]:
    library, marks, handle = gpu.library, gpu.marks, gpu.handle
    yield "nvmlDeviceGetCount_v2", lambda: inventory.count(library, marks)[0]
    yield (
        "nvmlDeviceGetHandleByIndex_v2 + GetUUID",
        lambda: inventory._handle_at(library, marks, handle.index, 0).code,
    )
    for number, spec in enumerate(NUMBERED):
        call = Call(library, handle, number)
        name = " ".join([spec.symbol, *map(str, spec.ints)])
        yield name, lambda call=call: call.make(marks, 0)
    limits = _Limits(namespace=b"/sys/fs/cgroup")
    at = ctypes.byref(limits)
    symbol = "nvmlDeviceGetMemoryLimits_v1"
    yield symbol, lambda: library.call(marks, 0, symbol, handle.pointer, at)


def _summary(spent: list[float]) -> dict[str, Any]:
    ordered = sorted(spent)
    return {
        "calls": len(ordered),
        "median_us": round(statistics.median(ordered), 2),
        "p99_us": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "max_us": round(ordered[-1], 2),
    }


def rate(device: int) -> dict[str, Any]:
    """How fast memory can be taken, by size of block."""
    found = {}
    with open_device(device) as gpu, holder(device) as process:
        usable = int(gpu.free_bytes() * USABLE)
        found["context_bytes"] = _context_bytes(gpu, device)
        for block in (2 * MIB, 64 * MIB, GIB, 10 * GIB):
            total = min(usable // block * block, max(block, 8 * GIB))
            if total < block:
                continue
            is_ok, said = process.ask("ramp", block, total, total)
            if is_ok:
                found[f"gib_per_s block {block // MIB} MiB"] = round(total / GIB / said[1] * 1e9, 2)
            else:
                found[f"failed block {block // MIB} MiB"] = said[0]
            is_ok, said = process.ask("free")
            if is_ok:
                found[f"free_gib_per_s block {block // MIB} MiB"] = round(
                    total / GIB / max(said[1], 1) * 1e9, 2
                )
    return found


def _context_bytes(gpu: Device, device: int) -> int:
    """What one more empty context costs."""
    before = gpu.memory().used
    with holder(device):
        return gpu.memory().used - before


def overshoot(device: int) -> dict[str, Any]:
    """How far a ramp at full speed gets past a mark before the probe has told of it, by period."""
    found: dict[str, Any] = {}
    with open_device(device) as gpu:
        total = int(min(gpu.free_bytes() * USABLE, 24 * GIB)) // (64 * MIB) * 64 * MIB
    mark = total // 4
    for period_s in PERIODS_S:
        with probe() as made, holder(device) as process:
            seat = Seat(made)
            seat.until(lambda v: v.devices and v.listings, "a device", 30.0)
            made.steer(ProbePlan(period_s=period_s))
            view = seat.for_a_while(1.0)
            gpu_at = next(d for d in view.devices if d.index == device and d.parent is None)
            base = gpu_at.used_bytes or 0
            process.tell("ramp", 64 * MIB, total, mark)
            limit = base + mark
            view = seat.until(
                lambda v, limit=limit, ident=gpu_at.id: any(
                    d.id == ident and (d.used_bytes or 0) > limit for d in v.devices
                ),
                "the overrun",
                60.0,
            )
            seen_at = time.monotonic()
            used = next(d.used_bytes or 0 for d in view.devices if d.id == gpu_at.id)
            is_ok, said = process.answer()
            found[f"period {period_s * 1000:.0f} ms"] = {
                "noticed_ms": round((seen_at - said[2] / 1e9) * 1000, 2) if is_ok else None,
                "overshoot_gib": round((used - limit) / GIB, 3),
                "ramp_gib_per_s": round(total / GIB / said[1] * 1e9, 2) if is_ok else None,
                "cuda": None if is_ok else said[0],
            }
    return found


def release(device: int) -> dict[str, Any]:
    """TERM and KILL to the end of the process, and to the bytes being back, by size."""
    found: dict[str, Any] = {}
    with open_device(device) as gpu:
        for name, signum in (("TERM", signal.SIGTERM), ("KILL", signal.SIGKILL)):
            for size in KILL_SIZES:
                if size > gpu.free_bytes() * USABLE:
                    found[f"{name} {size // GIB} GiB"] = "not enough memory free"
                    continue
                runs = [_release_once(gpu, device, size, signum) for _ in range(REPEATS)]
                found[f"{name} {size // GIB} GiB"] = runs
    return found


def _release_once(gpu: Device, device: int, size: int, signum: int) -> dict[str, Any]:
    before = gpu.memory().used
    with holder(device) as process:
        is_ok, said = process.ask("alloc", size)
        if not is_ok:
            return {"cuda": said[0]}
        pidfd = os.pidfd_open(process.pid)
        try:
            sent = time.monotonic()
            signal.pidfd_send_signal(pidfd, signum)
            ended = wait_exit(pidfd, 30.0)
            back = gpu.wait_used(lambda used: used <= before + SLACK_BYTES, 30.0)
        finally:
            os.close(pidfd)
    return {"exit_ms": _ms(ended, sent), "bytes_back_ms": _ms(back, sent)}


def _ms(at: float | None, since: float) -> float | None:
    return None if at is None else round((at - since) * 1000, 2)


def freeze(device: int) -> dict[str, Any]:
    """A process frozen while it allocates: does it stop, does it keep its bytes, does KILL end it."""
    found: dict[str, Any] = {}
    with open_device(device) as gpu:
        before = gpu.memory().used
        total = int(min(gpu.free_bytes() * USABLE, 32 * GIB)) // (16 * MIB) * 16 * MIB
        with holder(device) as process, cgroups.freezer(process.pid) as cold:
            found["by"] = cold.how
            process.tell("ramp", 16 * MIB, total, total)
            gpu.wait_used(lambda used: used > before + total // 8, 30.0)
            asked = time.monotonic()
            cold.freeze()
            frozen = cold.wait_frozen(5.0)
            found["frozen_ms"] = _ms(frozen, asked)
            at_freeze = gpu.memory().used
            end = time.monotonic() + 2.0
            after = gpu.wait_used(lambda used: time.monotonic() > end, 3.0) and gpu.memory().used
            found["used_at_freeze_gib"] = round((at_freeze - before) / GIB, 3)
            found["grown_after_freeze_mib"] = round(((after or at_freeze) - at_freeze) / MIB, 1)
            found["kept_bytes"] = (after or 0) >= at_freeze - SLACK_BYTES
            pidfd = os.pidfd_open(process.pid)
            sent = time.monotonic()
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            ended = wait_exit(pidfd, 3.0)
            found["killed_while_frozen_ms"] = _ms(ended, sent)
            if ended is None:
                cold.thaw()
                found["killed_after_thaw_ms"] = _ms(wait_exit(pidfd, 10.0), sent)
            os.close(pidfd)
            back = gpu.wait_used(lambda used: used <= before + SLACK_BYTES, 20.0)
            found["bytes_back_ms"] = _ms(back, sent)
    return found


def limits(device: int) -> dict[str, Any]:
    """A hard limit on a cgroup of our own: does the allocation fail, is it counted, does it lift."""
    with open_device(device) as gpu, holder(device) as process, cgroups.leaf(process.pid) as path:
        hard = 2 * GIB
        found: dict[str, Any] = {"path": path}
        code, _ = _limit(gpu, "Set", path, hard)
        found["set"] = layout.code_name(code)
        if code:
            raise NotHere(f"memory limits: set says {layout.code_name(code)}")
        try:
            code, shown = _limit(gpu, "Get", path)
            found["read_back"] = {"code": layout.code_name(code), "hard": shown.hard}
            is_ok, said = process.ask("alloc", GIB)
            found["alloc_below"] = "ok" if is_ok else said[0]
            is_ok, said = process.ask("alloc", 2 * GIB)
            found["alloc_above"] = "ok" if is_ok else said[0]
            found["used"] = _limit(gpu, "Get", path)[1].used
        finally:
            code, _ = _limit(gpu, "Set", path, layout.UNLIMITED)
            found["lifted"] = layout.code_name(code)
        is_ok, said = process.ask("alloc", 2 * GIB)
        found["alloc_after"] = "ok" if is_ok else said[0]
        return found


def _limit(gpu: Device, verb: str, path: str, hard: int = 0) -> tuple[int, _Limits]:
    made = _Limits(namespace=path.encode(), soft=0, hard=hard, used=0)
    at = ctypes.byref(made)
    symbol = f"nvmlDevice{verb}MemoryLimits_v1"
    return gpu.library.call(gpu.marks, 0, symbol, gpu.handle.pointer, at), made


STAGES: dict[str, Callable[[int], dict[str, Any]]] = {
    "contract": contract,
    "costs": costs,
    "rate": rate,
    "overshoot": overshoot,
    "release": release,
    "freeze": freeze,
    "limits": limits,
}
