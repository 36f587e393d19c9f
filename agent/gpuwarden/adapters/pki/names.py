"""Identities as certificates bear them, and the files they lie in. No cryptography is loaded here."""

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Identity, Role

AGGREGATOR_NAME = "gpuwarden-aggregator"
"""Every aggregator's certificate bears it as a DNS name: its address may be any."""
KEY, CERTIFICATE, AUTHORITIES, ABOUT = (
    "key.pem",
    "certificate.pem",
    "authorities.pem",
    "identity.json",
)
FILE_MAX_BYTES = 256 * 1024
# spiffe://gpuwarden/node/gpu-07
_URI = re.compile(
    r"spiffe://(?P<domain>[a-z0-9][a-z0-9.-]{0,62})/(?P<role>[a-z]{1,16})/(?P<name>[A-Za-z0-9][A-Za-z0-9._@-]{0,127})\Z"
)
_ROLES = {role.value: role for role in Role}


def uri_of(domain: str, identity: Identity) -> str:
    """The URI that names it in a certificate."""
    uri = f"spiffe://{domain}/{identity.role}/{identity.name}"
    if not _URI.match(uri):
        raise Refused(f"not a name for a certificate: {identity.name[:64]!r}")
    return uri


def identity_in(uris: Sequence[str], domain: str) -> Identity:
    """Who a certificate with these URIs is for; ``Refused`` unless there is exactly one, of our domain."""
    found = [match for match in map(_URI.match, uris) if match is not None]
    if len(found) != 1 or found[0]["domain"] != domain or found[0]["role"] not in _ROLES:
        raise Refused("the certificate names nobody of this fleet")
    return Identity(role=_ROLES[found[0]["role"]], name=found[0]["name"])


def identity_of(auth_context: Mapping[str, Any], domain: str) -> Identity:
    """Who is at the other end, by what gRPC says of a certificate that it has verified."""
    if list(auth_context.get("transport_security_type", ())) != [b"ssl"]:
        raise Refused("no certificate was shown")
    names = auth_context.get("x509_subject_alternative_name", ())
    uris = [name.decode("utf-8", "replace") for name in names if name.startswith(b"spiffe://")]
    return identity_in(uris, domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One identity as files give it. Times are Unix seconds."""

    identity: Identity
    domain: str
    key_pem: bytes
    certificate_pem: bytes
    authorities_pem: bytes
    not_before_wall: float
    not_after_wall: float

    def is_half_over(self, wall: float) -> bool:
        """Whether it is time for a new one."""
        return wall >= (self.not_before_wall + self.not_after_wall) / 2

    def is_over(self, wall: float) -> bool:
        return wall >= self.not_after_wall


def read_credentials(folder: Path) -> Credentials:
    """What lies in a folder; ``Unavailable`` says what is missing and how to get it."""
    try:
        about = json.loads(_read(folder / ABOUT))
        identity = identity_in([about["uri"]], about["domain"])
        return Credentials(
            identity=identity,
            domain=about["domain"],
            key_pem=_read(folder / KEY, is_secret=True),
            certificate_pem=_read(folder / CERTIFICATE),
            authorities_pem=_read(folder / AUTHORITIES),
            not_before_wall=float(about["not_before_wall"]),
            not_after_wall=float(about["not_after_wall"]),
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{error.filename}: no such file; fix: gpuwarden enroll") from error
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, Refused) as error:
        raise Unavailable(f"{folder / ABOUT}: {error}; fix: gpuwarden enroll") from error


def write_credentials(folder: Path, credentials: Credentials) -> None:
    """Replace what lies in a folder. A reader in between may find a key beside the older certificate:
    ``identity.json`` is written last, and whoever cannot use what it read reads again."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = {
        "uri": uri_of(credentials.domain, credentials.identity),
        "domain": credentials.domain,
        "not_before_wall": credentials.not_before_wall,
        "not_after_wall": credentials.not_after_wall,
    }
    for name, data, mode in (
        (AUTHORITIES, credentials.authorities_pem, 0o644),
        (KEY, credentials.key_pem, 0o600),
        (CERTIFICATE, credentials.certificate_pem, 0o644),
        (ABOUT, json.dumps(about).encode(), 0o644),
    ):
        replace_file(folder / name, data, mode)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """The new content whole, or the old one; on disk when this returns."""
    new = path.with_name(f".{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def _read(path: Path, *, is_secret: bool = False) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: not a regular file")
        if is_secret and status.st_mode & 0o077:
            raise ValueError(f"{path}: others may read it; chmod 600 it")
        return file.read(FILE_MAX_BYTES)
