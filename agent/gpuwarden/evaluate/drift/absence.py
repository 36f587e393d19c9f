"""Is an input missing more often than in its profile? A rise alone is news: what comes more often is no harm."""

from dataclasses import dataclass

from gpuwarden.evaluate.drift.findings import DriftSettings
from gpuwarden.evaluate.drift.profile import CategoryProfile, NumericProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Shares of rows in which it was missing, and the chance of so many or more."""

    share: float
    was: float
    p_value: float


def of(
    profile: NumericProfile | CategoryProfile, *, rows: int, missing: int, min_rows: int = 100
) -> Absence | None:
    """By the posterior predictive of the profile's own (Jeffreys' prior): that is itself only a sample. ``rows`` are
    those in which it was there. None: nobody tells what is missing, or too few rows."""
    import scipy.stats

    told = rows + missing
    if not missing or told < min_rows:
        return None
    present = sum(
        profile.counts.values() if isinstance(profile, CategoryProfile) else profile.counts
    )
    present += profile.other if isinstance(profile, CategoryProfile) else 0
    chance = scipy.stats.betabinom.sf(missing - 1, told, profile.missing + 0.5, present + 0.5)
    return Absence(
        share=missing / told,
        was=profile.missing / max(1, profile.missing + present),
        p_value=float(chance),
    )


def is_material(found: Absence, settings: DriftSettings) -> bool:
    """Large enough to matter."""
    return found.share - found.was >= settings.missing_rise
