"""What a KLL sketch may be off by, and the KS test that allows for it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.drift import ks
from gpuwarden.evaluate.inputs import Floats
from gpuwarden.evaluate.sketch import merged


@dataclass(frozen=True, slots=True, kw_only=True)
class RankError:
    """Normalised rank errors, shares of ranks; ``double_sided`` is that of a difference (PMF)."""

    single_sided: float
    double_sided: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchKs:
    """No p-value: within the sketches' own error a distance says nothing."""

    sketch_D: float
    threshold: float
    drift: bool


def rank_error(k: int) -> RankError:
    """2.296/k^0.9723 and 2.446/k^0.9433, as Apache DataSketches states them (99 % of sketches)."""
    if not 8 <= k <= 65_535:
        raise ValueError(f"k: expected 8 to 65535, got {k}")
    return RankError(single_sided=2.296 / k**0.9723, double_sided=2.446 / k**0.9433)


def ks_from_sketches(ref: npt.ArrayLike, cur: npt.ArrayLike, *, k: int, alpha: float) -> SketchKs:
    """Two-sample KS through two KLL sketches.

    Threshold c(alpha) sqrt((n1+n2)/(n1 n2)) + 2 x the single-sided rank error: naive p-values on
    sketches fell to 1e-5 for equal samples (whylogs#684).
    """
    a, b = merged.kll(ref, k=k), merged.kll(cur, k=k)
    limit = ks.two_sample_critical_asymptotic(
        int(a.n), int(b.n), c_alpha=ks.asymptotic_coefficient(alpha)
    )
    threshold = limit + 2 * rank_error(k).single_sided
    d = distance(_kept(a), _kept(b))
    return SketchKs(sketch_D=d, threshold=threshold, drift=d > threshold)


def distance(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> float:
    """Largest difference of two weighted distribution functions, each (ascending values, weights)."""
    points = np.concatenate([a[0], b[0]])
    return float(np.abs(_cdf(a, points) - _cdf(b, points)).max())


def _kept(sketch: object) -> tuple[Floats, Floats]:
    kept = np.array([(value, weight) for value, weight in sketch], dtype=np.float64)  # type: ignore[attr-defined]
    kept = kept[np.argsort(kept[:, 0], kind="stable")]
    return kept[:, 0], kept[:, 1]


def _cdf(side: tuple[Floats, Floats], points: Floats) -> Floats:
    values, weights = side
    below = np.concatenate(([0.0], np.cumsum(weights)))
    return np.asarray(below[np.searchsorted(values, points, side="right")] / below[-1])
