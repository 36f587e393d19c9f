"""Which arm a unit belongs to: by its hash, so that every router and every restart says the same.

The unit is a user, an account, a device: never a request, or one user would see both arms.
"""

import hashlib
import math
from collections.abc import Mapping


def arm_of(experiment: str, unit_id: str, shares: Mapping[str, float]) -> str:
    """The arm of one unit under these shares (numbers of 0 or more, any sum above 0).

    Each arm draws an exponential time from the hash of (experiment, unit, arm), divided by its share; the
    earliest wins (weighted rendezvous hashing). When one arm's share grows, units move into it and
    between no others; when it shrinks, only its own units leave. An arm without share wins nobody,
    and no table of units is kept. Other experiments draw independently.
    """
    best, earliest = "", math.inf
    for arm in sorted(shares):
        share = shares[arm]
        if not 0 <= share < math.inf:
            raise ValueError(f"shares.{arm}: expected 0 or more, got {share:g}")
        if share and (time := _draw(experiment, unit_id, arm) / share) < earliest:
            best, earliest = arm, time
    if not best:
        raise ValueError("shares: no arm has a share")
    return best


def _draw(experiment: str, unit_id: str, arm: str) -> float:
    """Exponential of mean 1 from the first 53 bits of a hash; the parts cannot run into each other."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (experiment, unit_id, arm):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    u = (int.from_bytes(digest.digest(), "big") >> 11) / 2**53
    return -math.log1p(-u)
