"""A probe on a simulated host, with patience: tests wait for what must come, never for a time."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator

import pytest

from gpuwarden.adapters.probe.parent import NvmlProbe
from gpuwarden.config import NvmlConfig, SamplingConfig
from gpuwarden.errors import GpuwardenError
from gpuwarden.model.device import Device, DriverEvent, Listing, Sight
from gpuwarden.model.snapshot import Gap
from gpuwarden.ports import ProbeView
from gpuwarden.sim.host import SimHost

PATIENCE_S = 15.0
QUICK = SamplingConfig(fast_base_s=0.05, list_every_s=0.5, fast_deadline_s=0.3, slow_deadline_s=0.6)
"""Deadlines short enough that a test of a hang takes a second."""


class Seat:
    """Drains as the loop does and remembers what was told only once."""

    def __init__(self, probe: NvmlProbe) -> None:
        self.probe = probe
        self.events: list[DriverEvent] = []
        self.gaps: list[Gap] = []
        self.ever_blind: set[str] = set()
        self._poller = select.poll()
        (fd,) = probe.filenos()
        self._poller.register(fd, select.POLLIN)

    def look(self) -> ProbeView:
        view = self.probe.drain(time.monotonic())
        self.events += view.events
        self.gaps += view.gaps
        self.ever_blind |= {d.id for d in view.devices if d.sight is not Sight.OK}
        return view

    def until(self, claim: Callable[[ProbeView], object], what: str = "") -> ProbeView:
        """The first view of which ``claim`` holds; fails with the last one when none comes."""
        end = time.monotonic() + PATIENCE_S
        view = self.look()
        while not claim(view):
            left_s = end - time.monotonic()
            assert left_s > 0, f"never came: {what or claim}; last {_shown(view)}"
            self._poller.poll(min(left_s, 0.2) * 1000)
            view = self.look()
        return view

    def until_seen(self, devices: int) -> ProbeView:
        return self.until(
            lambda v: len(v.devices) == devices and all(d.sight is Sight.OK for d in v.devices),
            f"{devices} devices in sight",
        )

    def until_registered(self, devices: int) -> ProbeView:
        """Once driver events of these devices come through."""
        return self.until(
            lambda _: set(range(devices)) <= self.probe._book.event_codes.keys(), "events"
        )

    def for_a_while(self, seconds: float) -> ProbeView:
        """Keep draining; the last view."""
        end = time.monotonic() + seconds
        view = self.look()
        while (left_s := end - time.monotonic()) > 0:
            self._poller.poll(left_s * 1000)
            view = self.look()
        return view


def _shown(view: ProbeView) -> str:
    devices = [(d.index, d.sight.value, d.used_bytes) for d in view.devices]
    return f"{devices}, gaps {[(g.subject, g.kind.value, g.detail) for g in view.gaps]}"


@contextlib.contextmanager
def seated(
    host: SimHost, sampling: SamplingConfig = QUICK, library: str | None = None
) -> Iterator[Seat]:
    """A probe that looks at this host. Children that the host's faults hold are let go at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUWARDEN_SIM_DIR", str(host.folder))
        probe = NvmlProbe(
            NvmlConfig(library=library or str(host.built.library)), sampling, time.monotonic()
        )
        seat = Seat(probe)
        try:
            yield seat
        finally:
            with contextlib.suppress(GpuwardenError):  # the test may have stopped the driver
                host.control("clear_faults")
                seat.until(lambda _: not probe._crew._leavers, "stuck children end by themselves")
            probe.close()


def device_at(view: ProbeView, index: int) -> Device:
    """The GPU (not a slice) that carries this index."""
    (found,) = (d for d in view.devices if d.index == index and d.parent is None)
    return found


def listing_of(view: ProbeView, device: Device) -> Listing | None:
    return next((listing for listing in view.listings if listing.device == device.id), None)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
