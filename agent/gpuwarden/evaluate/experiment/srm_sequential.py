"""Sequential sample ratio test that may be looked at after every batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from gpuwarden.evaluate.inputs import Floats, positive, ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialSrm:
    """``p`` after each batch: a running minimum, at most 1, valid at every look."""

    p: tuple[float, ...]

    def first_below(self, level: float) -> int | None:
        """0-based index of the first batch with p < ``level``."""
        return next((index for index, p in enumerate(self.p) if p < level), None)


def dirichlet(
    batches: Sequence[Sequence[int]],
    *,
    null: Sequence[float],
    prior_mean: Sequence[float] | None = None,
    concentration: float,
) -> SequentialSrm:
    """Multinomial test with a Dirichlet mixture (Lindon & Malek 2022; ssrm-test).

    ``batches`` holds the new counts of each arm. ln B = lnG(sum a) - sum lnG(a) + sum lnG(a + N)
    - lnG(sum a + sum N) - sum N ln null, a = ``concentration`` x ``prior_mean`` (the null where not
    given), N = counts so far; p = running minimum of min(1, 1/B). Traffic in an arm whose null share is
    0 is impossible under the null: p is 0 from there on.
    """
    log_b = log_factors(batches, null=null, prior_mean=prior_mean, concentration=concentration)
    p = np.exp(-np.clip(log_b, 0.0, None))
    return SequentialSrm(p=tuple(np.minimum.accumulate(p).tolist()))


def log_factors(
    batches: Sequence[Sequence[int]],
    *,
    null: Sequence[float],
    prior_mean: Sequence[float] | None = None,
    concentration: float,
) -> Floats:
    """ln B after each batch, infinite from the first impossible count on.

    B averages to 1 under the null at every batch: factors of independent stretches multiply.
    """
    shares = ratio(null, "null")
    prior = shares if prior_mean is None else ratio(prior_mean, "prior_mean")
    a = positive(concentration, "concentration") * prior
    new = _table(batches, shares.size)
    if prior.size != shares.size:
        raise ValueError(f"prior_mean: expected {shares.size} numbers, got {prior.size}")
    n = np.cumsum(new, axis=0)
    leaked = n[:, shares == 0].any(axis=1)
    used = shares > 0
    if (a[used] <= 0).any():
        raise ValueError("prior_mean: an arm with a share under the null has none in the prior")
    a, n, shares = a[used], n[:, used], shares[used]
    log_b = (
        scipy.special.gammaln(a.sum())
        - scipy.special.gammaln(a).sum()
        + scipy.special.gammaln(a + n).sum(axis=1)
        - scipy.special.gammaln(a.sum() + n.sum(axis=1))
        - n @ np.log(shares)
    )
    return np.asarray(np.where(leaked, np.inf, log_b))


def _table(batches: Sequence[Sequence[int]], arms: int) -> Floats:
    if not batches or any(len(batch) != arms for batch in batches):
        raise ValueError(f"batches: expected at least one, each with {arms} counts")
    table = np.asarray(batches, dtype=np.float64)
    if not np.isfinite(table).all() or (table < 0).any() or (table != np.floor(table)).any():
        raise ValueError("batches: expected whole numbers of 0 or more")
    return table
