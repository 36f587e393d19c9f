"""/dev/kmsg: the kernel's own ring."""

import errno
import os
import stat
from pathlib import Path

from gpuwarden.adapters.kmsg.ring import Ring
from gpuwarden.adapters.kmsg.sieve import Sieve
from gpuwarden.adapters.kmsg.source import CannotRead, Place
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.snapshot import GapKind

NUMBER = (1, 11)
"""Documentation/admin-guide/devices.txt: 1 char 11 /dev/kmsg."""


class KmsgDevice(Ring):
    """Reads from the oldest record of this boot, or after the place an earlier agent came to."""

    name = "kmsg"
    trust = KernelTrust.KERNEL

    def __init__(self, path: Path, boot_id: str, sieve: Sieve) -> None:
        super().__init__(sieve)
        self._path = path
        self._boot_id = boot_id

    def open(self, place: Place | None, *, is_backlog: bool) -> None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_open(self._path, error) from error
        status = os.fstat(fd)
        number = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if not stat.S_ISCHR(status.st_mode) or number != NUMBER:
            os.close(fd)
            raise CannotRead(f"{self._path}: not the kernel's log, character device 1:11")
        self._begin(fd, self._boot_id, place, is_backlog=is_backlog)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def cannot_open(path: Path, error: OSError) -> CannotRead:
    """Why a path cannot be opened, and what would help."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return CannotRead(
            f"{path}: {error.strerror}: it takes root, or CAP_SYSLOG where kernel.dmesg_restrict is 1",
            GapKind.DENIED,
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV):
        return CannotRead(
            f"{path}: {error.strerror}: in a container, pass /dev/kmsg in", GapKind.GONE
        )
    return CannotRead(f"{path}: {error.strerror or error}")
