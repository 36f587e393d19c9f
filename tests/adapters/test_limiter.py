"""The preventive limiters: the driver's own over a simulated driver and real cgroups, MPS, none."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.limiter import NoLimiter, ProbedLimiter, choose_limiter
from gpuwarden.adapters.limiter_mps import MpsPinned
from gpuwarden.adapters.limiter_nvml import NvmlMemoryLimits
from gpuwarden.config import Config, NvmlConfig
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import CgroupId, DeviceId, Pid, TenantId
from gpuwarden.sim.host import SimHost, SimOptions
from tests.adapters.probe_seat import seated
from tests.adapters.trees import CGROUP_ROOT, identity, join, real_group, real_hierarchies
from tests.contract.seat import Seat

GIB = 2**30
TENANT = TenantId("docker:" + "a" * 64)
DEVICE = DeviceId("GPU-1")


def target_in(path: str, *, inode: int | None = None, hierarchy: str = "") -> Target:
    directory = CGROUP_ROOT / tree() / path.lstrip("/")
    made = directory.stat().st_ino if inode is None else inode
    cgroup = CgroupId(path=path, inode=made, hierarchy=hierarchy)
    return Target(tenant=TENANT, runtime="docker", cgroup=cgroup)


def tree() -> str:
    """Folder of the v2 tree below the cgroup root."""
    names = [name for name in real_hierarchies() if identity(name) == ""]
    if not names:
        pytest.skip("root: no cgroup v2 tree that we may make groups in")
    return names[0]


@pytest.fixture
def group() -> Iterator[str]:
    with real_group(tree()) as path:
        yield path


@pytest.fixture
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=2, profile="H100-80")) as running:
        yield running


@pytest.fixture
def seat(host: SimHost) -> Iterator[Seat]:
    with seated(host) as one:
        one.until_seen(2)
        yield one


def first(seat: Seat) -> DeviceId:
    return seat.look().devices[0].id


@pytest.mark.root
class TestDriver:
    """nvml-memory-limits."""

    def test_a_limit_holds_is_read_back_and_is_lifted(
        self, group: str, host: SimHost, seat: Seat
    ) -> None:
        limiter, device, target = NvmlMemoryLimits(seat.probe), first(seat), target_in(group)
        limiter.check()
        assert limiter.read(target, device).hard_bytes is None
        limiter.set(target, device, GIB, 2 * GIB)
        holder = host.start_workload(
            "hog", "--size", "4GiB", "--rate", "8GiB/s", "--start-after-ms", "200", devices=[0]
        )
        join(holder.pid, group, tree())
        seat.until(lambda v: (v.devices[0].used_bytes or 0) > GIB)
        seat.for_a_while(0.6)
        reading = limiter.read(target, device)
        assert (reading.hard_bytes, reading.backend) == (2 * GIB, "nvml-memory-limits")
        assert reading.used_bytes is not None
        assert GIB < reading.used_bytes <= 2 * GIB
        assert (seat.look().devices[0].used_bytes or 0) <= 2 * GIB
        limiter.clear(target, device)
        assert limiter.read(target, device).hard_bytes is None

    def test_the_soft_limit_is_zeroed_by_itself_before_the_hard_one_goes(
        self, group: str, seat: Seat
    ) -> None:
        said: list[tuple[int, int, int]] = []

        class Spy:
            """The probe's channel, written down."""

            limitable = seat.probe.limitable

            def ask_limits(
                self, operation: int, device: DeviceId, path: str, soft: int = 0, hard: int = 0
            ) -> tuple[int, int, int, int]:
                said.append((operation, soft, hard))
                return seat.probe.ask_limits(operation, device, path, soft, hard)

        limiter, device, target = NvmlMemoryLimits(Spy()), first(seat), target_in(group)
        limiter.set(target, device, GIB, 2 * GIB)
        said.clear()
        limiter.clear(target, device)
        sets = [(soft, hard) for operation, soft, hard in said if operation == 1]
        assert sets == [(0, 2 * GIB), (0, 2**64 - 1)]

    def test_a_soft_limit_above_the_hard_one_is_brought_down_to_it(
        self, group: str, seat: Seat
    ) -> None:
        limiter, device, target = NvmlMemoryLimits(seat.probe), first(seat), target_in(group)
        limiter.set(target, device, 4 * GIB, 2 * GIB)
        assert limiter.read(target, device).hard_bytes == 2 * GIB

    def test_not_supported(self, group: str, host: SimHost, seat: Seat) -> None:
        host.control("limit_mode", mode="not-supported")
        limiter, device, target = NvmlMemoryLimits(seat.probe), first(seat), target_in(group)
        for call in (
            limiter.check,
            lambda: limiter.set(target, device, GIB, GIB),
            lambda: limiter.read(target, device),
            lambda: limiter.clear(target, device),
        ):
            with pytest.raises(Unsupported, match="NOT_SUPPORTED"):
                call()

    def test_no_permission_is_not_taken_for_no_limit(
        self, group: str, host: SimHost, seat: Seat
    ) -> None:
        host.control("limit_mode", mode="no-permission")
        limiter, device, target = NvmlMemoryLimits(seat.probe), first(seat), target_in(group)
        with pytest.raises(Unavailable, match="NO_PERMISSION"):
            limiter.set(target, device, GIB, GIB)
        with pytest.raises(Unavailable, match="NO_PERMISSION"):
            limiter.read(target, device)
        host.control("limit_mode", mode="enforced")
        limiter.set(target, device, GIB, GIB)
        assert limiter.read(target, device).hard_bytes == GIB

    def test_a_limit_that_is_forgotten_is_noticed_at_once_and_later(
        self, group: str, host: SimHost, seat: Seat
    ) -> None:
        limiter, device, target = NvmlMemoryLimits(seat.probe), first(seat), target_in(group)
        limiter.set(target, device, 0, GIB)
        host.control("limit_mode", mode="forgotten")
        assert limiter.read(target, device).hard_bytes is None
        with pytest.raises(Unavailable, match="shows another"):
            limiter.set(target, device, 0, GIB)

    def test_a_limit_without_effect_shows_more_use_than_limit(
        self, group: str, host: SimHost, seat: Seat
    ) -> None:
        host.control("limit_mode", mode="no-effect")
        limiter, device, target = NvmlMemoryLimits(seat.probe), first(seat), target_in(group)
        limiter.set(target, device, 0, GIB)
        holder = host.start_workload(
            "hog", "--size", "2GiB", "--rate", "8GiB/s", "--start-after-ms", "200", devices=[0]
        )
        join(holder.pid, group, tree())
        seat.until(lambda v: v.devices[0].used_bytes == 2 * GIB)
        reading = limiter.read(target, device)
        assert reading.hard_bytes == GIB
        assert reading.used_bytes == 2 * GIB

    def test_a_driver_that_hangs_costs_the_deadline_only(
        self, group: str, host: SimHost, seat: Seat
    ) -> None:
        limiter, device, target = NvmlMemoryLimits(seat.probe), first(seat), target_in(group)
        host.control("hang", function="nvmlDeviceSetMemoryLimits_v1", device=0)
        with pytest.raises(Unavailable, match="within"):
            limiter.set(target, device, 0, GIB)
        host.control("clear_faults")
        seat.until_seen(2)
        limiter.set(target, device, 0, GIB)

    def test_another_group_of_the_same_name_is_left_alone(self, group: str, seat: Seat) -> None:
        limiter, device = NvmlMemoryLimits(seat.probe), first(seat)
        target = target_in(group, inode=target_in(group).cgroup.inode + 1)  # type: ignore[union-attr]
        with pytest.raises(Refused, match="another group"):
            limiter.set(target, device, 0, GIB)
        gone = target_in("/gpuwarden-nothing-here", inode=7)
        with pytest.raises(Refused, match="gone"):
            limiter.clear(gone, device)
        with pytest.raises(Refused, match="no group below"):
            limiter.set(target_in("/../..", inode=1), device, 0, GIB)

    def test_a_v1_group_is_not_limited(self, seat: Seat) -> None:
        limiter, device = NvmlMemoryLimits(seat.probe), first(seat)
        with pytest.raises(Unsupported, match="v2"):
            limiter.set(target_in("/x", inode=1, hierarchy="freezer"), device, 0, GIB)

    def test_auto_finds_it(self, seat: Seat) -> None:
        limiter = choose_limiter(Config(), seat.probe)
        assert isinstance(limiter, ProbedLimiter)
        assert limiter.wait_settled(10.0)
        assert limiter.name == "nvml-memory-limits"


