"""What GPM measures, on the simulated library: whole boards, slices, boards that have none."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gpuwarden.adapters.probe import decode, inventory, layout
from gpuwarden.adapters.probe.gpm import Gpm
from gpuwarden.adapters.probe.library import Handle, Library, Marks
from gpuwarden.adapters.probe.specs import GPM_METRICS
from gpuwarden.sim.host import SimHost, SimOptions
from tests.sim.sight import until


@contextmanager
def opened(host: SimHost) -> Iterator[tuple[Gpm, list[Handle]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUWARDEN_SIM_DIR", str(host.folder))
        library = Library(str(host.built.library))
        marks = Marks(mmap.mmap(-1, layout.SHARED_BYTES), layout.SLOW)
        assert inventory.start(library, marks) == layout.SUCCESS
        code, handles = inventory.devices(library, marks, None, frozenset())
        assert code == layout.SUCCESS
        yield Gpm(library, marks, handles), handles
        library.call(marks, -1, "nvmlShutdown")


def measured(gpm: Gpm, ordinal: int, host: SimHost) -> dict[str, float | None]:
    """Between two looks, a few ticks of the simulated device apart."""
    gpm.read(ordinal)
    tick = host.control("info")["tick"]
    assert until(lambda: host.control("info")["tick"] > tick + 6)
    return decode.gpm(gpm.read(ordinal))[0]


def test_the_ratio_is_of_the_time_between_two_looks() -> None:
    with SimHost(SimOptions(profile="H100-80")) as host, opened(host) as (gpm, _):
        assert gpm.read(0) == b"", "one look has nothing to compare with"
        host.start_workload("hold", "--size", "1GiB", "--load", "500")

        def is_half_busy() -> bool:
            values = measured(gpm, 0, host)
            assert set(values) == {m.key for m in GPM_METRICS}
            return 0.4 < (values["sm_active_ratio"] or 0) < 0.6

        assert until(is_half_busy)


def test_a_slice_is_measured_apart_and_its_gpu_is_not() -> None:
    options = SimOptions(profile="H100-80", mig=(0,))
    with SimHost(options) as host, opened(host) as (gpm, handles):
        slices = [n for n, h in enumerate(handles) if h.flags & layout.IS_MIG_SLICE]
        (whole,) = [n for n, h in enumerate(handles) if h.flags & layout.IS_MIG_PARENT]
        busy, idle = slices[0], slices[-1]
        uuid = handles[busy].uuid.decode()
        host.start_workload("hold", "--size", "1GiB", "--load", "300", devices=[uuid])
        assert until(lambda: (measured(gpm, busy, host)["sm_active_ratio"] or 0) > 0.1)
        assert measured(gpm, idle, host)["sm_active_ratio"] == 0.0
        assert (gpm.read(whole), gpm.read(whole)) == (b"", b"")


def test_a_board_before_hopper_is_asked_once() -> None:
    with SimHost(SimOptions(profile="A100-40")) as host, opened(host) as (gpm, _):
        assert (gpm.read(0), gpm.read(0), gpm.read(0)) == (b"", b"", b"")
        calls = host.control("counters")["calls"]
        assert calls["nvmlGpmQueryDeviceSupport"] == 1
        assert "nvmlGpmSampleGet" not in calls
