"""Policies for tests: keys made on the spot, heads with a word changed, bundles signed by the real code."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gpuwarden.adapters.pki.signing import public_of, sign
from gpuwarden.model.policy import PolicyHead
from gpuwarden.wire import policy_text

WALL = 1_700_000_000.0
DAY_S = 86_400.0
SETTINGS = '[default]\nmemory = "8GiB"\n'


class Signer:
    """Who has a key."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.public = public_of(self.key)

    def bundle(self, version: int = 1, settings: str = SETTINGS, **more: object) -> bytes:
        return sign(self.key, head(version, **more), settings)

    def raw(self, line: bytes, settings: bytes = b"") -> bytes:
        """A good signature over whatever is said to be a head."""
        signed = policy_text.MARK + line + b"\n" + settings
        name = policy_text.key_id(self.key.public_key().public_bytes_raw())
        return policy_text.bundle_of(signed, name, self.key.sign(signed))


def head(version: int = 1, **more: object) -> PolicyHead:
    values: dict[str, object] = {
        "fleet": "gpuwarden",
        "issued_wall": WALL,
        "not_after_wall": WALL + DAY_S,
        **more,
    }
    return PolicyHead(version=version, **values)  # type: ignore[arg-type]


def resigned(bundle: bytes, signature: bytes) -> bytes:
    """The same bundle under another signature."""
    mark, key, _, rest = bundle.split(b"\n", 3)
    line = b"signature " + base64.b64encode(signature)
    return b"\n".join([mark, key, line, rest])
