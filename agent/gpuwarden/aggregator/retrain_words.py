"""A decision about training in words for people, and as plain data for whoever trains."""

from collections.abc import Sequence
from typing import Any

from gpuwarden.aggregator.retrain_record import WHY_MAX_CHARS
from gpuwarden.config_retrain import RetrainConfig
from gpuwarden.evaluate.quality.retrain import ModelState, Reason, RetrainDecision
from gpuwarden.model.drift import DriftState, DriftVerdict
from gpuwarden.model.retrain import RetrainRecord, Turn

NAMES_SHOWN = 50


def why(decision: RetrainDecision) -> str:
    words = {
        Reason.SCHEDULED: "{value:.0f} s since the last training (every {limit:.0f} s)",
        Reason.ACCURACY: "accuracy is at least {value:.3f} below its baseline (limit {limit:g})",
        Reason.DRIFT: "{value:.0%} of the features have drifted (limit {limit:.0%}): {detail}",
        Reason.LABELS: "{value:.0f} new labels (wanted: {limit:.0f})",
    }
    return "; ".join(
        words[each.reason].format(value=each.value, limit=each.limit, detail=each.detail)
        for each in decision.evidence
    )


def said(record: RetrainRecord | None) -> str:
    if record is None:
        return ""
    ends = {
        Turn.INTENDED: "is being asked for",
        Turn.DELIVERED: f"was asked for ({record.said})",
        Turn.TOLD: "should be done (no hook is set)",
        Turn.FAILED: f"could not be asked for: {record.said}",
        Turn.UNKNOWN: f"may have been asked for: {record.said}",
    }
    return f"{record.training} training {ends[record.turn]}; {record.why}"


def evidence(
    cfg: RetrainConfig,
    record: RetrainRecord,
    decision: RetrainDecision,
    model: ModelState,
    verdicts: Sequence[DriftVerdict],
) -> dict[str, Any]:
    """For whoever trains: plain data, bounded."""
    return {
        "schema": 1,
        "id": record.id,
        "service": cfg.service,
        "training": record.training,
        "wall": record.wall,
        "why": record.why,
        "evidence": [
            {
                "reason": each.reason.value,
                "value": each.value,
                "limit": each.limit,
                "detail": each.detail,
            }
            for each in decision.evidence
        ],
        "accuracy": {
            "baseline": model.accuracy_baseline,
            "low": model.accuracy_low,
            "high": model.accuracy_high,
        },
        "new_labels": model.new_labels,
        "drift": [
            {
                "version": each.cohort.version,
                "segment": each.cohort.segment,
                "features": list(each.drifted[:NAMES_SHOWN]),
                "summary": each.summary[:WHY_MAX_CHARS],
                "since_wall": each.since_wall,
            }
            for each in verdicts[:NAMES_SHOWN]
            if each.state is DriftState.DRIFT
        ],
    }