def test_a_host_without_v2_says_so(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "cgroup.procs").touch()
    with pytest.raises(Unsupported, match="cgroup v2"):
        NvmlMemoryLimits(NobodyHome(), str(tmp_path))


class NobodyHome:
    """A probe that sees nothing."""

    def limitable(self) -> tuple[DeviceId, ...]:
        return ()

    def ask_limits(
        self, operation: int, device: DeviceId, path: str, soft: int = 0, hard: int = 0
    ) -> tuple[int, int, int, int]:
        raise Unavailable("nobody is here")


def test_none_is_an_answer_with_a_reason() -> None:
    limiter = choose_limiter(Config(nvml=NvmlConfig(limiter="none")), NobodyHome())
    assert isinstance(limiter, NoLimiter)
    assert limiter.name == "none"
    with pytest.raises(Unsupported, match=r"nvml\.limiter"):
        limiter.read(Target(tenant=TENANT, runtime="docker"), DEVICE)


def test_mps_without_its_program_ends_as_none() -> None:
    limiter = choose_limiter(Config(nvml=NvmlConfig(limiter="mps-pinned")), NobodyHome())
    assert isinstance(limiter, ProbedLimiter)
    assert limiter.wait_settled(10.0)
    assert limiter.name == "none"
    assert "nvidia-cuda-mps-control" in limiter.reason


