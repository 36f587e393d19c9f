"""Shares of the next period by Thompson sampling, with an exploration floor that is added."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuwarden.evaluate.experiment import bandit


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCounts:
    """Units of one arm and how many of them succeeded; sums over nodes and periods."""

    units: int
    successes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditSettings:
    """``min_share`` is the floor of every arm; the rest goes by the chance of being best."""

    higher_is_better: bool = True
    min_share: float = 0.10
    min_units_per_arm: int = 100  # before the first move (GrowthBook's burn-in)
    prior: tuple[float, float] = (1.0, 1.0)
    draws: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditShares:
    """``probability_best`` is None while an arm has too few units: shares are then equal."""

    shares: Mapping[str, float]
    probability_best: Mapping[str, float] | None


def next_shares(
    counts: Mapping[str, ArmCounts], settings: BanditSettings, *, seed: int
) -> BanditShares:
    """Shares by arm, summing to 1, none below the floor (or equal, where the floors fill everything).

    Drawn from ``seed`` alone: the same evidence and seed give the same shares after a restart. Where
    lower is better (errors) the failures are what is counted.
    """
    if not counts:
        raise ValueError("counts: expected at least one arm")
    names = sorted(counts)
    for name in names:
        arm = counts[name]
        if not 0 <= arm.successes <= arm.units:
            raise ValueError(f"{name}: {arm.successes} successes of {arm.units} units")
    if any(counts[name].units < settings.min_units_per_arm for name in names):
        return BanditShares(shares={n: 1 / len(names) for n in names}, probability_best=None)
    won, lost = settings.prior
    posterior = []
    for name in names:
        arm = counts[name]
        good, bad = arm.successes, arm.units - arm.successes
        if not settings.higher_is_better:
            good, bad = bad, good
        posterior.append((won + good, lost + bad))
    best = bandit.probability_best(posterior, draws=settings.draws, seed=seed)
    shares = bandit.exploration_floor(best.tolist(), min_share=settings.min_share)
    return BanditShares(
        shares=dict(zip(names, shares, strict=True)),
        probability_best=dict(zip(names, best.tolist(), strict=True)),
    )
