"""Thompson sampling played out, to see what it and its exploration floor cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpuwarden.evaluate.inputs import sample

MOST_PLAYS = 200_000_000
"""Plays x arms of one simulation: about a minute."""
SEED = 20_151


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """Regrets in rewards over the T plays of one run."""

    mean_regret: float
    uniform_play_regret: float
    floor_cost_lower_bound: float


def regret(
    arm_means: Sequence[float],
    *,
    plays: int,
    runs: int,
    prior: tuple[float, float] = (1.0, 1.0),
    min_share: float = 0.0,
    seed: int = SEED,
) -> Regret:
    """Bernoulli Thompson sampling from Beta(``prior``), one play at a time, ``runs`` runs side by side.

    With ``min_share`` f > 0 a play is, with probability k f, uniform over the k arms instead. The mean
    is over runs; ``plays`` is T.
    """
    means = sample(arm_means, "arm_means")
    if ((means < 0) | (means > 1)).any():
        raise ValueError("arm_means: expected numbers from 0 to 1")
    if plays < 1 or runs < 1 or plays * runs * means.size > MOST_PLAYS:
        raise ValueError(f"expected 1 to {MOST_PLAYS} plays x runs x arms")
    if not (prior[0] > 0 and prior[1] > 0 and min_share >= 0):
        raise ValueError("expected a prior above 0 and a share of 0 or more")
    k, best = means.size, float(means.max())
    rng = np.random.default_rng(seed)
    won = np.full((runs, k), float(prior[0]))
    lost = np.full((runs, k), float(prior[1]))
    run, lack = np.arange(runs), best - means
    explore = min(1.0, k * min_share)
    total = 0.0
    for _ in range(plays):
        arm = rng.beta(won, lost).argmax(axis=1)
        if explore > 0:
            arm = np.where(rng.random(runs) < explore, rng.integers(k, size=runs), arm)
        reward = rng.random(runs) < means[arm]
        won[run, arm] += reward
        lost[run, arm] += ~reward
        total += float(lack[arm].sum())
    return Regret(
        mean_regret=total / runs,
        uniform_play_regret=plays * (best - float(means.mean())),
        floor_cost_lower_bound=plays * min_share * float(lack.sum()),
    )
