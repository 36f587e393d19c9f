"""``[rollout]`` of the aggregator: how a version gets its share, and how it is taken back."""

import itertools
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from gpuwarden.config_types import Ratio, Seconds, Section


class MlflowConfig(Section):
    """A model registry whose alias follows rollouts."""

    url: str = Field(pattern=r"^https?://[^\s@]+$", max_length=512)
    """Its REST API, without a password in it."""
    token: str = Field(
        default="", max_length=512, pattern=r"^(|credential:[A-Za-z0-9_.-]+|file:/.+)$"
    )
    """Where the bearer is read: ``credential:NAME`` or ``file:/PATH``; empty: none is sent."""
    alias: str = Field(default="champion", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    models: dict[str, str] = Field(default_factory=dict, max_length=256)
    """By service, the registered model."""


class RampConfig(Section):
    """Versions on their way to all traffic."""

    shares_dir: Path | None = None
    """Where the shares of each service are written for a router beside the aggregator, as SERVICE.json."""
    mlflow: MlflowConfig | None = None
    first: Ratio = 0.05
    """The canary's share: one request in twenty shows a doubled p99 within minutes at everyday traffic."""
    steps: tuple[Ratio, ...] = Field(
        default=(0.25, 0.45, 0.65, 0.85, 1.0), min_length=1, max_length=64
    )
    """After it. Steps wider than 20 points take more than a day each, whatever is said here."""
    soak_s: Seconds = 3600.0
    """How long every stage, and every step, has to be known to be well: an hour has the peaks of a minute's and a
    quarter's rhythm in it."""
    cause_s: Seconds = 30.0
    """How long it may take to find out whether the GPUs explain a breach; then a person is asked."""
    floor: Annotated[Ratio, Field(le=0.5)] = 0.1
    """No arm of a bandit gets less: what is not looked at is not learnt (additive, f + (1 - k f) w)."""
    may_undo: bool = False
    """Whether a breach is rolled back without a person."""
    lateness_s: Seconds = 60.0
    """Windows of a node may come so late and still count in an experiment."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Of the always-valid test."""
    srm_alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.001
    """Of the test of the split, at every look together (sequential)."""
    batch_ratio: Ratio = 0.25
    """A rollback goes through the nodes so many at a time, and at least one ..."""
    batch_most: int = Field(default=10, ge=1, le=10_000)
    """... and at most so many."""
    failed_most: int = Field(default=1, ge=0, le=10_000)
    """With more nodes that failed it halts; the others keep what they run."""
    node_s: Seconds = 600.0
    """How long one node may take: stop, start, a large model loaded, twice where it has to go back."""
    probation_s: Seconds = 1800.0
    """A version is good once its guardrails were known to be green for so long."""
    sharp_ratio: Annotated[float, Field(gt=1)] = 3.0
    """Traffic of the fleet so many times more, or less, than usual at the same minute's pace freezes shares ..."""
    sharp_red: Ratio = 0.2
    """... and so large a part of all services turning red at once, of at least ..."""
    sharp_min: int = Field(default=3, ge=1, le=10_000)
    """... so many services."""
    calm_s: Seconds = 3600.0
    """A freeze of the environment is over once nothing has been sharp for so long."""

    @model_validator(mode="after")
    def _rising(self) -> "RampConfig":
        steps = (self.first, *self.steps)
        if any(b <= a for a, b in itertools.pairwise(steps)) or steps[-1] != 1.0:
            raise ValueError("expected steps that rise, from above first to 1")
        return self
