"""``[evaluation]`` of the aggregator: how much is kept of services' numbers, and what silence means."""

from typing import Literal

from pydantic import Field

from gpuwarden.config_guardrails import ScoreConfig
from gpuwarden.config_types import Seconds, Section


class EvaluationConfig(Section):
    """What nodes tell of services, merged and judged by ``[[guardrail]]``."""

    keep_s: Seconds = Field(default=93_600.0, ge=3600.0, le=14 * 86_400)
    """Windows of so long are kept: a day, and the two hours that its first are compared with."""
    fine_mib: int = Field(default=256, ge=8, le=65_536)
    """Memory for the newest quarter of an hour; what does not fit is dropped, the oldest first, and counted."""
    archive_mib: int = Field(default=128, ge=8, le=65_536)
    """The same for what is older: some 1 KiB a minute and cohort with one sketch."""
    cohorts_max: int = Field(default=2000, ge=1, le=100_000)
    """Services x versions x arms x segments."""
    queue_mib: int = Field(default=64, ge=1, le=4096)
    """Messages with windows that wait to be looked at; beyond it the oldest are dropped and counted."""
    silent_after_s: Seconds = Field(default=180.0, ge=30.0)
    """A service of which no window has come for so long is silent: no data is never good news ..."""
    silent: Literal["page", "tell", "ignore"] = "tell"
    """... and who is told of it."""
    forget_s: Seconds = Field(default=86_400.0, ge=600.0)
    """A service of which nothing has come for so long is forgotten."""
    review_mib: int = Field(default=16, ge=1, le=4096)
    """Of the store, for predictions that wait for people (some 400 bytes each, and what the client gives to find the
    input by); beyond it the largest segment gives up the least doubtful, which is counted."""
    review_times: float = Field(default=4.0, ge=1, le=100)
    """After a drift verdict so many times as many predictions of that segment go there; 1: no more than usual ..."""
    review_raise_s: Seconds = Field(default=21_600.0, le=7 * 86_400)
    """... for so long: what a day's reviewers can look at is there by then."""
    score: ScoreConfig = ScoreConfig()
    """The business score of a service's labels."""
