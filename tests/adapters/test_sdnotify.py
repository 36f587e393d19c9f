"""What the service manager is told, on a real datagram socket; and that nobody is waited for."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.sdnotify import STATUS_MAX_CHARS, SdNotify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """(NOTIFY_SOCKET, the manager's end)."""
    if request.param == "path":
        name = address = str(tmp_path / "notify")
    else:
        name, address = f"@gw-{os.getpid()}", f"\0gw-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address)
        end.settimeout(20.0)
        yield name, end


def test_a_life(manager: tuple[str, socket.socket]) -> None:
    name, end = manager
    notify = SdNotify({"NOTIFY_SOCKET": name})
    notify.starting("observe: the first look")
    assert end.recv(4096) == b"STATUS=observe: the first look"
    notify.pet("2 GPUs")  # ready is who has finished a tick
    ready = f"READY=1\nWATCHDOG=1\nMAINPID={os.getpid()}\nSTATUS="
    assert end.recv(4096).decode() == f"{ready}2 GPUs"
    notify.pet("2 GPUs")
    assert end.recv(4096) == b"WATCHDOG=1"
    notify.pet("3 GPUs")
    assert end.recv(4096) == b"WATCHDOG=1\nSTATUS=3 GPUs"
    notify.reloading()
    said = end.recv(4096).decode().split("\n")
    assert said[0] == "RELOADING=1"
    assert said[1].partition("=")[0] == "MONOTONIC_USEC"
    assert said[1].partition("=")[2].isdigit()
    notify.reloaded("config rejected")
    notify.pet("3 GPUs")
    assert end.recv(4096).decode() == f"{ready}config rejected; 3 GPUs"
    notify.pet("3 GPUs")
    assert end.recv(4096) == b"WATCHDOG=1"  # the note stands
    notify.reloading()
    end.recv(4096)
    notify.reloaded()
    notify.pet("3 GPUs")
    assert end.recv(4096).decode() == f"{ready}3 GPUs"
    notify.stopping()
    assert end.recv(4096) == b"STOPPING=1"
    notify.close()
    assert notify.lost == 0


def test_a_status_cannot_say_anything_else(manager: tuple[str, socket.socket]) -> None:
    name, end = manager
    notify = SdNotify({"NOTIFY_SOCKET": name})
    notify.pet("")
    end.recv(65536)
    notify.pet("bad\nSTOPPING=1\x00" + "x" * 1000)
    lines = end.recv(65536).decode().split("\n")
    assert lines[0] == "WATCHDOG=1"
    assert lines[1] == f"STATUS={('bad?STOPPING=1?' + 'x' * 1000)[:STATUS_MAX_CHARS]}"
    assert len(lines) == 2
    notify.close()


def test_a_manager_that_does_not_read_is_not_waited_for(
    manager: tuple[str, socket.socket],
) -> None:
    name, _ = manager
    notify = SdNotify({"NOTIFY_SOCKET": name})
    for number in range(10_000):
        notify.pet(str(number))
        if notify.lost:
            break
    assert notify.lost == 1
    notify.close()


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nonexistent/notify"},
                {"NOTIFY_SOCKET": "/" + "x" * 200}, {"NOTIFY_SOCKET": "vsock:2:1"}]
)  # fmt: skip
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    notify = SdNotify(environ)
    notify.starting("")
    notify.pet("")
    notify.stopping()
    notify.close()
    notify.pet("")
