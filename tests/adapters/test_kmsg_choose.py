"""Which kernel log a configuration means: by what is at the path, and where it may not be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.kmsg import choose
from gpuwarden.adapters.kmsg.follower import KernelLogFollower, NoKernelLog
from gpuwarden.adapters.kmsg.journal import find_program
from gpuwarden.adapters.kmsg.sieve import Counts, Sieve
from gpuwarden.adapters.kmsg.source import CannotRead
from gpuwarden.clock import SystemClock
from gpuwarden.config import Config, KmsgConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.snapshot import GapKind, HostSample


class Boot:
    """A host that may not know its boot."""

    def __init__(self, boot_id: str = "") -> None:
        self._boot_id = boot_id

    def boot_id(self) -> str:
        if not self._boot_id:
            raise Unavailable("no boot id")
        return self._boot_id

    def sample(self, now: float) -> HostSample:
        return HostSample(at=now)


def chosen(**settings: Any) -> tuple[str, KernelTrust]:
    source = choose.find(KmsgConfig(**settings), "boot", SystemClock(), Sieve(Counts()))
    source.close()
    return source.name, source.trust


def opened(**settings: Any) -> CannotRead:
    """What the first attempt to read says."""
    try:
        source = choose.find(KmsgConfig(**settings), "boot", SystemClock(), Sieve(Counts()))
    except CannotRead as error:
        return error
    with pytest.raises(CannotRead) as caught:
        source.open(None, is_backlog=True)
    source.close()
    return caught.value


@pytest.fixture
def a_socket(tmp_path: Path) -> Path:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "kmsg.sock"))
    return tmp_path / "kmsg.sock"


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    (tmp_path / "kern.log").touch()
    return tmp_path / "kern.log"


def test_what_is_at_the_path_decides(a_socket: Path, a_file: Path) -> None:
    assert chosen(path=a_socket) == ("simulated", KernelTrust.SIMULATED)
    assert chosen(path=a_socket, source="kmsg") == ("simulated", KernelTrust.SIMULATED)
    assert chosen(path=a_file) == ("file", KernelTrust.UNTRUSTED)
    assert chosen(path=a_file, source="file") == ("file", KernelTrust.UNTRUSTED)


@pytest.mark.kmsg
def test_the_device_is_the_kernels() -> None:
    assert chosen() == ("kmsg", KernelTrust.KERNEL)
    assert chosen(source="kmsg") == ("kmsg", KernelTrust.KERNEL)


def test_a_file_is_not_the_kernels_log_where_that_was_asked_for(a_file: Path) -> None:
    assert "not the kernel's log, character device 1:11" in str(opened(path=a_file, source="kmsg"))
    assert "character device 1:11" in str(opened(path=Path("/dev/null")))


def test_a_device_is_not_a_file() -> None:
    assert "not a regular file" in str(opened(path=Path("/dev/null"), source="file"))


@pytest.mark.parametrize("source", ["auto", "kmsg", "file"])
def test_nothing_at_the_path(tmp_path: Path, source: str) -> None:
    """A simulated driver that starts again is waited for: no journal takes its place."""
    error = opened(path=tmp_path / "none", source=source)
    assert error.kind is GapKind.GONE
    assert str(tmp_path / "none") in str(error)


@pytest.mark.root
@pytest.mark.parametrize("source", ["kmsg", "file"])
def test_no_rights(a_file: Path, source: str) -> None:
    a_file.parent.chmod(0o700)
    os.seteuid(65534)
    try:
        error = opened(path=a_file, source=source)
    finally:
        os.seteuid(0)
    assert error.kind is GapKind.DENIED
    assert "root, or CAP_SYSLOG" in str(error)


@pytest.mark.skipif(find_program() is None, reason="no journalctl")
def test_the_journal_where_it_was_asked_for() -> None:
    assert chosen(source="journal") == ("journal", KernelTrust.UNTRUSTED)


def test_none_is_no_thread_and_no_gap(tmp_path: Path) -> None:
    cfg = Config.model_validate({"kmsg": {"source": "none"}})
    assert isinstance(choose.kernel_log(cfg, Boot("b"), SystemClock()), NoKernelLog)


def test_a_host_that_does_not_know_its_boot_is_always_a_new_one(
    a_file: Path, tmp_path: Path
) -> None:
    cfg = Config.model_validate(
        {"kmsg": {"path": a_file}, "agent": {"state_dir": tmp_path, "run_dir": tmp_path}}
    )
    port = choose.kernel_log(cfg, Boot(), SystemClock())
    assert isinstance(port, KernelLogFollower)
    assert port.drain(1.0).trust is KernelTrust.UNTRUSTED
    port.close()
