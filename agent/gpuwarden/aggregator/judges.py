"""The statistics of an experiment, as a rollout asks for them. What is heavy is imported where an experiment is
judged: an aggregator without one does not pay for it."""

import math
from collections.abc import Mapping, Sequence

from gpuwarden.model.ramp import ArmCount
from gpuwarden.policy.fleet.ramp import Trial

DRAWS = 20_000
"""Of the posterior: a share is known to a third of a point."""
LEAST = 100
"""Units of each arm before a bandit moves anything (GrowthBook: 100 users an arm)."""
WORSE_BY = 0.1
"""No worse: the interval of the relative difference in mean latency, and of that in errors, excludes more than this."""


class Judges:
    """Pure; any thread. ``None`` and ``OPEN``: it cannot be told."""

    def split(self, counts: Sequence[int], expected: Sequence[float]) -> float | None:
        """The p of counts against what was promised, valid however often one looks: a Dirichlet mixture against
        the whole of the counts, whose e-value is a martingale under the split (Lindon & Malek 2022)."""
        from gpuwarden.evaluate.experiment import srm_sequential

        if not sum(counts) or len(counts) < 2:
            return None
        total = sum(expected)
        null = [each / total for each in expected]
        found = srm_sequential.dirichlet([list(counts)], null=null, concentration=100.0)
        return found.p[-1]

    def trial(self, base: ArmCount, new: ArmCount, alpha: float) -> Trial:
        """Of mean latency and of errors, each at half of alpha: worse where one is surely worse, no worse where
        both surely are not by much."""
        said = [self._latency(base, new, alpha / 2), self._errors(base, new, alpha / 2)]
        if Trial.WORSE in said:
            return Trial.WORSE
        return Trial.NO_WORSE if all(each is Trial.NO_WORSE for each in said) else Trial.OPEN

    def weights(
        self, base: ArmCount, new: ArmCount, floor: float, seed: int
    ) -> tuple[Mapping[str, float], float] | None:
        """The bandit's shares of both arms (Thompson, additive floor), by requests that went well, and how probably
        the new one is the better."""
        from gpuwarden.evaluate.experiment import bandit

        if min(base.units, new.units) < LEAST:
            return None
        arms = [(1 + max(0.0, a.units - a.errors), 1 + min(a.errors, a.units)) for a in (base, new)]
        best = bandit.probability_best(arms, draws=DRAWS, seed=seed).tolist()
        shares = bandit.exploration_floor(best, min_share=floor)
        return {"base": shares[0], "new": shares[1]}, float(best[1])

    def _latency(self, base: ArmCount, new: ArmCount, alpha: float) -> Trial:
        from gpuwarden.evaluate.experiment import confidence_sequence as cs

        if min(base.timed, new.timed) < 2:
            return Trial.OPEN
        arms = [
            cs.Arm(n=math.floor(a.timed), total=a.total_s, sum_squares=a.square_s)
            for a in (base, new)
        ]
        found = cs.compare(arms[0], arms[1], alpha=alpha, metric="mean")
        return _said(found.ci, WORSE_BY)

    def _errors(self, base: ArmCount, new: ArmCount, alpha: float) -> Trial:
        from gpuwarden.evaluate.experiment import confidence_sequence as cs

        if min(base.units, new.units) < 1:
            return Trial.OPEN
        arms = [
            cs.Arm(
                n=math.floor(a.units),
                total=min(a.errors, math.floor(a.units)),
                sum_squares=a.errors,
            )
            for a in (base, new)
        ]
        found = cs.compare(
            arms[0], arms[1], alpha=alpha, metric="proportion", difference="absolute"
        )
        return _said(found.ci, WORSE_BY / 10)


def _said(interval: tuple[float, float] | None, margin: float) -> Trial:
    """Worse is more: of latency and of errors alike."""
    if interval is None:
        return Trial.OPEN
    low, high = interval
    if low > 0:
        return Trial.WORSE
    return Trial.NO_WORSE if high < margin else Trial.OPEN
