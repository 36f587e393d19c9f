"""What the disk alone takes to keep a page, measured by turns with what waits for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

PAGE = bytes(4096)


class Disk:
    """A file of ``folder`` that grows by a page at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "beside"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def sync(self) -> float:
        """Seconds that one fdatasync of one more page takes."""
        os.write(self._file, PAGE)
        begun = time.monotonic()
        os.fdatasync(self._file)
        return time.monotonic() - begun

    def close(self) -> None:
        os.close(self._file)
        self._path.unlink()
