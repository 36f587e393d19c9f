"""A new authority for a running fleet, in three steps, each once everybody has heard of the one before.

``prepare`` makes the next authority: nodes come to trust it with their next renewal. ``switch`` lets it sign;
the old one stays trusted. ``finish`` forgets the old one. Between two steps lies the life of a certificate:
whoever was there has renewed by then. The aggregator takes a step over when it is started again.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from gpuwarden.adapters.pki.authority import (
    NEXT,
    OLD,
    SIGNING,
    Authority,
    Paths,
    make_root,
    read_root,
    write_root,
)
from gpuwarden.adapters.pki.names import replace_file
from gpuwarden.errors import Refused, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An authority of the folder. ``role``: signing, next or old."""

    role: str
    mark: str
    """The beginning of its SHA-256, for people to compare."""
    not_after_wall: float
    since_wall: float
    """When it came into this role: the time of its file."""


def known(folder: Path) -> list[Known]:
    """Every authority that is trusted, the one that signs first."""
    found = []
    for role in (SIGNING, NEXT, OLD):
        path = Paths(folder, role).certificate
        if path.exists():
            root = read_root(path)
            found.append(
                Known(
                    role=role,
                    mark=root.fingerprint(hashes.SHA256()).hex()[:16],
                    not_after_wall=root.not_valid_after_utc.timestamp(),
                    since_wall=path.stat().st_mtime,
                )
            )
    return found


def prepare(folder: Path, wall: float) -> None:
    """Make the next authority, beside the one that signs. ``Refused`` while another roll is under way."""
    authority = _opened(folder)
    for role in (NEXT, OLD):
        if Paths(folder, role).certificate.exists():
            raise Refused(
                f"a roll is under way already: {Paths(folder, role).certificate} is there"
            )
    write_root(Paths(folder, NEXT), *make_root(authority.domain, wall))


def switch(folder: Path, wall: float, wait_s: float) -> None:
    """Let the next authority sign; the one so far stays trusted. ``Refused`` before everybody can know it."""
    signing, coming, old = (Paths(folder, role) for role in (SIGNING, NEXT, OLD))
    if not coming.certificate.exists():
        raise Refused("there is no next authority: prepare comes first")
    _waited(coming.certificate, wall, wait_s, "nodes that have not renewed would be locked out")
    # Cut off half way it is done again: with the new key and the old certificate the folder opens, for the
    # certificate of that key lies beside them as the next one.
    certificate = coming.certificate.read_bytes()
    if signing.certificate.read_bytes() != certificate:
        replace_file(old.certificate, signing.certificate.read_bytes(), 0o644)
        replace_file(signing.key, coming.key.read_bytes(), 0o600)
        replace_file(signing.certificate, certificate, 0o644)
    coming.certificate.unlink()
    coming.key.unlink(missing_ok=True)


def finish(folder: Path, wall: float, wait_s: float) -> None:
    """Forget the old authority. ``Refused`` before everybody can have a certificate by the new one."""
    old = Paths(folder, OLD).certificate
    if not old.exists():
        raise Refused("there is no old authority: nothing is to be finished")
    _waited(old, wall, wait_s, "nodes with a certificate by the old one would be locked out")
    old.unlink()


def _opened(folder: Path) -> Authority:
    if not Paths(folder, SIGNING).certificate.exists():
        raise Refused(
            f"{folder}: there is no authority; the aggregator makes one at its first start"
        )
    return Authority.open(folder, "", 0.0)


def _waited(path: Path, wall: float, wait_s: float, why: str) -> None:
    try:
        left_s = path.stat().st_mtime + wait_s - wall
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    if wait_s > 0 and left_s > 0:
        raise Refused(f"too early by {left_s / 3600:.1f} h: {why} (--force does it all the same)")
