"""The doctor on the host: versions of the driver, rights on groups, the clock, the unit, tools of runtimes, the fleet."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.kernel_clock import ClockState
from gpuwarden.adapters.nvidia_host import NvidiaHost
from gpuwarden.adapters.pki.names import Credentials, write_credentials
from gpuwarden.commands import checks_host, checks_unit
from gpuwarden.commands.checks import Result, Roots
from gpuwarden.commands.checks_fleet import check_fleet
from gpuwarden.commands.checks_runtimes import check_runtimes
from gpuwarden.commands.checks_sinks import check_sinks
from gpuwarden.config import Config
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.fleet import Identity, Role
from tests.adapters.sink_notices import secret_file


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- versions of the driver ---


@pytest.mark.parametrize(
    ("module", "library", "gpus", "result", "seen"),
    [
        ("580.95.05", "580.95.05", 1, Result.OK, "are 580.95.05"),
        ("580.95.05", "580.105.08", 1, Result.FAILED, "library 580.105.08"),
        ("580.95.05", None, 1, Result.WARNING, "in no usual folder"),
        (None, None, 1, Result.WARNING, "1 NVIDIA GPUs on the PCI bus, and no nvidia kernel"),
        (None, None, 0, Result.OK, "no NVIDIA GPU on the PCI bus"),
    ],
)
def test_driver_versions(
    tmp_path: Path, module: str | None, library: str | None, gpus: int, result: Result, seen: str
) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    for number in range(gpus):
        device = tmp_path / f"sys/bus/pci/devices/0000:0{number}:00.0"
        put(device / "vendor", "0x10de\n")
        put(device / "class", "0x030200\n")
    if module:
        put(tmp_path / "sys/module/nvidia/version", f"{module}\n")
    if library:
        folder = tmp_path / "usr/lib/x86_64-linux-gnu"
        put(folder / f"libnvidia-ml.so.{library}")
        (folder / "libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{library}")
    check = checks_host.check_versions(NvidiaHost(str(tmp_path)))
    assert (check.result, seen in check.seen) == (result, True), check
    assert bool(check.fix) is (result is not Result.OK)


# --- control groups ---

V2_FILES = ("cgroup.freeze", "cgroup.kill", "cpu.weight", "memory.high", "memory.max")


def v2(folder: Path, controllers: str = "cpuset cpu io memory pids") -> Roots:
    put(folder / "cgroup.controllers", controllers)
    return Roots(cgroup=folder)


def test_a_v2_tree_that_can_be_written(tmp_path: Path) -> None:
    for file in V2_FILES:
        put(tmp_path / "system.slice" / "docker-1.scope" / file)
    check = checks_host.check_group_rights(v2(tmp_path))
    assert check.result is Result.OK
    assert "memory.high" in check.seen


@pytest.mark.parametrize(
    ("lacks", "fix"),
    [("memory.high", "cgroup.subtree_control"), ("cgroup.kill", "a kernel of at least 5.14")],
)
def test_a_v2_tree_whose_groups_lack_something(tmp_path: Path, lacks: str, fix: str) -> None:
    for file in V2_FILES:
        if file != lacks:
            put(tmp_path / "a" / file)
    check = checks_host.check_group_rights(v2(tmp_path))
    assert (check.result, lacks in check.seen, fix in check.fix) == (Result.WARNING, True, True)


def test_a_v2_tree_without_memory(tmp_path: Path) -> None:
    check = checks_host.check_group_rights(v2(tmp_path, "cpu pids"))
    assert check.result is Result.WARNING
    assert "v2 without memory" in check.seen
    assert "cgroup_disable=memory" in check.fix


def test_a_v2_tree_without_groups_says_nothing(tmp_path: Path) -> None:
    assert checks_host.check_group_rights(v2(tmp_path)).result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("trees", "result"),
    [(("freezer", "cpu", "memory"), Result.OK), (("freezer", "cpu"), Result.WARNING)],
)
def test_v1_trees(tmp_path: Path, trees: tuple[str, ...], result: Result) -> None:
    for tree in trees:
        (tmp_path / tree).mkdir()
    check = checks_host.check_group_rights(Roots(cgroup=tmp_path))
    assert check.result is result
    assert ("memory" in check.fix) is (result is Result.WARNING)


@pytest.mark.parametrize(
    ("group", "nodes", "links", "result"),
    [
        ("kubepods.slice/pod1.slice/cri-containerd-0123456789ab.scope", 2, 0, Result.WARNING),
        ("machine.slice/libpod-0123456789ab.scope", 2, 1, Result.WARNING),
        ("machine.slice/libpod-0123456789ab.scope", 2, 2, Result.OK),
        ("machine.slice/libpod-0123456789ab.scope", 0, 0, Result.OK),
        ("docker/0123456789ab", 2, 0, Result.OK),  # Docker's cgroupfs driver
    ],
)
def test_containers_that_a_reload_of_systemd_takes_the_gpus_from(
    tmp_path: Path, group: str, nodes: int, links: int, result: Result
) -> None:
    (tmp_path / "cgroup" / group).mkdir(parents=True)
    (tmp_path / "dev/char").mkdir(parents=True)
    for number in range(nodes):
        put(tmp_path / f"dev/nvidia{number}")
    for number in range(links):
        put(tmp_path / f"dev/char/195:{number}")
    check = checks_host.check_scopes(Roots(cgroup=tmp_path / "cgroup", dev=tmp_path / "dev"))
    assert check.result is result
    assert ("nvidia-ctk" in check.fix) is (result is Result.WARNING)


# --- clock, libraries ---


@pytest.mark.parametrize(
    ("state", "moved_s", "result", "seen"),
    [
        (ClockState(is_synchronised=True, error_s=0.01), 0.0, Result.OK, "within 10 ms"),
        (ClockState(is_synchronised=True), 0.4, Result.OK, "synchronised"),
        (ClockState(is_synchronised=True), -90.0, Result.WARNING, "set by -90.0 s"),
        (ClockState(is_synchronised=False), 0.0, Result.WARNING, "nothing keeps"),
        (ClockState(), 0.0, Result.UNKNOWN, "does not say"),
    ],
)
def test_clock(state: ClockState, moved_s: float, result: Result, seen: str) -> None:
    check = checks_host.check_clock(state, moved_s)
    assert (check.result, seen in check.seen) == (result, True), check


def test_libraries_are_named_with_their_versions() -> None:
    said = checks_host.libraries()
    assert list(said) == ["Python", "OpenSSL", "sqlite", "zlib"]
    assert all(version[0].isdigit() for version in said.values()), said
    assert said["OpenSSL"] in checks_host.check_libraries().seen


# --- the unit ---

RUNS = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "StatusText": "observe: 8 devices",
}


@pytest.mark.parametrize(
    ("changed", "result", "seen", "fix"),
    [
        ({}, Result.OK, "running): observe: 8 devices", ""),
        ({"LoadState": "not-found"}, Result.WARNING, "not installed", "install"),
        ({"LoadState": "masked"}, Result.WARNING, "is masked", "systemctl unmask"),
        ({"ActiveState": "failed", "Result": "watchdog"}, Result.FAILED, "watchdog", "journalctl"),
        ({"ActiveState": "inactive"}, Result.FAILED, "inactive", "systemctl start"),
        (
            {"ActiveState": "inactive", "UnitFileState": "disabled"},
            *(Result.WARNING, "disabled", "systemctl enable --now"),
        ),
        ({"UnitFileState": "disabled"}, Result.WARNING, "not started with", "systemctl enable"),
        ({"NeedDaemonReload": "yes"}, Result.WARNING, "have changed", "device loss"),
    ],
)
def test_unit(tmp_path: Path, changed: dict[str, str], result: Result, seen: str, fix: str) -> None:
    check = checks_unit.check_unit(Roots(systemd=tmp_path), {**RUNS, **changed})
    assert (check.result, seen in check.seen, fix in check.fix) == (result, True, True), check


def test_a_host_without_systemd_has_no_unit(tmp_path: Path) -> None:
    roots = Roots(systemd=tmp_path / "none")
    assert checks_unit.check_unit(roots, RUNS).result is Result.OK
    assert checks_unit.check_enforcement(roots, "enforce", RUNS).result is Result.OK
    assert checks_unit.check_unit(Roots(systemd=tmp_path), "timed out").result is Result.UNKNOWN


DROP_IN = "/etc/systemd/system/gpuwarden-agent.service.d/50-enforcement.conf"


@pytest.mark.parametrize(
    ("mode", "has_drop_in", "result"),
    [
        ("observe", False, Result.OK),
        ("observe", True, Result.WARNING),
        ("enforce", True, Result.OK),
        ("enforce", False, Result.FAILED),
    ],
)
def test_enforcement_has_its_rights(
    tmp_path: Path, mode: str, has_drop_in: bool, result: Result
) -> None:
    state = {
        **RUNS,
        "DropInPaths": DROP_IN if has_drop_in else "",
        "CapabilityBoundingSet": "cap_kill cap_dac_override" if has_drop_in else "cap_kill",
    }
    check = checks_unit.check_enforcement(Roots(systemd=tmp_path), mode, state)
    assert check.result is result
    assert ("gpuwarden enable-enforcement" in check.fix) is (result is not Result.OK)


# --- runtimes ---


def tool(folder: Path, name: str, script: str) -> None:
    path = put(folder / name, f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def runtimes(folder: Path, **sections: Any) -> dict[str, tuple[Result, str]]:
    config = Config.model_validate(sections)
    path = f"{folder}:/usr/bin:/bin" if any(folder.iterdir()) else str(folder)
    return {c.name: (c.result, c.seen) for c in check_runtimes(config, path)}


def test_runtimes_that_are_not_here(tmp_path: Path) -> None:
    assert {result for result, _ in runtimes(tmp_path).values()} == {Result.OK}
    wanted = runtimes(tmp_path, cordon={"slurm": {}})
    assert wanted["slurm"][0] is Result.FAILED


def test_runtimes_that_answer_or_do_not(tmp_path: Path) -> None:
    tool(tmp_path, "podman", "echo Podman 5.0.0")
    tool(tmp_path, "lxc-info", "echo oops >&2; exit 3")
    tool(tmp_path, "scontrol", "echo 'Slurmctld(primary) at c is DOWN'")
    said = runtimes(tmp_path)
    assert said["podman"] == (Result.OK, "Podman 5.0.0")
    assert said["lxc"] == (Result.WARNING, "oops")
    assert said["slurm"][0] is Result.WARNING


# --- sinks ---


def test_sinks_are_reached_and_hear_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_door, socket.socket() as shut_door:
        shut_door.bind(("127.0.0.1", 0))
        port, shut = open_door.getsockname()[1], shut_door.getsockname()[1]
        url = secret_file(tmp_path, "url", f"http://127.0.0.1:{shut}/T0/hush")
        cfg = OncallConfig.model_validate(
            {
                "alertmanager": [{"urls": [f"http://127.0.0.1:{port}"]}],
                "slack": [{"url": url}],
                "pagerduty": [{"url": "credential:none", "routing_key": "credential:none"}],
            }
        )
        bad, good = check_sinks(cfg)
        heard, _ = open_door.accept()
        with heard:
            assert heard.recv(1) == b""
    assert (bad.result, good.result) == (Result.WARNING, Result.OK)
    assert bad.seen.startswith(f"sink slack: no connection to port {shut}")
    assert "hush" not in bad.seen
    assert good.seen.startswith("alertmanager: ")
    assert check_sinks(OncallConfig()) == []


# --- the fleet ---


def identity(folder: Path, *, begins: float, ends: float) -> FleetConfig:
    own = Credentials(
        identity=Identity(role=Role.NODE, name="n1"),
        domain="fleet.example",
        key_pem=b"",
        certificate_pem=b"",
        authorities_pem=b"",
        not_before_wall=begins,
        not_after_wall=ends,
    )
    write_credentials(folder, own)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    return FleetConfig(aggregator=(f"127.0.0.1:{port}",), identity_dir=folder)


def test_a_node_that_is_alone() -> None:
    (check,) = check_fleet(FleetConfig(), 0.0)
    assert (check.result, "not in a fleet" in check.seen) == (Result.OK, True)


def test_a_node_that_has_not_joined(tmp_path: Path) -> None:
    cfg = FleetConfig(aggregator=("127.0.0.1:1",), identity_dir=tmp_path)
    certificate, aggregator = check_fleet(cfg, 0.0)
    assert certificate.result is Result.FAILED
    assert certificate.fix.endswith("gpuwarden enroll")
    assert aggregator.result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("now", "result", "fix"),
    [
        (900.0, Result.FAILED, "timesyncd"),
        (1500.0, Result.OK, ""),
        (1900.0, Result.WARNING, "enroll --renew"),
        (2100.0, Result.FAILED, "fleet invite"),
    ],
)
def test_a_certificate_and_an_aggregator_that_is_down(
    tmp_path: Path, now: float, result: Result, fix: str
) -> None:
    cfg = identity(tmp_path, begins=1000.0, ends=2000.0)
    certificate, aggregator = check_fleet(cfg, now)
    assert (certificate.result, fix in certificate.fix) == (result, True), certificate
    assert aggregator.result is Result.FAILED
    assert "no handshake" in aggregator.seen
