"""Which features of which segments have drifted: sure after correction, and large enough to matter."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuwarden.evaluate.drift import multiplicity
from gpuwarden.evaluate.drift.feature import FeatureScore

Key = tuple[str, str]
"""Segment and feature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """One setting for a fleet; the level of each round follows from the budget of pages."""

    pages_per_day: float = 0.01  # of the whole fleet, from chance alone: 0.3 in 30 days
    material_psi: float = 0.1  # nats; Siddiqi's "moderate"
    material_wasserstein_norm: float = 0.25  # sigmas of the reference
    material_js: float = 0.1  # distance, base e; of categories
    missing_rise: float = 0.05  # share of rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """A finding, with what a person needs to believe it."""

    segment: str
    feature: str
    adjusted_p: float
    score: FeatureScore


def level(settings: DriftSettings, *, rounds_per_day: float) -> float:
    """False discovery rate of one round: of rounds in which nothing has changed, this share pages.

    A test that is run again every hour is repeated testing; so the day's budget is divided among its
    rounds, over all services.
    """
    if not rounds_per_day > 0:
        raise ValueError(f"rounds_per_day: expected a number above 0, got {rounds_per_day:g}")
    return min(0.05, settings.pages_per_day / rounds_per_day)


def find(
    scores: Mapping[Key, FeatureScore], settings: DriftSettings, *, q: float
) -> tuple[Drifted, ...]:
    """Drifted features, the surest first, by Benjamini-Hochberg at ``q`` over all features and segments.

    A p-value alone is not enough, nor is an effect alone; a feature without p is not tested.
    """
    tested = {key: score for key, score in scores.items() if score.p_value is not None}
    if not tested:
        return ()
    adjusted = multiplicity.adjusted([score.p_value or 0.0 for score in tested.values()])
    found = [
        Drifted(segment=segment, feature=feature, adjusted_p=float(p), score=score)
        for ((segment, feature), score), p in zip(tested.items(), adjusted, strict=True)
        if p <= q and is_material(score, settings)
    ]
    return tuple(sorted(found, key=lambda each: (each.adjusted_p, each.segment, each.feature)))


def is_material(score: FeatureScore, settings: DriftSettings) -> bool:
    """Numbers must have moved in sigmas as well as in shares; a constant and categories by shares."""
    if score.wasserstein_norm is None:
        return score.psi >= settings.material_psi and score.js_distance >= settings.material_js
    return score.psi >= settings.material_psi and (
        score.wasserstein_norm >= settings.material_wasserstein_norm
        or score.missing_share >= settings.missing_rise
    )
