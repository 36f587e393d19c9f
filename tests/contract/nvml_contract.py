"""What the agent relies on of NVML, as checks that any NVML must pass: simulated or real.

Standard library and the probe alone: pytest runs them over the simulated driver (and, with the marker
``gpu``, over the real one), scripts/gpu-check runs them where nothing is installed. A check raises
AssertionError when the contract is broken and NotHere when this host cannot show it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from gpuwarden.adapters.probe import layout
from gpuwarden.errors import Unavailable
from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.views import ProbeView
from tests.contract.seat import Seat, is_alive, listing_of, shown

MIB = 2**20
HOLD_BYTES = 512 * MIB
SLACK_BYTES = 64 * MIB
"""Other tenants of a real device, and what a context leaves behind."""


class NotHere(Exception):
    """This host cannot show it; the text says why."""


class Holding(Protocol):
    """A process that holds device memory."""

    @property
    def pid(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a check works with. ``hold`` starts a process that holds so many bytes on device 0."""

    seat: Seat
    hold: Callable[[int], AbstractContextManager[Holding]]
    is_pid_shared: bool = True
    """Whether this process and the driver count pids in the same namespace."""


def is_host_pid_namespace() -> bool:
    """Whether our pids are those that the driver lists: the host's own namespace has a fixed number
    (PROC_PID_INIT_INO of the kernel).
    """
    try:
        return os.readlink("/proc/self/ns/pid") == "pid:[4026531836]"
    except OSError:
        return False


def devices_have_identity_and_size(bench: Bench) -> None:
    view = _seen(bench)
    assert len({d.id for d in view.devices}) == len(view.devices)
    for device in view.devices:
        assert device.id.startswith(("GPU-", "MIG-"))
        assert device.name
        assert device.total_bytes > 0
        assert device.used_bytes is None or 0 <= device.used_bytes <= device.total_bytes
        assert 0 <= device.reserved_bytes < device.total_bytes
    assert bench.seat.probe.driver_version
    assert bench.seat.probe.nvml_version
    assert view.epoch == 1


def sizes_at_rest_stay_fresh(bench: Bench) -> None:
    _seen(bench)
    for _ in range(4):
        view = bench.seat.for_a_while(0.5)
        now = time.monotonic()
        for device in view.devices:
            assert device.sight is Sight.OK, shown(view)
            assert device.at is not None
            assert now - device.at < 1.2, f"{device.id} was last seen {now - device.at:.2f} s ago"


def every_device_is_listed(bench: Bench) -> None:
    holders = {d.id for d in _seen(bench).devices if not d.is_mig_parent}
    view = bench.seat.until(lambda v: holders <= {x.device for x in v.listings}, "lists of all")
    totals = {d.id: d.total_bytes for d in view.devices}
    for listing in view.listings:
        assert listing.used_bytes <= totals[listing.device]
        pids = [row.raw_pid for row in listing.rows]
        assert len(pids) == len(set(pids)), "a process twice in one list"
        for row in listing.rows:
            assert row.raw_pid > 0
            assert row.used_bytes is None or row.used_bytes <= totals[listing.device]


def a_list_is_taken_when_asked_for(bench: Bench) -> None:
    view = _seen(bench)
    device = next(d for d in view.devices if not d.is_mig_parent)
    view = bench.seat.until(lambda v: listing_of(v, device), "a first list")
    old = listing_of(view, device)
    assert old is not None
    bench.seat.probe.steer(ProbePlan(period_s=0.05, list_now=(device.id,), list_every_s=60.0))
    bench.seat.until(lambda v: (x := listing_of(v, device)) and x.at > old.at, "the list asked for")


