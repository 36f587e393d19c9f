"""What the disk alone takes to keep a page, measured beside what waits for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.05
PAGE = bytes(4096)


@contextmanager
def disk_beside(folder: Path) -> Iterator[list[float]]:
    """Seconds of each fdatasync of one more page, in a file of ``folder``, for as long as it is open."""
    waits: list[float] = []
    stop = threading.Event()

    def run() -> None:
        path = folder / "beside"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while not stop.wait(EVERY_S):
                os.write(file, PAGE)
                begun = time.monotonic()
                os.fdatasync(file)
                waits.append(time.monotonic() - begun)
        finally:
            os.close(file)
            path.unlink()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()
