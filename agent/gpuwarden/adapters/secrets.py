"""Secrets, read when they are needed: a systemd credential or a file that only its owner may read."""

import os
import re
import stat
from collections.abc import Mapping, Sequence

from gpuwarden.errors import Unavailable

MAX_BYTES = 64 * 1024
MASKED_MIN_CHARS = 6
"""Shorter parts of a secret are words like any other."""


class Secrets:
    """Reads ``credential:NAME`` and ``file:/PATH``. No error holds any part of what was read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._folder = environ.get("CREDENTIALS_DIRECTORY", "")

    def read(self, where: str) -> str:
        """The secret, one line of text; ``Unavailable`` says why it cannot be had."""
        kind, _, name = where.partition(":")
        if kind == "file":
            return _line(where, _bytes(where, name, is_credential=False))
        if not self._folder:
            raise Unavailable(
                f"{where}: no $CREDENTIALS_DIRECTORY; add LoadCredential={name}:/PATH to the unit"
            )
        return _line(where, _bytes(where, os.path.join(self._folder, name), is_credential=True))

    def resolve(self, address: str) -> str:
        """An address as it stands in the configuration, or as it is read from where that says."""
        if address.startswith(("credential:", "file:")):
            return self.read(address)
        return address


def _bytes(where: str, path: str, *, is_credential: bool) -> bytes:
    try:
        # Not waiting for the writer of a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"{where}: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unavailable(f"{where}: not a regular file")
        if not is_credential and status.st_mode & 0o077:
            raise Unavailable(f"{where}: others may read it; fix: chmod 600 {path}")
        if status.st_uid not in (0, os.geteuid()):
            raise Unavailable(f"{where}: it belongs to uid {status.st_uid}; fix: chown root {path}")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{where}: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise Unavailable(f"{where}: larger than 64 KiB")
    return data


def _line(where: str, data: bytes) -> str:
    text = data.decode("utf-8", "replace").strip()
    if not text:
        raise Unavailable(f"{where}: empty")
    if not text.isascii() or not text.isprintable():
        raise Unavailable(f"{where}: expected one line of printable ASCII")
    return text


def masked(text: str, secrets: Sequence[str]) -> str:
    """Text of others without the secrets they were sent, and without the parts of an address."""
    for secret in secrets:
        parts = [secret, *re.split(r"[/?&=:@ ]+", secret)]
        for part in sorted(parts, key=len, reverse=True):
            if len(part) >= MASKED_MIN_CHARS:
                text = text.replace(part, "(hidden)")
    return text
