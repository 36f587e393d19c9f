"""Ed25519 keys of policies: made, signed with and checked by the ``cryptography`` library. The aggregator has
public keys alone; an agent checks in a child (``policy_check``) and loads none of this."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.policy import Policy, PolicyHead
from gpuwarden.wire import policy_text

PREFIX = "ed25519:"
KEY_MAX_BYTES = 4096


def make_key(path: Path) -> str:
    """A new private key in a file that only its owner may read; its public key. ``Refused`` where one lies."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise Refused(f"{path}: there is a file already; a key is never overwritten") from error
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    return public_of(key)


def load_key(path: Path) -> Ed25519PrivateKey:
    """``Refused`` when others may read it, ``Unavailable`` when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if os.fstat(fd).st_mode & 0o077:
                raise Refused(f"{path}: others may read it; chmod 600 it, and think of a new key")
            loaded = serialization.load_pem_private_key(file.read(KEY_MAX_BYTES), None)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unavailable(f"{path}: not a private key of gpuwarden policy keygen") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise Unavailable(f"{path}: not an Ed25519 key")
    return loaded


def public_of(key: Ed25519PrivateKey) -> str:
    """As configurations name it."""
    return PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def sign(key: Ed25519PrivateKey, head: PolicyHead, settings: str) -> bytes:
    """The bundle."""
    signed = policy_text.signed_bytes(head, settings)
    name = policy_text.key_id(key.public_key().public_bytes_raw())
    return policy_text.bundle_of(signed, name, key.sign(signed))


def verified(bundle: bytes, keys: Sequence[str]) -> Policy:
    """The policy, when one of these public keys has signed it; ``Refused`` says why not."""
    parts = policy_text.parts_of(bundle)
    if not keys:
        raise Refused("no public key is pinned here: policies are not taken")
    for text in keys:
        raw = raw_key(text)
        if policy_text.key_id(raw) != parts.key:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(parts.signature, parts.signed)
        except InvalidSignature as error:
            raise Refused("the signature is not that of the key it names") from error
        return policy_text.policy_of(bundle)
    raise Refused(f"signed with key {parts.key}, which is not pinned here")


def raw_key(text: str) -> bytes:
    """The 32 bytes of a public key; ``Refused`` for what is none."""
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError as error:
        raise Refused(f"not a public key: {text[:80]!r}") from error
    if len(raw) != 32:
        raise Refused(f"not a public key of 32 bytes: {text[:80]!r}")
    return raw
