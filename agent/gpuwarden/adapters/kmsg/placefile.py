"""How far the kernel log was read, for the next agent: one small file in the state directory."""

import json
import os
from pathlib import Path

from gpuwarden.adapters.kmsg.source import Place

NAME = "kernel-log.json"
_MAX_BYTES = 16_384
_FIELDS = ("source", "stream", "at")


class PlaceFile:
    """Replaced as a whole, and synced only when asked: a ring's place ends with its boot, and that of a file
    or a journal is worth a few lines twice.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self.failures = 0
        """Times it could not be written or did not say a place."""

    def load(self) -> Place | None:
        """The place; ``None`` when there is none, or what is there is none."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                said = json.loads(file.read(_MAX_BYTES))
            source, stream, at = (said[name] for name in _FIELDS)
            if not all(isinstance(value, str) for value in (source, stream, at)):
                raise TypeError
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            self.failures += 1
            return None
        return Place(source=source, stream=stream, at=at)

    def save(self, place: Place, *, is_last: bool = False) -> bool:
        """Whether it was written. ``is_last``: onto the disk, too."""
        said = json.dumps({name: getattr(place, name) for name in _FIELDS}) + "\n"
        fresh = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(fresh, flags, 0o600)
            try:
                os.write(fd, said.encode("utf-8", "surrogateescape"))
                if is_last:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(fresh, self._path)
        except OSError:
            self.failures += 1
            return False
        return True
