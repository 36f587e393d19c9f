"""``[[retrain]]`` of the aggregator: when a service's model is to be trained again, and who is asked to do it."""

from typing import Annotated

from pydantic import Field, model_validator

from gpuwarden.config_addresses import HookAddress, SecretRef
from gpuwarden.config_oncall import ExecConfig, WebSinkConfig
from gpuwarden.config_types import Ratio, Seconds, Section


class RetrainWebhookConfig(WebSinkConfig):
    """Whoever trains, by HTTP; with ``secret`` every request is signed (HMAC-SHA256) as those of on-call are."""

    name: str = "retrain"
    url: HookAddress
    secret: SecretRef | None = None
    token: SecretRef | None = None
    """Bearer token."""


class RetrainExecConfig(ExecConfig):
    """A command of the operator's own: no shell, the evidence as JSON on its standard input."""

    name: str = "retrain"


class RetrainConfig(Section):
    """One service. Without ``webhook`` and ``exec`` people are told, and nobody else."""

    service: str = Field(min_length=1, max_length=128)
    every_s: Annotated[Seconds, Field(ge=600)] | None = None
    """By the calendar; unset: not."""
    accuracy_drop: Annotated[Ratio, Field(gt=0)] | None = 0.05
    """Absolute, and the whole interval has to be beyond it."""
    drifted_share: Annotated[Ratio, Field(gt=0)] | None = 0.3
    """Of the features."""
    incremental_labels: int | None = Field(default=None, ge=1, le=10**9)
    """So many new labels make a small step; unset: there are none."""
    full_drop: Ratio = 0.10
    """A small step does not mend more than this."""
    labels_min: int = Field(default=200, ge=0, le=10**9)
    """A full training that a trigger asks for waits for so many new labels."""
    cooldown_s: Annotated[Seconds, Field(ge=60)] = 86_400.0
    """After a training was asked for, whatever asks again."""
    accuracy_over_s: Annotated[Seconds, Field(ge=60, le=14 * 86_400)] = 86_400.0
    """The accuracy of now is that of so long."""
    baseline: Ratio | None = None
    """What the accuracy should be; unset: that of the first ``baseline_labels`` labels after the last training."""
    baseline_labels: int = Field(default=1000, ge=20, le=10**7)
    attempts: int = Field(default=3, ge=1, le=5)
    """Of one decision, where the hook cannot be reached."""
    webhook: RetrainWebhookConfig | None = None
    exec: RetrainExecConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> "RetrainConfig":
        if self.webhook is not None and self.exec is not None:
            raise ValueError("expected webhook or exec, not both: a decision is carried out once")
        if self.every_s is not None and self.every_s < self.cooldown_s:
            raise ValueError("expected every_s of at least cooldown_s")
        asks = (self.every_s, self.accuracy_drop, self.drifted_share, self.incremental_labels)
        if all(each is None for each in asks):
            raise ValueError(
                "expected one of every_s, accuracy_drop, drifted_share, incremental_labels"
            )
        if not self.service.isprintable():
            raise ValueError("service: expected printable characters")
        return self
