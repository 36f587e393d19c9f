"""Who keeps a device's cores busy, as the driver tells of processes: from the simulated driver to the view."""

from __future__ import annotations

from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.probe_seat import seated
from tests.contract.seat import device_at


def test_a_busy_process_is_told_with_its_share_and_an_idle_device_is_not_told() -> None:
    with SimHost(SimOptions(devices=2, profile="H100-80")) as host, seated(host) as seat:
        view = seat.until_seen(2)
        busy, idle = device_at(view, 0).id, device_at(view, 1).id
        worker = host.start_workload("hold", "--size", "1GiB", "--load", "400", devices=[0])
        view = seat.until(
            lambda v: v.utilization.get(busy, (0.0, {}))[1].get(worker.pid, 0.0) > 0.2,
            "the share of its cores",
        )
        at, ratios = view.utilization[busy]
        assert at > 0.0
        assert set(ratios) == {worker.pid}
        assert ratios[worker.pid] <= 1.0
        assert idle not in view.utilization
