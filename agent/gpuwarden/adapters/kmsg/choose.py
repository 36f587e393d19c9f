"""Which kernel log the configuration means on this host."""

import os
import stat
from pathlib import Path

from gpuwarden.adapters.kmsg.device import KmsgDevice, cannot_open
from gpuwarden.adapters.kmsg.follower import KernelLogFollower, NoKernelLog
from gpuwarden.adapters.kmsg.placefile import PlaceFile
from gpuwarden.adapters.kmsg.sieve import Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Source
from gpuwarden.clock import Clock
from gpuwarden.config import Config, KmsgConfig
from gpuwarden.errors import Unavailable
from gpuwarden.ports import KernelLog
from gpuwarden.ports_host import Host

DEVICE = Path("/dev/kmsg")


def kernel_log(
    cfg: Config, host: Host, clock: Clock, known: tuple[str, int] | None = None
) -> KernelLog:
    """The port; one that cannot be read now says so and is tried again. ``known``: a boot, and the newest of
    its records that the journal knows was heard (-1: of none)."""
    if cfg.kmsg.source == "none":
        return NoKernelLog()
    try:
        boot_id = host.boot_id()
    except Unavailable:
        boot_id = f"unknown, {clock.wall()}"  # then every start is one of a new boot
    return KernelLogFollower(
        lambda sieve: find(cfg.kmsg, boot_id, clock, sieve),
        clock,
        PlaceFile(cfg.agent.state_dir),
        known[1] if known is not None and known[0] == boot_id else None,
    )


def find(cfg: KmsgConfig, boot_id: str, clock: Clock, sieve: Sieve) -> Source:
    """A source that is not open yet; ``CannotRead`` says what is wrong with the path or the host.

    ``kmsg`` and ``auto``: a socket is the simulated driver's stream, anything else has to be the device.
    ``auto`` also takes a file for what it is, and the journal where /dev/kmsg is not there or not for us.
    Only the source that is taken is loaded.
    """
    if cfg.source == "file":
        return _file(cfg, sieve)
    if cfg.source == "journal":
        return _journal(boot_id, clock, sieve)
    try:
        mode = os.stat(cfg.path).st_mode
        if stat.S_ISSOCK(mode):
            from gpuwarden.adapters.kmsg.stream import SimulatedStream

            return SimulatedStream(cfg.path, boot_id, sieve)
        if stat.S_ISREG(mode) and cfg.source == "auto":
            return _file(cfg, sieve)
        if stat.S_ISCHR(mode):
            os.close(os.open(cfg.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if cfg.source == "auto" and cfg.path == DEVICE and _has_journal():
            return _journal(boot_id, clock, sieve)
        raise cannot_open(cfg.path, error) from error
    return KmsgDevice(cfg.path, boot_id, sieve)


def _has_journal() -> bool:
    from gpuwarden.adapters.kmsg.journal import find_program

    return find_program() is not None


def _file(cfg: KmsgConfig, sieve: Sieve) -> Source:
    from gpuwarden.adapters.kmsg.textfile import TextFile

    return TextFile(cfg.path, sieve)


def _journal(boot_id: str, clock: Clock, sieve: Sieve) -> Source:
    from gpuwarden.adapters.kmsg.journal import Journal, find_program

    program = find_program()
    if program is None:
        raise CannotRead("journalctl is not installed: kmsg.source = journal needs it")
    return Journal(program, boot_id, clock, sieve)
