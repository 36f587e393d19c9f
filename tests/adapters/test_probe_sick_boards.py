"""What the simulated driver can make ill, as the probe's own calls tell it of the board."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import pytest

from gpuwarden.model.health import DeviceHealth
from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.test_probe_codes import Pass
from tests.sim.sight import until

Board = tuple[SimHost, Pass]


@pytest.fixture(scope="module")
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    """One device of a profile, read in this process (where the library sees one host at a time)."""
    with (
        pytest.MonkeyPatch.context() as patch,
        SimHost(SimOptions(devices=1, profile=request.param)) as host,
    ):
        patch.setenv("GPUWARDEN_SIM_DIR", str(host.folder))
        one = Pass(host)
        yield host, one
        one.close()


def health(board: Board) -> DeviceHealth:
    _, view = board[1].run()
    (device,) = view.devices
    assert device.health is not None
    return device.health


SICK: tuple[tuple[str, str, dict[str, Any], str, object], ...] = (
    ("H100-80", "ecc", {"uncorrected": True, "count": 3}, "errors.ecc_uncorrected_volatile_total", 3),
    ("H100-80", "ecc", {"count": 7}, "errors.ecc_corrected_volatile_total", 7),
    ("H100-80", "ecc", {"count": 0, "sram_threshold": 1}, "setup.sram_ecc_threshold_exceeded", True),
    ("H100-80", "remap", {"pending": 1}, "errors.row_remap_pending", True),
    ("H100-80", "remap", {"failed": 1}, "errors.row_remap_failed", True),
    ("H100-80", "remap", {"uncorrectable": 512}, "errors.row_remaps_uncorrectable_total", 512),
    ("H100-80", "spares", {"none": 2}, "setup.row_remap_banks_none", 2),
    ("T4", "retire", {"double_bit": True}, "setup.retired_pages_double_bit", 1),
    ("T4", "retire", {"count": 2}, "setup.retired_pages_single_bit", 2),
    ("T4", "retire", {"count": 0}, "setup.retired_pages_pending", True),
    ("H100-80", "nvlink", {"link": 17, "up": 0}, "errors.nvlink_down_mask", 1 << 17),
    ("H100-80", "nvlink", {"link": 17, "up": 0}, "errors.nvlink_up_mask", (1 << 17) - 1),
    ("H100-80", "nvlink", {"link": 3, "counter": 0, "count": 5}, "errors.nvlink_replay_errors_total", 5),
    ("H100-80", "nvlink", {"link": 3, "counter": 2, "count": 9}, "errors.nvlink_crc_flit_errors_total", 9),
    ("H100-80", "pcie", {"width": 8}, "setup.pcie_link_width", 8),
    ("H100-80", "pcie", {"width": 8}, "setup.pcie_link_width_max", 16),
    ("H100-80", "pcie", {"replays": 40}, "errors.pcie_replays_total", 40),
    ("H100-80", "pcie", {"fatal": 1}, "errors.pcie_fatal_errors_total", 1),
    ("H100-80", "fabric", {"state": 2}, "setup.fabric_state", 2),
    ("H100-80", "fabric", {"state": 3, "health": 0x9A}, "setup.fabric_health_mask", 0x9A),
    ("H100-80", "modes", {"persistence": 0}, "setup.persistence_enabled", False),
    ("H100-80", "power", {"held_w": 300}, "setup.power_limit_w", 300.0),
    ("H100-80", "power", {"held_w": 300}, "setup.power_limit_set_w", 700.0),
    ("H100-80", "inforom", {"corrupted": 1}, "deep.inforom_corrupted", True),
    ("H100-80", "thermal", {"celsius": 91}, "vitals.temperature_c", 91.0),
    ("H100-80", "thermal", {"reasons": 0x48}, "vitals.clock_event_mask", 0x48),
    ("H100-80", "recovery", {"action": 2}, "vitals.recovery_action", 2),
    ("H100-80", "modes", {"ecc": 0}, "setup.ecc_enabled", False),
)  # fmt: skip


@pytest.mark.parametrize(
    ("board", "command", "arguments", "told", "value"),
    SICK,
    ids=[f"{command}-{n}" for n, (_, command, *_) in enumerate(SICK)],
    indirect=["board"],
)
def test_each_injection_is_seen(
    board: Board, command: str, arguments: dict[str, Any], told: str, value: object
) -> None:
    ask = attrgetter(told)
    board[0].control(command, device=0, **arguments)
    assert until(lambda: ask(health(board)) == value), ask(health(board))


@pytest.mark.parametrize("board", ["H100-80"], indirect=True)
def test_the_time_that_heat_held_the_clocks_down_grows(board: Board) -> None:
    board[0].control("thermal", device=0, reasons=0x48)
    held = attrgetter("vitals.clock_event_hw_thermal_s_total")
    before = held(health(board))
    assert until(lambda: held(health(board)) > before)


@pytest.mark.parametrize("board", ["T4"], indirect=True)
def test_a_board_tells_nothing_of_what_it_does_not_have(board: Board) -> None:
    told = health(board)
    assert told.errors is not None
    assert told.setup is not None
    for absent in (
        told.errors.row_remap_pending,
        told.errors.nvlink_up_mask,
        told.errors.nvlink_replay_errors_total,
        told.setup.fabric_state,
        told.setup.temperature_memory_max_c,
        told.setup.sram_ecc_threshold_exceeded,
    ):
        assert absent is None


@pytest.mark.parametrize("board", ["H100-80"], indirect=True)
def test_the_links_speed_under_load(board: Board) -> None:
    host, _ = board
    assert health(board).setup is not None
    host.start_workload("hold", "--size", "1GiB", devices=[0])

    def generation() -> int | None:
        setup = health(board).setup
        return None if setup is None else setup.pcie_link_generation

    assert until(lambda: generation() == 5)
    host.control("link_speed", device=0, generation=3)
    assert until(lambda: generation() == 3)
    host.control("link_speed", device=0, generation=0)
    assert until(lambda: generation() == 5)