CONTROL = """#!/bin/sh
# Answers as the control daemon does: one command on standard input, text or nothing on output.
cd "$(dirname "$0")" || exit 1
[ -e down ] && { echo "Cannot find MPS control daemon process"; exit 1; }
[ -e hung ] && exec sleep 60
read -r verb server device value
echo "$verb $server $device $value" >> said
case $verb in
get_server_list) cat servers ;;
get_client_list) cat "clients.$server" 2>/dev/null ;;
set_device_pinned_mem_limit) [ -e deaf ] || echo "$value" > "limit.$server.$device" ;;
get_device_pinned_mem_limit) cat "limit.$server.$device" 2>/dev/null ;;
esac
exit 0
"""


class TestMps:
    """mps-pinned, against a program that speaks the control daemon's language."""

    @pytest.fixture
    def control(self, tmp_path: Path) -> Path:
        program = tmp_path / "control"
        program.write_text(CONTROL)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (tmp_path / "servers").write_text("4000\n4001\n")
        (tmp_path / "clients.4000").write_text("17\n")
        (tmp_path / "clients.4001").write_text("21\n22\n")
        return program

    def target(self, *pids: int) -> Target:
        tenant_pids = tuple(Pid(pid=pid, start=1) for pid in pids)
        return Target(tenant=TENANT, runtime="docker", pids=tenant_pids)

    def test_the_server_of_one_tenant_is_limited_in_whole_mebibytes(self, control: Path) -> None:
        limiter = MpsPinned(str(control))
        limiter.check()
        limiter.set(self.target(21, 22, 23), DEVICE, 0, GIB + 5)
        reading = limiter.read(self.target(21, 22), DEVICE)
        assert (reading.hard_bytes, reading.used_bytes) == (GIB, None)
        assert (control.parent / "limit.4001.GPU-1").read_text() == "1024M\n"
        assert not (control.parent / "limit.4000.GPU-1").exists()

    def test_a_server_with_clients_of_others_is_left_alone(self, control: Path) -> None:
        with pytest.raises(Unsupported, match="also serves 1"):
            MpsPinned(str(control)).set(self.target(21), DEVICE, 0, GIB)
        assert not list(control.parent.glob("limit.*"))

    def test_a_tenant_without_mps_is_unsupported(self, control: Path) -> None:
        with pytest.raises(Unsupported, match="no process of the tenant"):
            MpsPinned(str(control)).read(self.target(99), DEVICE)

    def test_clear_gives_the_former_limit_back(self, control: Path) -> None:
        (control.parent / "limit.4000.GPU-1").write_text("10G\n")
        limiter = MpsPinned(str(control))
        limiter.set(self.target(17), DEVICE, 0, GIB)
        limiter.clear(self.target(17), DEVICE)
        assert limiter.read(self.target(17), DEVICE).hard_bytes == 10 * GIB

    def test_clear_without_a_former_limit_says_that_mps_cannot(self, control: Path) -> None:
        limiter = MpsPinned(str(control))
        limiter.set(self.target(17), DEVICE, 0, GIB)
        with pytest.raises(Unsupported, match="cannot lift"):
            limiter.clear(self.target(17), DEVICE)

    def test_success_without_effect_is_noticed(self, control: Path) -> None:
        (control.parent / "deaf").touch()
        with pytest.raises(Unavailable, match="shows None"):
            MpsPinned(str(control)).set(self.target(17), DEVICE, 0, GIB)

    def test_no_daemon(self, control: Path) -> None:
        (control.parent / "down").touch()
        with pytest.raises(Unsupported, match="Cannot find MPS control daemon"):
            MpsPinned(str(control)).check()

    def test_a_daemon_that_hangs_costs_the_deadline_only(self, control: Path) -> None:
        (control.parent / "hung").touch()
        with pytest.raises(Unavailable, match="no answer within"):
            MpsPinned(str(control), timeout_s=0.2).check()

    def test_a_program_that_cannot_run_is_unsupported(self, control: Path) -> None:
        control.write_bytes(b"\x7fELF nothing")
        with pytest.raises(Unsupported):
            MpsPinned(str(control)).check()
        os.chmod(control, 0o600)
        with pytest.raises(Unsupported, match="no "):
            MpsPinned(str(control)).check()
