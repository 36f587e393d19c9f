"""A probe and its loop, with patience: waits for what must come, never for a time.

Standard library and the probe alone: scripts/gpu-check uses it where nothing is installed.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from gpuwarden.adapters.probe.parent import NvmlProbe
from gpuwarden.model.device import Device, DriverEvent, Listing, Sight
from gpuwarden.model.snapshot import Gap
from gpuwarden.model.views import ProbeView

PATIENCE_S = 15.0


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

    def until(
        self,
        claim: Callable[[ProbeView], object],
        what: str = "",
        patience_s: float = PATIENCE_S,
    ) -> ProbeView:
        """The first view of which ``claim`` holds; AssertionError with the last one when none comes."""
        end = time.monotonic() + patience_s
        view = self.look()
        while not claim(view):
            left_s = end - time.monotonic()
            assert left_s > 0, f"never came: {what or claim}; last {shown(view)}"
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
            lambda _: (
                sum(1 for key in self.probe._book.event_codes if key.startswith("events GPU-"))
                >= devices
            ),
            "events",
        )

    def for_a_while(self, seconds: float) -> ProbeView:
        """Keep draining; the last view."""
        end = time.monotonic() + seconds
        view = self.look()
        while (left_s := end - time.monotonic()) > 0:
            self._poller.poll(left_s * 1000)
            view = self.look()
        return view


def shown(view: ProbeView) -> str:
    devices = [(d.index, d.sight.value, d.used_bytes) for d in view.devices]
    return f"{devices}, gaps {[(g.subject, g.kind.value, g.detail) for g in view.gaps]}"


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
