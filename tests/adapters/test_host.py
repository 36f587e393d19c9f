"""The host's numbers: read when due, told again in between, absent where they cannot be read."""

from pathlib import Path

import pytest

from gpuwarden.adapters.host import PsutilHost
from gpuwarden.errors import Unavailable


def test_this_host(tmp_path: Path) -> None:
    host = PsutilHost(5.0, tmp_path)
    first = host.sample(100.0)
    assert first.at == 100.0
    assert first.cpu_ratio is None  # a share needs two looks
    assert first.memory_total_bytes is not None
    assert first.memory_available_bytes is not None
    assert 0 < first.memory_available_bytes <= first.memory_total_bytes
    assert first.filesystem_free_ratio is not None
    assert 0 <= first.filesystem_free_ratio <= 1
    assert host.sample(104.9) is first
    second = host.sample(105.0)
    assert second.at == 105.0
    assert second.cpu_ratio is not None
    assert 0 <= second.cpu_ratio <= 1


def test_loopback_traffic_is_nobodys_network(tmp_path: Path) -> None:
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    outside = {
        line.partition(":")[0].strip(): int(line.partition(":")[2].split()[0]) for line in lines
    }
    loopback = outside.pop("lo", 0)
    told = PsutilHost(5.0, tmp_path).sample(0.0).network_receive_bytes_total
    assert told is not None
    assert told >= sum(outside.values())
    assert loopback == 0 or told < sum(outside.values()) + loopback


def test_pressure_as_the_kernel_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "pressure"
    folder.mkdir()
    (folder / "memory").write_text(
        "some avg10=1.53 avg60=0.87 avg300=0.20 total=1234567\n"
        "full avg10=0.76 avg60=0.43 avg300=0.10 total=617283\n"
    )
    (folder / "cpu").write_text("some avg10=12.00 avg60=0.00 avg300=0.00 total=1\n")
    (folder / "io").write_bytes(b"full avg10=nonsense\n\xff")
    sample = PsutilHost(5.0, tmp_path, proc=tmp_path).sample(0.0)
    assert (sample.memory_some_avg10, sample.memory_full_avg10) == (1.53, 0.76)
    assert sample.cpu_some_avg10 == 12.0
    assert sample.io_full_avg10 is None


def test_a_kernel_without_pressure_and_a_state_folder_that_is_gone(tmp_path: Path) -> None:
    sample = PsutilHost(5.0, tmp_path / "gone", proc=tmp_path).sample(0.0)
    assert sample.memory_full_avg10 is None
    assert sample.filesystem_free_ratio is None
    assert sample.memory_total_bytes is not None


def test_boot_id(tmp_path: Path) -> None:
    assert len(PsutilHost(5.0, tmp_path).boot_id()) == 36
    with pytest.raises(Unavailable, match="boot_id"):
        PsutilHost(5.0, tmp_path, proc=tmp_path).boot_id()
