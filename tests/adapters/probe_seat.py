"""A probe on a simulated host."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from gpuwarden.adapters.probe.parent import NvmlProbe
from gpuwarden.config import NvmlConfig, SamplingConfig
from gpuwarden.errors import GpuwardenError
from gpuwarden.sim.host import SimHost
from tests.contract.seat import Seat

QUICK = SamplingConfig(fast_base_s=0.05, list_every_s=0.5, fast_deadline_s=0.3, slow_deadline_s=0.6)
"""Deadlines short enough that a test of a hang takes a second."""

START_S = 1.0


@contextlib.contextmanager
def seated(
    host: SimHost,
    sampling: SamplingConfig = QUICK,
    library: str | None = None,
    process_top: int = 0,
    *,
    has_clock_events: bool = False,
) -> Iterator[Seat]:
    """A probe that looks at this host. Children that the host's faults hold are let go at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUWARDEN_SIM_DIR", str(host.folder))
        probe = NvmlProbe(
            NvmlConfig(library=library or str(host.built.library)),
            sampling,
            time.monotonic(),
            process_top=process_top,
            start_deadline_s=START_S,
            init_deadline_s=START_S,
            has_clock_events=has_clock_events,
        )
        seat = Seat(probe)
        try:
            yield seat
        finally:
            with contextlib.suppress(GpuwardenError):  # the test may have stopped the driver
                host.control("clear_faults")
                seat.until(lambda _: not probe._crew._leavers, "stuck children end by themselves")
            probe.close()
