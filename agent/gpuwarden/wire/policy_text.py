"""A signed policy as bytes: a mark, the key, the signature, then what is signed: a head and the settings.

    gpuwarden-policy-1
    key 5f0c...            (which key: 32 hex digits of the SHA-256 of the public key)
    signature MEUC...      (Ed25519, base64)
    {"version": 7, ...}    (the head: one line of JSON)
    [quota]                (settings as in the agent's own configuration: TOML to the end)

Signed are the first line and everything after the third. Whoever reads the head has checked the signature before.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from gpuwarden.errors import Refused
from gpuwarden.model.policy import Policy, PolicyHead

MARK = b"gpuwarden-policy-1\n"
BUNDLE_MAX_BYTES = 128 * 1024
"""With all around it, half of what a message may hold."""
SETTINGS_MAX_BYTES = 96 * 1024
VERSION_MAX = 2**53
GROUPS_MAX = 64
NOTE_MAX_CHARS = 500
WALL_MAX = 2.0**33
VALID_MAX_S = 400 * 86_400.0
"""A policy that holds longer than a year and a month is one that was forgotten."""
# realtime, batch-*, eu/[ab]?
_GROUP = re.compile(r"[A-Za-z0-9._:@/*?\[\]!-]{1,64}\Z")
_KEY = re.compile(rb"key ([0-9a-f]{32})\Z")
_SIGNATURE = re.compile(rb"signature ([A-Za-z0-9+/=]{88})\Z")
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}\Z")
_FIELDS = frozenset(
    {"version", "fleet", "groups", "issued_wall", "not_after_wall", "note", "restores"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedParts:
    """A bundle taken apart; nothing of it is believed yet."""

    key: str
    signature: bytes
    signed: bytes


def parts_of(bundle: bytes) -> SignedParts:
    """``Refused`` when it is no bundle, is cut short, or is too large."""
    if len(bundle) > BUNDLE_MAX_BYTES:
        raise Refused(f"{len(bundle)} bytes, at most {BUNDLE_MAX_BYTES}")
    if not bundle.startswith(MARK):
        raise Refused("not a signed policy: it does not begin with its mark")
    lines = bundle[len(MARK) :].split(b"\n", 2)
    key = _KEY.match(lines[0])
    signature = _SIGNATURE.match(lines[1]) if len(lines) == 3 else None
    if key is None or signature is None:
        raise Refused("not a signed policy: its key or signature line is not one")
    try:
        raw = base64.b64decode(signature[1], validate=True)
    except binascii.Error as error:
        raise Refused("not a signed policy: its signature is not base64") from error
    if base64.b64encode(raw) != signature[1]:
        raise Refused("not a signed policy: its signature is written in two ways")
    return SignedParts(key=key[1].decode(), signature=raw, signed=MARK + lines[2])


def signed_bytes(head: PolicyHead, settings: str) -> bytes:
    """What is to be signed; ``Refused`` when the head is not one that would be read back."""
    said = {name: getattr(head, name) for name in sorted(_FIELDS)}
    data = MARK + json.dumps(said).encode() + b"\n" + settings.encode()
    if _read(data) != (head, settings):
        raise Refused("this policy would not be read back as it was meant")
    return data


def bundle_of(signed: bytes, key: str, signature: bytes) -> bytes:
    """The bytes that travel."""
    line = base64.b64encode(signature)
    return MARK + b"key " + key.encode() + b"\nsignature " + line + b"\n" + signed[len(MARK) :]


def policy_of(bundle: bytes) -> Policy:
    """A policy from a bundle whose signature was found good. ``Refused`` names the field that is wrong."""
    head, settings = _read(parts_of(bundle).signed)
    return Policy(head=head, settings=settings, digest=digest_of(bundle), bundle=bundle)


def digest_of(bundle: bytes) -> str:
    return hashlib.sha256(bundle).hexdigest()


def key_id(public: bytes) -> str:
    """Names a public key (32 bytes, raw)."""
    return hashlib.sha256(public).hexdigest()[:32]


def _read(signed: bytes) -> tuple[PolicyHead, str]:
    line, _, rest = signed[len(MARK) :].partition(b"\n")
    try:
        said = json.loads(line)
        settings = rest.decode()
    except (ValueError, RecursionError) as error:
        raise Refused("head: not one line of JSON, or settings that are not UTF-8") from error
    if not isinstance(said, dict) or said.keys() != _FIELDS:
        raise Refused(f"head: expected {', '.join(sorted(_FIELDS))}")
    if len(rest) > SETTINGS_MAX_BYTES:
        raise Refused(f"settings: {len(rest)} bytes, at most {SETTINGS_MAX_BYTES}")
    return _head(said), settings


def _head(said: dict[str, Any]) -> PolicyHead:
    groups = said["groups"]
    if not isinstance(groups, list) or len(groups) > GROUPS_MAX:
        raise Refused(f"groups: expected at most {GROUPS_MAX}")
    if not all(isinstance(each, str) and _GROUP.match(each) for each in groups):
        raise Refused("groups: expected names or globs of groups")
    fleet, note = said["fleet"], said["note"]
    if not isinstance(fleet, str) or not _DOMAIN.match(fleet):
        raise Refused("fleet: expected the fleet's trust domain")
    if not isinstance(note, str) or len(note) > NOTE_MAX_CHARS:
        raise Refused(f"note: expected text of at most {NOTE_MAX_CHARS} characters")
    head = PolicyHead(
        version=_version("version", said["version"], 1),
        fleet=fleet,
        groups=tuple(groups),
        issued_wall=_wall("issued_wall", said["issued_wall"]),
        not_after_wall=_wall("not_after_wall", said["not_after_wall"]),
        note=note,
        restores=_version("restores", said["restores"], 0),
    )
    if not 0 < head.not_after_wall - head.issued_wall <= VALID_MAX_S:
        raise Refused(f"not_after_wall: expected at most {VALID_MAX_S / 86_400:g} days of validity")
    if head.restores >= head.version:
        raise Refused("restores: expected an earlier version")
    return head


def _version(name: str, value: object, least: int) -> int:
    if type(value) is not int or not least <= value <= VERSION_MAX:
        raise Refused(f"{name}: expected a whole number from {least}")
    return value


def _wall(name: str, value: object) -> float:
    # NaN, which JSON of Python reads, is in no range.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= WALL_MAX:
        raise Refused(f"{name}: expected Unix seconds")
    return float(value)
