"""Windows as messages, and back without a doubt: for what was checked when it came (``window_check``)."""

import math
from collections.abc import Collection, Mapping

from gpuwarden.model.evaluation import (
    Categories,
    Cohort,
    Histogram,
    Lack,
    Level,
    Missing,
    Sketch,
    Verdict,
    Window,
)
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import evaluation_pb2 as pb


def to_cohort(cohort: Cohort) -> pb.Cohort:
    return pb.Cohort(
        service=cohort.service, version=cohort.version, arm=cohort.arm, segment=cohort.segment
    )


def of_cohort(message: pb.Cohort) -> Cohort:
    return Cohort(
        service=message.service,
        version=message.version,
        arm=message.arm,
        segment=message.segment,
    )


def to_window(window: Window) -> pb.ServiceWindow:
    """Without a sequence: that is its sender's."""
    return pb.ServiceWindow(
        cohort=to_cohort(window.cohort),
        begin_wall=window.begin_wall,
        length_s=window.length_s,
        revision=window.revision,
        counts=[pb.CountSeries(name=n, value=v) for n, v in window.counts.items()],
        levels=[
            pb.LevelSeries(
                name=name,
                total=each.total,
                count=each.count,
                low=each.low,
                high=each.high,
                last=each.last,
            )
            for name, each in window.levels.items()
        ],
        histograms=[
            pb.HistogramSeries(
                name=name, bounds=each.bounds[:-1], counts=each.counts, total=each.total
            )
            for name, each in window.histograms.items()
        ],
        sketches=[_to_sketch(name, each) for name, each in window.sketches.items()],
        categories=[
            pb.CategorySeries(
                name=name,
                names=[text(each) for each in told.counts],
                counts=told.counts.values(),
                other=told.other,
            )
            for name, told in window.categories.items()
        ],
        lacks=[
            pb.SeriesLack(series=each.series, why=each.why.value, detail=each.detail)
            for each in window.lacks
        ],
        dropped=window.dropped,
    )


def _to_sketch(name: str, sketch: Sketch) -> pb.SketchSeries:
    first, bins = _dense(sketch.bins)
    first_negative, negatives = _dense(sketch.negatives)
    return pb.SketchSeries(
        name=name,
        accuracy=sketch.accuracy,
        first=first,
        bins=bins,
        first_negative=first_negative,
        negatives=negatives,
        zeros=sketch.zeros,
        total=sketch.total,
        low=sketch.low,
        high=sketch.high,
    )


def _dense(bins: Mapping[int, int]) -> tuple[int, list[int]]:
    if not bins:
        return 0, []
    first, last = min(bins), max(bins)
    return first, [bins.get(key, 0) for key in range(first, last + 1)]


def of_window(message: pb.ServiceWindow, names: Collection[str] | None = None) -> Window:
    """``names``: those series alone; None: all."""

    def is_wanted(name: str) -> bool:
        return names is None or name in names

    return Window(
        cohort=of_cohort(message.cohort),
        begin_wall=message.begin_wall,
        length_s=message.length_s,
        revision=message.revision,
        counts={each.name: each.value for each in message.counts if is_wanted(each.name)},
        levels={
            each.name: Level(
                total=each.total,
                count=each.count,
                low=each.low,
                high=each.high,
                last=each.last,
            )
            for each in message.levels
            if is_wanted(each.name)
        },
        histograms={
            each.name: Histogram(
                bounds=(*each.bounds, math.inf),
                counts=tuple(each.counts),
                total=each.total if each.HasField("total") else None,
            )
            for each in message.histograms
            if is_wanted(each.name)
        },
        sketches={each.name: _of_sketch(each) for each in message.sketches if is_wanted(each.name)},
        categories={
            each.name: Categories(
                counts=dict(zip(each.names, each.counts, strict=True)), other=each.other
            )
            for each in message.categories
            if is_wanted(each.name)
        },
        lacks=tuple(
            Lack(series=each.series, why=Missing(each.why), detail=each.detail)
            for each in message.lacks
        ),
        dropped=message.dropped,
    )


def _of_sketch(message: pb.SketchSeries) -> Sketch:
    return Sketch(
        accuracy=message.accuracy,
        bins=_sparse(message.first, message.bins),
        negatives=_sparse(message.first_negative, message.negatives),
        zeros=message.zeros,
        total=message.total,
        low=message.low if message.HasField("low") else None,
        high=message.high if message.HasField("high") else None,
    )


def _sparse(first: int, bins: Collection[int]) -> dict[int, int]:
    return {first + place: number for place, number in enumerate(bins) if number}


def to_verdict(verdict: Verdict) -> pb.GuardrailVerdict:
    return pb.GuardrailVerdict(
        guardrail=verdict.guardrail,
        cohort=to_cohort(verdict.cohort),
        colour=verdict.colour.value,
        since_wall=verdict.since_wall,
        wall=verdict.at_wall,
        value=_finite(verdict.value),
        limit=_finite(verdict.limit),
        missing=verdict.missing.value if verdict.missing is not None else "",
        severity=text(verdict.severity),
        summary=text(verdict.summary),
    )


def _finite(value: float | None) -> float | None:
    """Where nothing ends there is no number: the summary says so."""
    return value if value is not None and math.isfinite(value) else None
