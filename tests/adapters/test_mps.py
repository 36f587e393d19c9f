"""Clients let go by their MPS server, against a program that speaks the control daemon's language."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gpuwarden.adapters import mps
from gpuwarden.adapters.mps import MpsServers
from gpuwarden.adapters.mps_control import MpsControl
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import Pid, TenantId

CONTROL = """#!/bin/sh
# One command on standard input, text or nothing on output.
cd "$(dirname "$0")" || exit 1
[ -e down ] && { echo "Cannot find MPS control daemon process"; exit 1; }
read -r verb server client
echo "$verb $server $client" >> said
case $verb in
get_server_list) cat servers ;;
get_client_list) cat "clients.$server" 2>/dev/null ;;
terminate_client)
    [ -e deaf ] && exit 0
    grep -vx "$client" "clients.$server" > rest; mv rest "clients.$server" ;;
get_server_status) cat "status.$server" 2>/dev/null ;;
esac
exit 0
"""


@pytest.fixture
def control(tmp_path: Path) -> Path:
    program = tmp_path / "control"
    program.write_text(CONTROL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "servers").write_text("4000\n4001\n")
    (tmp_path / "clients.4000").write_text("17\n")
    (tmp_path / "clients.4001").write_text("21\n22\n31\n")
    return program


def servers(control: Path) -> MpsServers:
    return MpsServers(MpsControl(str(control)), SystemClock())


def target(*pids: int) -> Target:
    tenant_pids = tuple(Pid(pid=pid, start=1) for pid in pids)
    return Target(tenant=TenantId("docker:a"), runtime="docker", pids=tenant_pids)


def terminated(control: Path) -> list[str]:
    said = (control.parent / "said").read_text().splitlines()
    return [line for line in said if line.startswith("terminate_client")]


def test_its_clients_are_let_go_and_nobody_elses(control: Path) -> None:
    servers(control).stop(target(21, 22, 99), 0.0)
    assert terminated(control) == ["terminate_client 4001 21", "terminate_client 4001 22"]
    assert (control.parent / "clients.4001").read_text() == "31\n"
    assert (control.parent / "clients.4000").read_text() == "17\n"


def test_clients_of_several_servers(control: Path) -> None:
    servers(control).stop(target(17, 31), 0.0)
    assert terminated(control) == ["terminate_client 4000 17", "terminate_client 4001 31"]


def test_who_is_no_client_is_told_apart(control: Path) -> None:
    with pytest.raises(Unsupported, match="no process of it is a client"):
        servers(control).stop(target(99), 0.0)
    assert terminated(control) == []


def test_a_client_that_stays_is_not_called_gone(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps, "GONE_WITHIN_S", 0.1)
    (control.parent / "deaf").touch()
    with pytest.raises(Unavailable, match="still serves 1"):
        servers(control).stop(target(17), 0.0)


@pytest.mark.parametrize(
    ("status", "is_well"), [("ACTIVE\n", True), ("", True), ("FAULT\n", False)]
)
def test_a_server_that_does_not_work_on_is_said(control: Path, status: str, is_well: bool) -> None:
    (control.parent / "status.4000").write_text(status)
    if is_well:
        servers(control).stop(target(17), 0.0)
    else:
        with pytest.raises(Unavailable, match="4000 is FAULT"):
            servers(control).stop(target(17), 0.0)


def test_without_a_daemon_or_its_program(control: Path) -> None:
    (control.parent / "down").touch()
    with pytest.raises(Unsupported, match="Cannot find MPS control daemon"):
        servers(control).stop(target(17), 0.0)
    with pytest.raises(Unsupported, match="no nowhere"):
        MpsServers(MpsControl("nowhere"), SystemClock()).stop(target(17), 0.0)
