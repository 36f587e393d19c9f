"""``[drift]`` of the aggregator: when what models are fed, or how often they are wrong, has changed."""

from typing import Literal

from pydantic import Field

from gpuwarden.config_types import Ratio, Seconds, Section


class DriftConfig(Section):
    """One setting for the whole fleet. Features need a profile; errors are held against their own past."""

    rows: int = Field(default=1000, ge=100, le=10_000_000)
    """A feature is judged once so many values of it have come: a shift of half a standard deviation shows in one
    such window."""
    round_s: Seconds = Field(default=60.0, ge=60.0, le=86_400.0)
    """... and no more often than this: what chance alone may say a day is divided among a day's rounds."""
    pages_per_day: float = Field(default=0.02, gt=0, le=10)
    """Of the whole fleet, from chance alone: 0.6 in a month. Half of it is for features, the rest for errors."""
    psi: float = Field(default=0.1, gt=0, le=10)
    """Least index (nats) that matters, and ..."""
    sigma: float = Field(default=0.25, gt=0, le=100)
    """... by how many standard deviations of the profile a number has to have moved as well."""
    loss: Ratio = 0.025
    """Of accuracy, the least that matters."""
    then: Literal["page", "tell", "ignore"] = "tell"
    """Who is told of it."""
    holds_rollouts: bool = True
    """Whether a rollout, and a gate, of a version waits while it drifts; and whether many at once freeze all shares."""