def a_holder_is_seen_and_its_bytes_come_back(bench: Bench) -> None:
    view = _seen(bench)
    device = min(view.devices, key=lambda d: (d.index, d.parent is not None)).id
    before = _used(view, device)
    with bench.hold(HOLD_BYTES) as holder:
        seat = bench.seat
        view = seat.until(lambda v: _used(v, device) >= before + HOLD_BYTES, "the bytes")
        if bench.is_pid_shared:
            view = seat.until(lambda v: _row(v, device, holder.pid) is not None, "its row")
            size = _row(view, device, holder.pid)
            assert size is not None
            assert size < 0 or size >= HOLD_BYTES
    bench.seat.until(lambda v: _used(v, device) <= before + SLACK_BYTES, "its bytes back")
    if not bench.is_pid_shared:
        raise NotHere("this process is in a pid namespace of its own: rows cannot be compared")
    bench.seat.until(lambda v: _row(v, device, holder.pid) is None, "its row gone")


def slow_facts_are_believable_or_unknown(bench: Bench) -> None:
    gpus = [d.id for d in _seen(bench).devices if d.parent is None]
    probe = bench.seat.probe
    bench.seat.until(
        lambda _: all("ecc_enabled" in probe.details.get(g, {}) for g in gpus),
        "facts of each class",
    )
    for gpu in gpus:
        facts = probe.details[gpu]
        for key, value in facts.items():
            if key.endswith("_ratio") and isinstance(value, float):
                assert 0.0 <= value <= 2.0, (key, value)
            if key.endswith("_c") and isinstance(value, float):
                assert -200.0 <= value <= 200.0, (key, value)
        assert isinstance(facts["temperature_c"], float), "no device is without a temperature"


def driver_events_are_registered_or_said_to_be_absent(bench: Bench) -> None:
    gpus = [d for d in _seen(bench).devices if d.parent is None]
    bench.seat.until_registered(len(gpus))
    codes = dict(bench.seat.probe._book.event_codes)
    if any(code not in (layout.SUCCESS, layout.TIMEOUT) for code in codes.values()):
        assert any(g.subject.startswith("events") for g in bench.seat.look().gaps)
        raise NotHere(f"driver events: {sorted({layout.code_name(c) for c in codes.values()})}")


def memory_limits_answer_with_a_word(bench: Bench) -> None:
    view = _seen(bench)
    device = next(d.id for d in view.devices if d.parent is None)
    try:
        code, _, _, _ = bench.seat.probe.ask_limits(layout.GET_LIMITS, device, "/sys/fs/cgroup")
    except Unavailable as error:
        raise AssertionError("no answer, and it did not hang either") from error
    if code in (layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND):
        raise NotHere(f"memory limits: {layout.code_name(code)}")
    assert code in (layout.SUCCESS, layout.NOT_FOUND, layout.NO_PERMISSION, layout.INVALID_ARGUMENT)


def closing_leaves_no_child(bench: Bench) -> None:
    _seen(bench)
    children = bench.seat.probe.children()
    assert children
    bench.seat.probe.close()
    assert not any(is_alive(child) for child in children)


Check = Callable[[Bench], None]
CHECKS: tuple[Check, ...] = (
    devices_have_identity_and_size,
    sizes_at_rest_stay_fresh,
    every_device_is_listed,
    a_list_is_taken_when_asked_for,
    a_holder_is_seen_and_its_bytes_come_back,
    slow_facts_are_believable_or_unknown,
    driver_events_are_registered_or_said_to_be_absent,
    memory_limits_answer_with_a_word,
    closing_leaves_no_child,
)
"""In the order they are to run; the last one ends the probe."""


def _seen(bench: Bench) -> ProbeView:
    return bench.seat.until(
        lambda v: v.devices and all(d.sight is Sight.OK for d in v.devices), "devices in sight"
    )


def _used(view: ProbeView, device: DeviceId) -> int:
    return next(d.used_bytes or 0 for d in view.devices if d.id == device)


def _row(view: ProbeView, device: DeviceId, pid: int) -> int | None:
    """Bytes of a process in the device's newest list; -1: listed without a size; None: not listed."""
    for listing in view.listings:
        for row in listing.rows if listing.device == device else ():
            if row.raw_pid == pid:
                return -1 if row.used_bytes is None else row.used_bytes
    return None
