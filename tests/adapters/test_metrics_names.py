"""The names dashboards and alerts bind to: each is exported, or it stands here why not."""

from __future__ import annotations

import pytest

from gpuwarden.adapters.exposition import Remembered
from gpuwarden.adapters.metrics_page import PageOptions, render
from tests.adapters.test_metrics_page import NOW, full_view, samples

# Metric -> labels beside those of the device (gpu, uuid).
NAMES: dict[str, set[str]] = {
    "gpu_info": {"model", "pci_bus_id"},
    "driver_info": {"driver_version", "nvml_version", "cuda_version"},
    "gpu_utilization_ratio": set(),
    "gpu_memory_activity_ratio": set(),
    "gpu_engine_utilization_ratio": {"engine"},
    "gpu_sm_active_ratio": set(),
    "gpu_sm_occupancy_ratio": set(),
    "gpu_tensor_active_ratio": set(),
    "gpu_dram_active_ratio": set(),
    "gpu_graphics_active_ratio": set(),
    "gpu_pipe_active_ratio": {"pipe"},
    "gpu_memory_total_bytes": set(),
    "gpu_memory_used_bytes": set(),
    "gpu_memory_free_bytes": set(),
    "gpu_memory_reserved_bytes": set(),
    "gpu_memory_unattributed_bytes": set(),
    "gpu_bar1_used_bytes": set(),
    "gpu_temperature_celsius": {"sensor"},
    "gpu_temperature_margin_celsius": set(),
    "gpu_temperature_threshold_celsius": {"kind"},
    "gpu_power_watts": set(),
    "gpu_power_limit_watts": {"kind"},
    "gpu_energy_joules_total": set(),
    "gpu_clock_hertz": {"domain"},
    "gpu_clock_max_hertz": {"domain"},
    "gpu_performance_state": set(),
    "gpu_fan_speed_ratio": {"fan"},
    "gpu_clock_event_active": {"reason"},
    "gpu_clock_event_seconds_total": {"reason"},
    "gpu_pcie_link_generation": {"kind"},
    "gpu_pcie_link_width": {"kind"},
    "gpu_pcie_replays_total": set(),
    "gpu_pcie_errors_total": {"type"},
    "gpu_pcie_bytes_total": {"direction"},
    "gpu_nvlink_up": {"link"},
    "gpu_nvlink_errors_total": {"type"},
    "gpu_nvlink_bytes_total": {"direction"},
    "gpu_fabric_state": set(),
    "gpu_fabric_health_mask": set(),
    "gpu_ecc_enabled": set(),
    "gpu_ecc_errors_total": {"severity", "scope"},
    "gpu_sram_ecc_threshold_exceeded": set(),
    "gpu_row_remaps_total": {"cause"},
    "gpu_row_remap_pending": set(),
    "gpu_row_remap_failed": set(),
    "gpu_row_remap_banks": {"availability"},
    "gpu_retired_pages": {"cause"},
    "gpu_retired_pages_pending": set(),
    "gpu_xid_events_total": {"xid"},
    "gpu_xid_last_timestamp_seconds": {"xid"},
    "gpu_recovery_action": set(),
    "gpu_health_state": {"state"},
    "gpu_persistence_enabled": set(),
    "gpu_mig_enabled": set(),
    "gpu_mig_info": {"parent", "model"},
    "gpu_mig_memory_bytes": {"state"},
    "gpu_processes": {"type"},
    "process_gpu_memory_bytes": {"pid"},
    "process_gpu_sm_ratio": {"pid"},
    "process_gpu_host_cpu_seconds_total": {"pid"},
    "process_gpu_host_rss_bytes": {"pid"},
    "collector_last_success_timestamp_seconds": {"collector"},
    "nvml_errors_total": {"call", "code"},
}

# Told in another place: firmware versions are labels of gpu_info; whether a device could be read is
# gpu_sight; how long a look takes is observe_duration_seconds, of all devices together.
# The last Xid as a gauge hides every one before it: there is none. ECC by location and bit error rates
# of single links are not read.


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_exported_with_its_labels(name: str) -> None:
    options = PageOptions(process_top=3)
    text = render(full_view(), now=NOW, options=options, remembered=Remembered()).decode()
    found = [s for s in samples(text) if s.name == f"gpuwarden_{name}"]
    assert found, f"{name} is not on the page"
    for sample in found:
        assert NAMES[name] <= sample.labels.keys()
