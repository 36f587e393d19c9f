"""decide() on a full node: 64 tenants, each on all of 16 devices, one use in twenty over its quota; every
device tells its health at the pace of each class, and its links grow errors."""

from __future__ import annotations

import cProfile
import gc
import pstats
import random
import sys
import time
from dataclasses import replace
from typing import Any

from cost import median, percentile

from gpuwarden.config import AgentConfig, Config
from gpuwarden.model.device import Device
from gpuwarden.model.health import (
    EVERY_S,
    DeviceHealth,
    Errors,
    Setup,
    Surroundings,
    Vitals,
)
from gpuwarden.model.ids import CgroupId, DeviceId, Pid, TenantId
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.model.tenant import Tenant, TenantClass, Use
from gpuwarden.policy.decide import decide

TENANTS, DEVICES, OVER = 64, 16, 0.05
CALLS, WARM_UP = 3000, 300
WINDOW = 300
"""Calls a window of which the quietest is told too: neighbours on a shared core double any figure."""
TICK_S = 0.1
QUOTA = 2 * 2**30
TOTAL = 141 * 2**30
TOLD: dict[str, dict[str, Any]] = {
    "vitals": {
        "utilization_ratio": 0.9,
        "temperature_c": 60.0,
        "memory_temperature_c": 70.0,
        "power_w": 500.0,
        "clock_event_mask": 4,
        "clock_event_sw_thermal_s_total": 0.0,
        "clock_event_hw_thermal_s_total": 0.0,
        "clock_event_hw_power_brake_s_total": 0.0,
        "recovery_action": 0,
    },
    "errors": {
        "temperature_margin_c": 27.0,
        "ecc_corrected_volatile_total": 0,
        "ecc_uncorrected_volatile_total": 0,
        "row_remap_pending": False,
        "row_remap_failed": False,
        "nvlink_up_mask": 2**18 - 1,
        "nvlink_down_mask": 0,
        "nvlink_replay_errors_total": 0,
        "nvlink_crc_flit_errors_total": 0,
    },
    "setup": {
        "power_limit_w": 700.0,
        "power_limit_set_w": 700.0,
        "temperature_slowdown_c": 89.0,
        "temperature_memory_max_c": 95.0,
        "pcie_link_generation": 5,
        "pcie_link_width": 16,
        "pcie_link_generation_max": 5,
        "pcie_link_width_max": 16,
        "persistence_enabled": True,
        "ecc_enabled": True,
        "ecc_default": True,
        "fabric_state": 3,
        "fabric_health_mask": 0xAA,
    },
}


def world(seed: int = 1) -> Snapshot:
    """The snapshot at second 1000; which uses are over quota is drawn from the seed."""
    chance = random.Random(seed)
    tenants = tuple(
        Tenant(
            id=TenantId(f"docker:{number:064x}"),
            runtime="docker",
            name=f"tenant-{number}",
            cls=chance.choice((TenantClass.LOW, TenantClass.NORMAL, TenantClass.BEST_EFFORT)),
            hard_bytes=QUOTA,
            cgroup=CgroupId(path=f"/docker/{number:064x}", inode=1000 + number),
            pids=(Pid(pid=5000 + number, start=77),),
            first_seen=1.0,
            owner_key=f"image/{number}",
            restart_policy="no",
        )
        for number in range(TENANTS)
    )
    pairs = [(t, d) for t in range(TENANTS) for d in range(DEVICES)]
    over = set(chance.sample(pairs, int(len(pairs) * OVER)))
    uses = tuple(
        Use(
            tenant=tenants[t].id,
            device=DeviceId(f"GPU-{d}"),
            used_bytes=QUOTA + 2**29 if (t, d) in over else chance.randrange(QUOTA),
            listed_at=1000.0,
        )
        for t, d in pairs
    )
    devices = tuple(
        Device(
            id=DeviceId(f"GPU-{d}"),
            index=d,
            name="H200",
            total_bytes=TOTAL,
            used_bytes=sum(u.used_bytes for u in uses if u.device == f"GPU-{d}"),
            at=1000.0,
            listed_at=1000.0,
        )
        for d in range(DEVICES)
    )
    return Snapshot(
        at=1000.0, wall=1.8e9, boot_id="bench", devices=devices, tenants=tenants, uses=uses
    )


def health(at: float, old: DeviceHealth | None = None) -> DeviceHealth:
    """Every class as of its newest sample at ``at``; the same object while none is due."""
    old = old or DeviceHealth()
    fresh = {}
    for name, kind in (("vitals", Vitals), ("errors", Errors), ("setup", Setup)):
        part = getattr(old, name)
        if part is None or at - part.at >= EVERY_S[name]:
            part = kind(at=at, **TOLD[name])
            if name == "errors":
                part = replace(part, pcie_replays_total=int(at / 100))
        fresh[name] = part
    if all(fresh[name] is getattr(old, name) for name in fresh):
        return old
    return DeviceHealth(**fresh)


def later(snapshot: Snapshot, at: float) -> Snapshot:
    """The same world, looked at and listed again."""
    told = health(at, snapshot.devices[0].health)
    around = snapshot.surroundings
    if around is None or at - around.at >= around.every_s:
        around = Surroundings(at=at, pci_gpus=DEVICES, is_clock_synchronised=True)
    return replace(
        snapshot,
        at=at,
        wall=snapshot.wall + at - snapshot.at,
        surroundings=around,
        devices=tuple(replace(d, at=at, listed_at=at, health=told) for d in snapshot.devices),
        uses=tuple(replace(u, listed_at=at) for u in snapshot.uses),
    )


def measure(*, is_profiled: bool, mode: str = "enforce") -> dict[str, Any]:
    """CPU milliseconds of a call (wall ones beside them: on a busy host those hold other people's turns
    on the CPU); memory goes from each call to the next, as in the agent."""
    cfg = Config(agent=AgentConfig(mode=mode))  # type: ignore[arg-type]
    snapshot = world()
    memory = Memory(boot_id="bench", started_at=1.0)
    profiler = cProfile.Profile()
    costs, walls = [], []
    at = snapshot.at
    gc.collect()
    gc.freeze()  # as the agent does once it is up
    for call in range(WARM_UP + CALLS):
        at += TICK_S
        snapshot = now = later(snapshot, at)
        if is_profiled and call >= WARM_UP:
            profiler.enable()
        began, began_cpu = time.perf_counter(), time.thread_time()
        decision = decide(cfg, memory, now)
        cost, wall = time.thread_time() - began_cpu, time.perf_counter() - began
        profiler.disable()
        memory = decision.memory
        if call >= WARM_UP:
            costs.append(cost * 1000)
            walls.append(wall * 1000)
    if is_profiled:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(20)
    return {
        "decide_p99_ms": percentile(costs, 0.99),
        "decide_median_ms": median(costs),
        "decide_quiet_p99_ms": min(
            percentile(costs[at : at + WINDOW], 0.99) for at in range(0, CALLS, WINDOW)
        ),
        "decide_max_ms": max(costs),
        "decide_wall_median_ms": median(walls),
        "decide_wall_p99_ms": percentile(walls, 0.99),
        "decide_findings": len(decision.findings),
    }
