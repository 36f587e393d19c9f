"""Rows that do not fit together as rows used to, where what belongs together is a curve and no plane: the error of a
small autoencoder.

Three hidden layers, of which the middle one is the narrow one: with a single one it would find no more than a PCA does
(Bourlard and Kamp 1988; Kramer 1991). A few hundred weights for a few columns, fitted by SciPy's L-BFGS from a start that
is always the same: no library for deep networks, which weigh a gigabyte, says more of six columns.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuwarden.evaluate.anomaly.reconstruction import learn as learn_plane
from gpuwarden.evaluate.anomaly.reconstruction import table
from gpuwarden.evaluate.inputs import Floats, chance

STEPS = 300
"""Of the fit, at most."""
DECAY = 1e-4
"""Of squared weights in the loss: without it few rows are learnt by heart."""
ROWS_MAX = 2000
"""That are learnt from, evenly: more say no more of so few weights."""
FACTOR = 2
"""The outer hidden layers are so many times as wide as a row."""
COLUMNS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    """Standardised rows are near what the net makes of them."""

    mean: Floats
    scale: Floats  # of each column; 1 where a column is constant
    weights: tuple[Floats, ...]  # of each layer, inputs x outputs; its last row is the bias
    cut: float  # squared error that ``false_share`` of the reference is above


def learn(
    rows: npt.ArrayLike, *, explained: float = 0.9, false_share: float = 0.001, seed: int = 0
) -> Autoencoder:
    """The middle layer is one narrower than the plane that explains ``explained`` of the variance has axes, at least 1.

    Every fifth row is kept for the cut. At least 50 rows, at most 64 columns; ``ValueError`` for anything else.
    """
    import scipy.optimize

    chance(false_share, "false_share")
    x = table(rows)
    if x.shape[1] > COLUMNS_MAX:
        raise ValueError(f"rows: {x.shape[1]} columns, at most {COLUMNS_MAX}")
    plane = learn_plane(x, explained=explained, false_share=false_share)
    held = np.arange(len(x)) % 5 == 4
    known = x[~held][:: max(1, len(x) // ROWS_MAX)]
    z = (known - plane.mean) / plane.scale
    columns, narrow = x.shape[1], max(1, len(plane.axes) - 1)
    sizes = (columns, FACTOR * columns, narrow, FACTOR * columns, columns)
    shapes = [(a + 1, b) for a, b in itertools.pairwise(sizes)]
    random = np.random.default_rng(seed)
    start = np.concatenate(
        [random.normal(0.0, 1.0 / np.sqrt(shape[0]), shape).ravel() for shape in shapes]
    )
    fitted = scipy.optimize.minimize(
        _loss, start, args=(z, shapes), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    )
    found = Autoencoder(
        mean=plane.mean, scale=plane.scale, weights=_layers(fitted.x, shapes), cut=0.0
    )
    cut = float(np.quantile(errors(found, x[held]), 1 - false_share))
    return Autoencoder(
        mean=found.mean, scale=found.scale, weights=found.weights, cut=max(cut, 1e-12)
    )


def residuals(net: Autoencoder, rows: npt.ArrayLike) -> Floats:
    """What the net leaves of each row, columns in sigmas."""
    x = (table(rows, columns=net.mean.size) - net.mean) / net.scale
    return np.asarray(x - _forward(x, net.weights)[-1])


def errors(net: Autoencoder, rows: npt.ArrayLike) -> Floats:
    """Squared distance of each row from what the net makes of it, columns in sigmas."""
    return np.asarray((residuals(net, rows) ** 2).sum(axis=1))


def outliers(net: Autoencoder, rows: npt.ArrayLike) -> tuple[int, ...]:
    """0-based indexes of the rows beyond the cut."""
    return tuple(np.flatnonzero(errors(net, rows) > net.cut).tolist())


def _layers(flat: Floats, shapes: Sequence[tuple[int, int]]) -> tuple[Floats, ...]:
    found, begin = [], 0
    for shape in shapes:
        end = begin + shape[0] * shape[1]
        found.append(flat[begin:end].reshape(shape))
        begin = end
    return tuple(found)


def _forward(x: Floats, weights: Sequence[Floats]) -> list[Floats]:
    """The rows, and what each layer makes of what is before it; the last is linear, the others tanh."""
    every = [x]
    for place, layer in enumerate(weights, 1):
        made = every[-1] @ layer[:-1] + layer[-1]
        every.append(made if place == len(weights) else np.tanh(made))
    return every


def _loss(flat: Floats, x: Floats, shapes: Sequence[tuple[int, int]]) -> tuple[float, Floats]:
    """Mean squared error with decay, and its gradient (backwards, layer by layer)."""
    weights = _layers(flat, shapes)
    every = _forward(x, weights)
    left = every[-1] - x
    loss = float((left**2).sum()) / x.size + DECAY * float(flat @ flat)
    slope = 2.0 * left / x.size
    parts: list[Floats] = []
    for place in range(len(weights) - 1, -1, -1):
        before = every[place]
        parts.append(np.vstack([before.T @ slope, slope.sum(axis=0)]).ravel())
        if place:
            slope = (slope @ weights[place][:-1].T) * (1.0 - before**2)
    gradient = np.concatenate(parts[::-1]) + 2.0 * DECAY * flat
    return loss, gradient
