"""The probe over the simulated driver: what it tells of healthy, hung, lost and moved devices."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from gpuwarden.config import SamplingConfig
from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.snapshot import GapKind
from gpuwarden.model.views import ProbeView
from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.probe_seat import QUICK, seated
from tests.contract.seat import Seat, device_at, is_alive, listing_of

GIB = 2**30
MEMORY = "nvmlDeviceGetMemoryInfo_v2"
LIST = "nvmlDeviceGetComputeRunningProcesses_v3"


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=3, profile="H100-80")) as running:
        yield running


def test_healthy_devices_are_seen_with_size_and_identity(host: SimHost) -> None:
    with seated(host) as seat:
        view = seat.until_seen(3)
        assert [d.index for d in view.devices] == [0, 1, 2]
        assert len({d.id for d in view.devices}) == 3
        for device in view.devices:
            assert device.id.startswith("GPU-")
            assert device.used_bytes == 0
            assert device.total_bytes > 70 * GIB
            assert 0 < device.reserved_bytes < 2 * GIB
            assert device.pci
            assert device.name
        assert view.epoch == 1
        assert not view.gaps
        assert seat.probe.driver_version
        assert seat.probe.nvml_version


def test_a_size_at_rest_stays_fresh_without_being_sent_again(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        frames_before = seat.probe._book.counters["frames"]
        view = seat.for_a_while(0.8)
        sent = seat.probe._book.counters["frames"] - frames_before
        assert all(d.sight is Sight.OK for d in view.devices)
        assert all(d.at is not None and time.monotonic() - d.at < 0.5 for d in view.devices)
        assert sent < 40, "a frame a pass would be 16 memory frames more"


def test_growth_is_listed_in_the_same_breath_and_exit_gives_the_bytes_back(host: SimHost) -> None:
    sampling = SamplingConfig(list_every_s=60.0)  # the regular list cannot be the one that is seen
    with seated(host, sampling) as seat:
        view = seat.until_seen(3)
        first = device_at(view, 1).id
        seat.until(lambda v: len(v.listings) == 3)
        workload = host.start_workload("hold", "--size", "2GiB", devices=[1])
        view = seat.until(
            lambda v: (listing := listing_of(v, device_at(v, 1))) and listing.rows,
            "a list with rows",
        )
        listing = listing_of(view, device_at(view, 1))
        assert listing is not None
        (row,) = listing.rows
        assert (row.raw_pid, row.device, row.pid) == (workload.pid, first, None)
        assert row.used_bytes == 2 * GIB
        assert listing.used_bytes == 2 * GIB
        workload.kill()
        seat.until(lambda v: device_at(v, 1).used_bytes == 0, "bytes back")
        seat.until(
            lambda v: (listing := listing_of(v, device_at(v, 1))) and not listing.rows, "no rows"
        )


def test_a_small_change_is_listed_only_when_the_trigger_says_so(host: SimHost) -> None:
    sampling = SamplingConfig(list_every_s=60.0, list_trigger_bytes=GIB)
    with seated(host, sampling) as seat:
        view = seat.until_seen(3)
        first, second = device_at(view, 0), device_at(view, 1)
        seat.until(lambda v: len(v.listings) == 3)
        seat.probe.steer(
            ProbePlan(period_s=0.02, list_trigger_bytes=((first.id, 2**20),), list_every_s=60.0)
        )
        for index in (1, 0):
            host.start_workload("hold", "--size", "64MiB", devices=[index])
        view = seat.until(lambda v: (x := listing_of(v, first)) and x.rows, "the list of the first")
        seat.until(lambda v: device_at(v, 1).used_bytes == 64 * 2**20)
        view = seat.for_a_while(0.4)
        unlisted = listing_of(view, second)
        assert unlisted is not None
        assert not unlisted.rows


def _next_list(seat: Seat, device: Device, after: float) -> float:
    """When the device was listed for the first time after that."""
    view = seat.until(lambda v: (x := listing_of(v, device)) and x.at > after)
    found = listing_of(view, device)
    assert found is not None
    return found.at


def _is_blind(index: int) -> Callable[[ProbeView], bool]:
    return lambda view: device_at(view, index).sight is Sight.BLIND


def test_a_list_can_be_asked_for_and_keeps_its_distance(host: SimHost) -> None:
    sampling = SamplingConfig(list_every_s=60.0)
    with seated(host, sampling) as seat:
        view = seat.until_seen(3)
        device = device_at(view, 2)
        seat.until(lambda v: listing_of(v, device))
        times = []
        for _ in range(4):
            known = listing_of(seat.look(), device)
            assert known is not None
            seat.probe.steer(
                ProbePlan(period_s=0.02, list_now=(device.id,), list_every_s=60.0, list_gap_s=0.2)
            )
            times.append(_next_list(seat, device, known.at))
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps) >= 0.199


def test_the_fastest_slow_facts_are_read_as_often_as_the_settings_say(host: SimHost) -> None:
    with seated(host, SamplingConfig(slow_every_s=0.5)) as seat:
        seat.until_seen(3)

        def count(symbol: str) -> int:
            return int(host.control("counters")["calls"].get(symbol, 0))

        seat.until(lambda _: count("nvmlDeviceGetPowerUsage") >= 5 * 3, "five readings")
        assert count("nvmlDeviceGetPcieReplayCounter") <= 3, "its class of 15 s came once"


@pytest.mark.parametrize(
    ("symbol", "what"),
    [
        (MEMORY, "the fast call"),
        (LIST, "a list"),
        ("nvmlDeviceGetUtilizationRates", "a slow call"),
        ("nvmlDeviceGetFieldValues", "field values"),
    ],
)
def test_a_hung_call_blinds_its_device_alone(host: SimHost, symbol: str, what: str) -> None:
    with seated(host) as seat:
        view = seat.until_seen(3)
        hung = device_at(view, 1)
        first_child = seat.probe.children()[0]
        host.control("hang", function=symbol, device=1)
        view = seat.until(
            lambda v: (
                device_at(v, 1).sight is Sight.BLIND and any(g.kind is GapKind.HUNG for g in v.gaps)
            ),
            f"blind for {what}",
        )
        assert device_at(view, 1).used_bytes is None
        (gap,) = (g for g in view.gaps if g.kind is GapKind.HUNG)
        assert gap.subject == hung.id
        assert symbol in gap.detail
        at = time.monotonic()
        view = seat.until(
            lambda v: all((device_at(v, n).at or 0) > at for n in (0, 2)), "the others go on"
        )
        assert seat.ever_blind == {hung.id}, "a healthy device was withdrawn as well"
        assert view.epoch == 1
        assert is_alive(first_child), "a child that is stuck in the driver was killed"
        host.control("unhang", function=symbol, device=1)
        view = seat.until_seen(3)
        assert view.epoch == 1
        seat.until(lambda _: not is_alive(first_child), "the stuck child ends by itself")


def test_two_devices_hang_and_the_third_is_still_seen(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        for index in (0, 1):
            host.control("hang", function=MEMORY, device=index)
        seat.until(lambda v: all(device_at(v, n).sight is Sight.BLIND for n in (0, 1)))
        at = time.monotonic()
        seat.until(lambda v: (device_at(v, 2).at or 0) > at + 1.0, "the third goes on")
        assert seat.probe.counters()["probe_left_behind", ""] == 2
        host.control("clear_faults")
        seat.until_seen(3)


def test_at_most_two_children_are_left_behind_then_nvml_is_off_and_comes_back(
    host: SimHost,
) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        for index in (0, 1, 2):
            host.control("hang", function=MEMORY, device=index)
            seat.until(_is_blind(index))
        view = seat.until(
            lambda v: any(g.subject == "driver" and g.kind is GapKind.HUNG for g in v.gaps),
            "NVML is off",
        )
        assert all(d.sight is Sight.BLIND and d.used_bytes is None for d in view.devices)
        seat.for_a_while(1.5)
        assert seat.probe.counters()["probe_left_behind", ""] == 2
        host.control("clear_faults")
        seat.until_seen(3)


def test_a_slow_call_within_its_deadline_blinds_nobody(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        host.control("slow", function="nvmlDeviceGetUtilizationRates", device=1, ms=200)
        host.control("slow", function=MEMORY, device=2, ms=50)
        seat.for_a_while(1.5)
        assert not seat.ever_blind
        assert seat.probe.counters()["probe_restarts", ""] == 0


def test_a_lost_device_is_lost_and_the_others_are_seen(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        view = seat.until_registered(3)
        lost = device_at(view, 1)
        host.control("lose", device=1)
        view = seat.until(lambda v: device_at(v, 1).sight is Sight.LOST)
        assert device_at(view, 1).used_bytes is None
        assert any(g.subject == lost.id and g.kind is GapKind.GONE for g in view.gaps)
        seat.until(lambda _: any(e.kind == "xid" and e.code == 79 for e in seat.events), "Xid 79")
        seat.for_a_while(0.5)
        assert seat.ever_blind == {lost.id}
        host.control("restore", device=1)
        seat.until_seen(3)


def test_a_device_that_was_lost_from_the_start_is_a_gap_not_a_crash(host: SimHost) -> None:
    host.control("lose", device=1)
    with seated(host) as seat:
        view = seat.until_seen(2)
        assert [d.index for d in view.devices] == [0, 2]
        assert any("index 1" in g.detail and "GPU_IS_LOST" in g.detail for g in seat.gaps)
        host.control("restore", device=1)
        seat.until_seen(3)


def test_events_arrive_with_device_and_number(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        view = seat.until_registered(3)
        host.control("xid", device=2, xid=31, pid=os.getpid())
        host.control("recovery", device=0, action=1)
        seat.until(lambda _: {"xid", "recovery-action"} <= {e.kind for e in seat.events})
        (xid,) = (e for e in seat.events if e.kind == "xid" and e.code == 31)
        assert xid.device == device_at(view, 2).id
        assert (xid.source, xid.pid) == ("nvml", None)
        seat.until(lambda v: device_at(v, 0).recovery_action == 1, "field 230")


def test_an_index_shift_moves_labels_not_identities(host: SimHost) -> None:
    with seated(host) as seat:
        host.start_workload("hold", "--size", "3GiB", devices=[0])
        before = seat.until(lambda v: any(d.used_bytes == 3 * GIB for d in v.devices))
        holder = next(d for d in before.devices if d.used_bytes == 3 * GIB)
        host.control("shift", by=1)
        after = seat.until(lambda v: v.epoch == 2 and len(v.devices) == 3)
        after = seat.until_seen(3)
        assert {d.id for d in after.devices} == {d.id for d in before.devices}
        moved = next(d for d in after.devices if d.id == holder.id)
        assert moved.index != holder.index
        assert moved.used_bytes == 3 * GIB
        assert not any(d.sight is Sight.LOST for d in after.devices)


def test_a_driver_reload_is_a_new_epoch_and_nobody_is_lost(host: SimHost) -> None:
    with seated(host) as seat:
        before = seat.until_seen(3)
        host.control("reload", away_ms=600)
        saw_lost: list[str] = []

        def is_back(view: ProbeView) -> bool:
            saw_lost.extend(d.id for d in view.devices if d.sight is Sight.LOST)
            return view.epoch > before.epoch and all(d.sight is Sight.OK for d in view.devices)

        after = seat.until(is_back, "a new epoch")
        assert not saw_lost
        assert {d.id for d in after.devices} == {d.id for d in before.devices}
        assert any(g.subject == "driver" for g in seat.gaps), "nobody was told"


def test_a_killed_child_is_followed_by_another(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        (child,) = seat.probe.children()
        os.kill(child, signal.SIGKILL)
        seat.until(lambda _: seat.probe.children() and seat.probe.children()[0] != child)
        at = time.monotonic()
        view = seat.until(lambda v: all((d.at or 0) > at for d in v.devices))
        assert view.epoch == 1
        assert seat.probe.counters()["probe_restarts", ""] == 1
        assert any("its probe child ended" in gap.detail for gap in seat.gaps)


def test_a_stopped_child_is_noticed_though_it_cannot_say_so(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        # Stopped amid its first calls it is a call that does not return, which is another story.
        until = time.monotonic() + 1.0
        seat.until(lambda _: time.monotonic() > until, "at rest")
        (child,) = seat.probe.children()
        os.kill(child, signal.SIGSTOP)
        try:
            view = seat.until(lambda v: all(d.sight is Sight.BLIND for d in v.devices))
            assert all(d.used_bytes is None for d in view.devices)
        finally:
            os.kill(child, signal.SIGCONT)
        seat.until_seen(3)


def test_a_missing_library_is_a_gap_that_says_what_to_do(host: SimHost) -> None:
    with seated(host, library="/nonexistent/libnvidia-ml.so.1") as seat:
        view = seat.until(lambda v: v.gaps)
        (gap,) = view.gaps
        assert (gap.source, gap.subject) == ("nvml", "driver")
        assert "libnvidia-ml.so.1" in gap.detail
        assert not view.devices


def test_a_driver_that_is_not_loaded_is_a_gap_and_is_tried_again(host: SimHost) -> None:
    host.control("error", function="nvmlInitWithFlags", code=9)
    with seated(host) as seat:
        view = seat.until(lambda v: v.gaps)
        assert "DRIVER_NOT_LOADED" in view.gaps[0].detail
        assert "modprobe" in view.gaps[0].detail
        host.control("error", function="nvmlInitWithFlags", code=0)
        view = seat.until_seen(3)
        assert not view.gaps


def test_a_hung_initialisation_leaves_the_loop_alone(host: SimHost) -> None:
    host.control("hang", function="nvmlInitWithFlags")
    with seated(host) as seat:
        began = time.monotonic()
        view = seat.look()
        assert not view.devices
        assert time.monotonic() - began < 5.0, "drain waited for the driver"
        host.control("unhang", function="nvmlInitWithFlags")
        seat.until_seen(3)


def test_slices_are_devices_of_their_own() -> None:
    options = SimOptions(devices=2, profile="A100-40", mig=(0,))
    with SimHost(options) as host, seated(host) as seat:
        view = seat.until(lambda v: any(d.parent for d in v.devices) and v.listings)
        gpu = next(d for d in view.devices if d.is_mig_parent)
        slices = [d for d in view.devices if d.parent == gpu.id]
        assert slices
        assert all(d.id.startswith("MIG-") and d.total_bytes < gpu.total_bytes for d in slices)
        assert {d.index for d in slices} == {gpu.index}
        view = seat.until(lambda v: {x.device for x in v.listings} >= {d.id for d in slices})
        assert gpu.id not in {x.device for x in view.listings}


def test_slow_facts_come_in_base_units(host: SimHost) -> None:
    host.start_workload("hold", "--size", "1GiB", devices=[0])
    with seated(host) as seat:
        seat.until_seen(3)
        seat.until(
            lambda v: all(
                {"temperature_c", "ecc_enabled", "row_remap_pending", "serial"}
                <= seat.probe.details.get(d.id, {}).keys()
                for d in v.devices
            ),
            "facts of every class",
        )
        facts = seat.probe.details[device_at(seat.look(), 0).id]
        assert 1e8 < float(facts["sm_clock_hz"] or 0) < 1e10
        assert 0 <= float(facts["utilization_ratio"] or 0) <= 1
        assert 10 < float(facts["power_w"] or 0) < 2000
        assert facts["fan_ratio:0"] is None, "a board without fans has no fan speed, not 0"
        assert facts["nvlink_up:17"] == 1.0
        assert facts["processes:compute"] == 1.0
        assert facts["power_limit_max_w"] == 700.0
        assert not any(key.startswith("process_") for key in facts), "only when asked for"


def test_a_slice_does_not_repeat_what_its_gpu_tells() -> None:
    """Power, temperature and errors summed over all series count each board once."""
    options = SimOptions(devices=1, profile="H100-80", mig=(0,))
    with SimHost(options) as host, seated(host) as seat:
        view = seat.until(
            lambda v: (
                len(v.devices) == 5
                and {d.id for d in v.devices} <= seat.probe.details.keys()
                and any("power_w" in facts for facts in seat.probe.details.values())
            ),
            "facts of all",
        )
        slices = {d.id for d in view.devices if d.parent is not None}
        (gpu,) = {d.id for d in view.devices} - slices
        assert "power_w" in seat.probe.details[gpu]
        for each in slices:
            own = {key.partition(":")[0] for key in seat.probe.details[each]}
            assert own <= {"bar1_total_bytes", "bar1_used_bytes", "processes", "collected_at"}


def test_the_largest_processes_are_told_when_asked_for(host: SimHost) -> None:
    holders = [host.start_workload("hold", "--size", f"{n}GiB", devices=[0]) for n in (1, 3, 2)]
    with seated(host, process_top=2) as seat:
        device = device_at(seat.until_seen(3), 0).id
        wanted = {f"process_memory_bytes:{holders[1].pid}": 3 * GIB}
        wanted[f"process_memory_bytes:{holders[2].pid}"] = 2 * GIB

        def told() -> dict[str, object]:
            facts = seat.probe.details.get(device, {})
            return {k: v for k, v in facts.items() if k.startswith("process_memory_bytes")}

        seat.until(lambda _: told() == wanted, "the two largest")


def test_facts_of_a_device_that_is_not_seen_are_withdrawn(host: SimHost) -> None:
    with seated(host, QUICK) as seat:
        view = seat.until_seen(3)
        device = device_at(view, 0).id
        seat.until(lambda _: device in seat.probe.details)
        told = seat.probe.details
        host.control("lose", device=0)
        seat.until(lambda v: device_at(v, 0).sight is Sight.LOST)
        assert device not in seat.probe.details
        assert device in told  # others still read what they were given


def test_closing_leaves_no_child(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        children = seat.probe.children()
    assert not any(is_alive(child) for child in children)


def test_a_child_is_small(host: SimHost) -> None:
    with seated(host) as seat:
        seat.until_seen(3)
        seat.until(lambda v: len(v.listings) == 3)
        (child,) = seat.probe.children()
        with open(f"/proc/{child}/status", encoding="ascii") as file:
            (line,) = (line for line in file if line.startswith("VmRSS:"))
        assert int(line.split()[1]) < 15 * 1024, "an import too many"
