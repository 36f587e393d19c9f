"""``[[guardrail]]``: red lines of services; the same table for the agent and the aggregator, and the default pack.

What stands in a file takes the place of the default of the same name; ``enabled = false`` takes it away.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from gpuwarden.config_types import Seconds, Section
from gpuwarden.model.guardrail import Guardrail, Judge, OnMissing, Side, Then


def _expression(text: str) -> str:
    # Imported where there is one to look at: most nodes have none.
    from gpuwarden.evaluate.fast.expression import parse

    return parse(text).text


class GuardrailConfig(Section):
    """One red line. Each key is that of ``model.guardrail.Guardrail``; what is unset has its default."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    enabled: bool = True
    expression: Annotated[str, AfterValidator(_expression)] | None = Field(
        default=None, max_length=400
    )
    """Unset: that of the default of this name."""
    limit: float | None = Field(default=None, ge=-1e15, le=1e15, allow_inf_nan=False)
    side: Literal["above", "below"] | None = None
    judge: Literal["limit", "shift", "decline"] | None = None
    over_s: Annotated[Seconds, Field(ge=0.2, le=7200)] | None = None
    enter_s: Annotated[Seconds, Field(le=86_400)] | None = None
    leave_s: Annotated[Seconds, Field(le=86_400)] | None = None
    min_support: float | None = Field(default=None, ge=0, le=1e12)
    missing: Literal["unknown", "red"] | None = None
    hold_red_s: Annotated[Seconds, Field(le=86_400)] | None = None
    past_s: Annotated[Seconds, Field(ge=600, le=7 * 86_400)] | None = None
    step_s: Annotated[Seconds, Field(ge=10, le=3600)] | None = None
    evidence_z: float | None = Field(default=None, ge=2, le=20)
    spread_min: float | None = Field(default=None, ge=0, le=2)
    least: float | None = Field(default=None, ge=0, le=1e15)
    severity: Literal["info", "warning", "error", "critical"] | None = None
    then: Literal["tell", "page", "review", "cleaning"] | None = None
    services: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=64)
    by_segment: bool | None = None
    is_fast: bool | None = Field(default=None, alias="fast")
    unit: str | None = Field(default=None, max_length=32)

    @model_validator(mode="after")
    def _whole(self) -> "GuardrailConfig":
        if not self.enabled or self.name in DEFAULT_NAMES:
            return self
        lacking = [key for key in ("expression", "limit") if getattr(self, key) is None]
        if lacking:
            raise ValueError(f"expected {' and '.join(lacking)}: there is no default {self.name}")
        return self

    def said(self) -> dict[str, Any]:
        """What the file says, in the words of the model."""
        words = self.model_dump(exclude_none=True, exclude={"enabled"})
        for key, kind in (("side", Side), ("judge", Judge), ("missing", OnMissing), ("then", Then)):
            if key in words:
                words[key] = kind(words[key])
        return words


class ScoreConfig(Section):
    """The business score: ``f1_weight`` x F1 - ``false_positive_cost`` x (1 - precision)."""

    f1_weight: float = Field(default=0.6, ge=0, le=1e6)
    false_positive_cost: float = Field(default=0.4, ge=0, le=1e6)


