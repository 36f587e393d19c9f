"""What belongs together on a curve: found by the small net where a plane says nothing, and quiet where nothing is odd."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from gpuwarden.evaluate.anomaly import autoencoder, reconstruction
from gpuwarden.evaluate.anomaly.autoencoder import _loss
from gpuwarden.evaluate.inputs import Floats


def curve(seed: int, n: int) -> Floats:
    """Load, what it makes of latency (a knee) and of power (it saturates), each with a little noise."""
    r = np.random.default_rng(seed)
    load = r.uniform(-2, 2, n)
    rows = np.column_stack([load, load**2, np.tanh(2 * load)])
    return np.asarray(rows + r.normal(0, 0.05, rows.shape))


ODD = np.array([[0.0, 2.0, 0.0], [1.8, 1.0, 1.0], [-1.0, 1.0, 1.0]])
"""Each number is usual by itself; no load makes all three."""


def test_rows_off_the_curve_are_found_and_those_on_it_are_not() -> None:
    net = autoencoder.learn(curve(1, 1000))
    assert autoencoder.outliers(net, ODD) == (0, 1, 2)
    fresh = curve(2, 5000)
    assert len(autoencoder.outliers(net, fresh)) <= 50  # one in a thousand, as far as 200 rows tell
    plane = reconstruction.learn(curve(1, 1000), explained=0.9)
    assert reconstruction.outliers(plane, ODD) != (0, 1, 2)
    share = autoencoder.errors(net, fresh).mean() / reconstruction.errors(plane, fresh).mean()
    assert share < 0.5


def test_the_same_rows_make_the_same_net() -> None:
    one, other = autoencoder.learn(curve(3, 300)), autoencoder.learn(curve(3, 300))
    assert one.cut == other.cut
    for a, b in zip(one.weights, other.weights, strict=True):
        assert np.array_equal(a, b)


def test_the_gradient_is_that_of_the_loss() -> None:
    r = np.random.default_rng(4)
    shapes, x = [(4, 6), (7, 1), (2, 6), (7, 3)], r.normal(size=(20, 3))
    flat = r.normal(size=sum(a * b for a, b in shapes))
    numeric = scipy.optimize.approx_fprime(flat, lambda w: _loss(w, x, shapes)[0], 1e-6)
    assert np.allclose(_loss(flat, x, shapes)[1], numeric, atol=1e-4)


def test_a_column_that_never_moves_and_one_column_alone_are_no_trouble() -> None:
    still = np.column_stack([curve(5, 200), np.full(200, 7.0)])
    net = autoencoder.learn(still)
    assert np.isfinite(autoencoder.errors(net, still)).all()
    alone = autoencoder.learn(curve(6, 100)[:, :1])
    assert np.isfinite(autoencoder.errors(alone, [[0.5]])).all()


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((10, 3)),
        np.full((60, 2), np.nan),
        np.array([[np.inf, 1.0]] * 60),
        np.zeros((60, 65)),
        np.zeros(60),
    ],
)
def test_what_is_no_table_is_refused(rows: Floats) -> None:
    with pytest.raises(ValueError, match="rows"):
        autoencoder.learn(rows)


def test_rows_of_another_width_are_refused() -> None:
    net = autoencoder.learn(curve(7, 100))
    with pytest.raises(ValueError, match="3 columns"):
        autoencoder.errors(net, [[1.0, 2.0]])
