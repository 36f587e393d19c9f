"""How good a model is: classification, regression, ranking, latency; one value at a time, in bounded memory.

Classification and regression are river's, which is required already, pinned, and works on streams; scikit-learn would be 9 MB
more for the same figures on whole arrays. River has no ranking figures: those three are written from their definitions.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from river import metrics

CLASSES_MAX = 1000
"""River keeps counts of each pair of classes that was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Figures by name; None: not defined for what was seen."""

    count: int
    left_out: int
    """Pairs with something that is no label, or no finite number."""
    figures: Mapping[str, float | None]


def classification(pairs: Iterable[tuple[str, str]], *, positive: str | None = None) -> Quality:
    """Of (truth, prediction). ``positive``: also precision, recall and F1 of this one label."""
    matrix = metrics.ConfusionMatrix()
    whole = {
        "accuracy": metrics.Accuracy(cm=matrix),
        "balanced_accuracy": metrics.BalancedAccuracy(cm=matrix),
        "macro_precision": metrics.MacroPrecision(cm=matrix),
        "macro_recall": metrics.MacroRecall(cm=matrix),
        "macro_f1": metrics.MacroF1(cm=matrix),
        "cohen_kappa": metrics.CohenKappa(cm=matrix),
    }
    binary = {
        "precision": metrics.Precision(),
        "recall": metrics.Recall(),
        "f1": metrics.F1(),
        "mcc": metrics.MCC(),
    }
    count = left_out = 0
    classes: set[str] = set()
    for truth, prediction in pairs:
        if not truth or not prediction or len(classes | {truth, prediction}) > CLASSES_MAX:
            left_out += 1
            continue
        classes |= {truth, prediction}
        count += 1
        matrix.update(truth, prediction)
        if positive is not None:
            for each in binary.values():
                each.update(truth == positive, prediction == positive)
    figures = {name: _told(each, count) for name, each in whole.items()}
    if len(classes) < 2:
        figures["cohen_kappa"] = None
    if positive is not None:
        figures |= {name: _told(each, count) for name, each in binary.items()}
    return Quality(count=count, left_out=left_out, figures=figures)


def probabilistic(pairs: Iterable[tuple[bool, float]]) -> Quality:
    """Of (truth, probability that it is true): log loss, Brier's score, and the area under the ROC curve in 100 steps."""
    log_loss, roc = metrics.LogLoss(), metrics.ROCAUC(n_thresholds=100)
    squares = 0.0
    count = left_out = positives = 0
    for truth, probability in pairs:
        if not 0 <= probability <= 1:
            left_out += 1
            continue
        count += 1
        positives += truth
        squares += (truth - probability) ** 2
        log_loss.update(truth, probability)
        roc.update(truth, probability)
    both = 0 < positives < count
    return Quality(
        count=count,
        left_out=left_out,
        figures={
            "log_loss": _told(log_loss, count),
            "brier": squares / count if count else None,
            "roc_auc": _told(roc, count) if both else None,
        },
    )


def regression(pairs: Iterable[tuple[float, float]]) -> Quality:
    """Of (truth, prediction): mean absolute and root mean squared error, R2, mean absolute error in percent."""
    used = {
        "mae": metrics.MAE(),
        "rmse": metrics.RMSE(),
        "r2": metrics.R2(),
        "mape_percent": metrics.MAPE(),
    }
    count = left_out = 0
    truths: tuple[float, float] = (math.inf, -math.inf)
    has_zero = False
    for truth, prediction in pairs:
        if not math.isfinite(truth) or not math.isfinite(prediction):
            left_out += 1
            continue
        count += 1
        truths = (min(truths[0], truth), max(truths[1], truth))
        has_zero = has_zero or truth == 0
        for each in used.values():
            each.update(truth, prediction)
    figures = {name: _told(each, count) for name, each in used.items()}
    if not truths[0] < truths[1]:
        figures["r2"] = None  # nothing varies that could be explained
    if has_zero:
        figures["mape_percent"] = None  # a share of nothing
    return Quality(count=count, left_out=left_out, figures=figures)


def ranking(queries: Iterable[Sequence[float]], *, at: int = 10) -> Quality:
    """Of the relevance (0 and more) of what was shown, in the order it was shown; a query is all that could be shown.

    nDCG with gains 2^relevance - 1 (Burges et al. 2005), mean average precision and mean reciprocal rank with relevant
    meaning above 0, each of the first ``at`` places. Queries without anything relevant are left out, as nothing could
    have been ranked well.
    """
    functions: dict[str, Callable[[Sequence[float], int], float]] = {
        "ndcg": _ndcg,
        "map": _average_precision,
        "mrr": _reciprocal_rank,
    }
    totals = dict.fromkeys(functions, 0.0)
    count = left_out = 0
    for shown in queries:
        if not any(value > 0 for value in shown) or not all(0 <= value <= 100 for value in shown):
            left_out += 1
            continue
        count += 1
        for name, function in functions.items():
            totals[name] += function(shown, at)
    return Quality(
        count=count,
        left_out=left_out,
        figures={name: total / count if count else None for name, total in totals.items()},
    )


def _ndcg(shown: Sequence[float], at: int) -> float:
    def gained(order: Sequence[float]) -> float:
        return math.fsum((2**value - 1) / math.log2(k + 2) for k, value in enumerate(order[:at]))

    return gained(shown) / gained(sorted(shown, reverse=True))


def _average_precision(shown: Sequence[float], at: int) -> float:
    hits, total = 0, 0.0
    for place, value in enumerate(shown[:at], 1):
        if value > 0:
            hits += 1
            total += hits / place
    return total / min(at, sum(value > 0 for value in shown))


def _reciprocal_rank(shown: Sequence[float], at: int) -> float:
    return next((1 / place for place, value in enumerate(shown[:at], 1) if value > 0), 0.0)


def _told(metric: metrics.base.Metric, count: int) -> float | None:
    if not count:
        return None
    value = float(metric.get())
    return value if math.isfinite(value) else None
