"""Signed policies as bytes: what is read back is what was signed, and nothing else is read at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwarden.adapters.pki.policy_check import checked
from gpuwarden.adapters.pki.signing import load_key, make_key, raw_key, verified
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.wire import policy_text
from tests.policy_bundles import SETTINGS, WALL, Signer, head, resigned

GOOD = Signer()
EVIL = Signer()
BUNDLE = GOOD.bundle(7, groups=("batch-*",), note="why", restores=3)


def test_what_is_signed_is_read_back() -> None:
    policy = verified(BUNDLE, [EVIL.public, GOOD.public])
    assert policy.head == head(7, groups=("batch-*",), note="why", restores=3)
    assert policy.settings == SETTINGS
    assert policy.digest == policy_text.digest_of(BUNDLE)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda b: b.replace(b"8GiB", b"9GiB"), "signature is not that"),
        (lambda b: b.replace(b'"version": 7', b'"version": 8'), "signature is not that"),
        (lambda b: b + b"\n", "signature is not that"),
        (lambda b: b[:-1], "signature is not that"),
        (lambda b: resigned(b, EVIL.key.sign(policy_text.parts_of(b).signed)), "is not that"),
        (lambda b: resigned(b, bytes(64)), "signature is not that"),
        (lambda b: b[: len(b) // 8], "not a signed policy"),
        (lambda b: b"", "not a signed policy"),
        (lambda b: b[1:], "does not begin with its mark"),
        (lambda b: b.replace(b"signature ", b"signature !"), "key or signature line"),
        (lambda b: b.replace(b"policy-1", b"policy-2"), "does not begin with its mark"),
        (lambda b: b + b"#" * policy_text.BUNDLE_MAX_BYTES, "bytes, at most"),
    ],
)
def test_what_was_spoilt_on_the_way_is_refused(spoil: Callable[[bytes], bytes], why: str) -> None:
    with pytest.raises(Refused, match=why):
        verified(spoil(BUNDLE), [GOOD.public])


def test_every_byte_counts() -> None:
    for place in range(len(BUNDLE)):
        spoilt = bytearray(BUNDLE)
        spoilt[place] ^= 1
        with pytest.raises(Refused):
            verified(bytes(spoilt), [GOOD.public])


def test_a_signature_is_written_in_one_way_only() -> None:
    line = BUNDLE.split(b"\n", 3)[2]
    for last in (b"R", b"h", b"x", b"B"):
        if line[-3:-2] != last:
            with pytest.raises(Refused):
                verified(BUNDLE.replace(line, line[:-3] + last + b"=="), [GOOD.public])


def test_a_key_that_is_not_pinned_signs_nothing() -> None:
    with pytest.raises(Refused, match="not pinned here"):
        verified(EVIL.bundle(7), [GOOD.public])
    with pytest.raises(Refused, match="no public key is pinned"):
        verified(BUNDLE, [])


def test_the_child_says_the_same() -> None:
    assert checked(BUNDLE, [EVIL.public, GOOD.public]).head.version == 7
    with pytest.raises(Refused, match="signature is not that"):
        checked(BUNDLE.replace(b"8GiB", b"9GiB"), [GOOD.public])
    with pytest.raises(Refused, match="not pinned here"):
        checked(BUNDLE, [EVIL.public])
    with pytest.raises(Refused, match="no public key is pinned"):
        checked(BUNDLE, [])


SAID = json.loads(BUNDLE.split(b"\n", 4)[3])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"version": 1.5}, "version"),
        ({"version": 2**60}, "version"),
        ({"fleet": ""}, "fleet"),
        ({"fleet": "A/B"}, "fleet"),
        ({"groups": "all"}, "groups"),
        ({"groups": ["a b"]}, "groups"),
        ({"groups": ["x"] * 65}, "groups"),
        ({"note": "x" * 501}, "note"),
        ({"issued_wall": float("nan")}, "issued_wall"),
        ({"not_after_wall": float("inf")}, "not_after_wall"),
        ({"not_after_wall": WALL}, "not_after_wall"),
        ({"not_after_wall": WALL + 500 * 86_400}, "not_after_wall"),
        ({"restores": 7}, "restores"),
        ({"restores": -1}, "restores"),
        ({"more": 1}, "head"),
    ],
)
def test_a_head_that_says_what_none_does_is_refused_even_if_it_is_signed(
    more: dict[str, object], why: str
) -> None:
    line = json.dumps({**SAID, **more}).encode()
    with pytest.raises(Refused, match=why):
        verified(GOOD.raw(line), [GOOD.public])


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b"[" * 100_000, b"{}", b"\xff"])
def test_no_head_at_all(line: bytes) -> None:
    with pytest.raises(Refused, match="head"):
        verified(GOOD.raw(line), [GOOD.public])


def test_settings_that_are_no_text_or_too_much_of_it() -> None:
    line = json.dumps(SAID).encode()
    with pytest.raises(Refused, match="UTF-8"):
        verified(GOOD.raw(line, b"\xff"), [GOOD.public])
    with pytest.raises(Refused, match=r"settings: .* at most"):
        verified(GOOD.raw(line, b"#" * (policy_text.SETTINGS_MAX_BYTES + 1)), [GOOD.public])


def test_what_would_not_be_read_back_is_not_signed() -> None:
    with pytest.raises(Refused):
        GOOD.bundle(0)
    with pytest.raises(Refused):
        GOOD.bundle(1, "#" * (policy_text.SETTINGS_MAX_BYTES + 1))


def test_a_key_lies_where_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    public = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(raw_key(public)) == 32
    with pytest.raises(Refused, match="never overwritten"):
        make_key(path)
    path.chmod(0o640)
    with pytest.raises(Refused, match="others may read it"):
        load_key(path)
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(Unavailable, match="not a private key"):
        load_key(path)