DEFAULTS: dict[str, dict[str, Any]] = {
    # The latency objective of most online services; Flagger's own default limit of p99 is 500 ms as well.
    "latency-p99": {
        "expression": "p99(latency_s)",
        "limit": 0.5,
        "over_s": 10.0,
        "enter_s": 1.0,
        "leave_s": 30.0,
        "min_support": 20,
        "severity": "error",
        "then": Then.PAGE,
        "by_segment": True,
        "is_fast": True,
        "unit": "s",
    },
    "latency-p99-shift": {
        "expression": "p99(latency_s)",
        "judge": Judge.SHIFT,
        "limit": 1.5,
        "evidence_z": 4.5,
        "least": 0.01,
        "min_support": 100,
        "past_s": 14_400.0,
        "step_s": 30.0,
        "leave_s": 120.0,
        "severity": "error",
        "then": Then.PAGE,
        "unit": "s",
    },
    "error-rate": {
        "expression": "errors / requests",
        "limit": 0.05,
        "over_s": 60.0,
        "leave_s": 120.0,
        "min_support": 50,
        "severity": "error",
        "then": Then.PAGE,
        "by_segment": True,
        "is_fast": True,
    },
    "error-rate-shift": {
        "expression": "errors / requests",
        "judge": Judge.SHIFT,
        "limit": 2.2,
        "least": 0.01,
        "min_support": 100,
        "past_s": 14_400.0,
        "step_s": 30.0,
        "leave_s": 120.0,
        "severity": "error",
        "then": Then.PAGE,
    },
    # Half of what came in the past hours has gone: a router's mistake, or the callers'.
    "qps-drop": {
        "expression": "growth(rate(requests))",
        "limit": 0.3,
        "side": Side.BELOW,
        "over_s": 300.0,
        "enter_s": 60.0,
        "past_s": 3600.0,
        "step_s": 60.0,
        "severity": "warning",
        "then": Then.TELL,
    },
    "queue-length": {
        "expression": "mean(queue_length)",
        "limit": 100.0,
        "over_s": 60.0,
        "enter_s": 60.0,
        "severity": "warning",
        "is_fast": True,
    },
    # A reservation that is wasted: under 30 % of the devices it holds, for 5 minutes.
    "gpu-wasted": {
        "expression": "mean(gpu_utilization)",
        "limit": 0.3,
        "side": Side.BELOW,
        "over_s": 60.0,
        "enter_s": 300.0,
        "leave_s": 300.0,
        "severity": "info",
        "is_fast": True,
    },
    "gpu-throttled": {
        "expression": "mean(gpu_throttled)",
        "limit": 0.25,
        "over_s": 60.0,
        "enter_s": 60.0,
        "severity": "warning",
        "is_fast": True,
    },
    # Five points below what the service's own labels said before: by evidence, not by the clock.
    "accuracy-drop": {
        "expression": "correct / labels",
        "judge": Judge.DECLINE,
        "side": Side.BELOW,
        "limit": 0.05,
        "min_support": 1000,
        "step_s": 60.0,
        "past_s": 86_400.0,
        "leave_s": 0.0,
        "severity": "error",
        "then": Then.PAGE,
    },
    "accuracy-hour": {
        "expression": "drop(correct / labels)",
        "limit": 0.05,
        "over_s": 3600.0,
        "enter_s": 0.0,
        "leave_s": 600.0,
        "min_support": 1000,
        "past_s": 86_400.0,
        "step_s": 600.0,
        "severity": "warning",
    },
    "label-coverage": {
        "expression": "labels / predictions",
        "limit": 0.95,
        "side": Side.BELOW,
        "over_s": 3600.0,
        "enter_s": 3600.0,
        "leave_s": 600.0,
        "min_support": 100,
        "severity": "warning",
        "then": Then.REVIEW,
    },
    "missing-fields": {
        "expression": "missing_fields / fields",
        "limit": 0.05,
        "over_s": 300.0,
        "leave_s": 300.0,
        "min_support": 100,
        "severity": "warning",
        "then": Then.CLEANING,
        "by_segment": True,
    },
    "low-confidence": {
        "expression": "low_confidence / predictions",
        "limit": 0.2,
        "over_s": 300.0,
        "leave_s": 300.0,
        "min_support": 100,
        "severity": "warning",
        "then": Then.REVIEW,
        "by_segment": True,
    },
    "crash-rate": {
        "expression": "restarts",
        "limit": 2.0,
        "over_s": 600.0,
        "leave_s": 600.0,
        "min_support": 0,
        "severity": "error",
        "then": Then.PAGE,
    },
    "complaints": {
        "expression": "complaints / requests",
        "limit": 0.01,
        "over_s": 3600.0,
        "leave_s": 3600.0,
        "min_support": 500,
        "severity": "warning",
    },
    "opt-outs": {
        "expression": "opt_outs / requests",
        "limit": 0.01,
        "over_s": 3600.0,
        "leave_s": 3600.0,
        "min_support": 500,
        "severity": "warning",
    },
}
"""The default pack, by name. The limits of rows without a comment are this product's own."""
DEFAULT_NAMES = frozenset(DEFAULTS)


def pack(configured: tuple[GuardrailConfig, ...]) -> tuple[Guardrail, ...]:
    """The guardrails in force: the defaults, each changed by what the file says of its name, and the file's own."""
    told = {each.name: each for each in configured}
    found = []
    for name in [*DEFAULTS, *(name for name in told if name not in DEFAULTS)]:
        said = told.get(name)
        if said is not None and not said.enabled:
            continue
        words = {**DEFAULTS.get(name, {}), **(said.said() if said is not None else {})}
        found.append(Guardrail(**{**words, "name": name}))
    return tuple(found)
