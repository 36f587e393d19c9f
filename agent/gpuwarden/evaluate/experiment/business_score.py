"""What a model is worth: its F1, less what its false positives cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Labelled predictions of one window; sums over nodes."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Each None where it does not exist: no positive prediction, or no positive at all."""

    precision: float | None
    recall: float | None
    f1: float | None
    business: float | None


def score(counts: Confusion, *, f1_weight: float = 0.6, false_positive_cost: float = 0.4) -> Score:
    """``f1_weight`` x F1 - ``false_positive_cost`` x (1 - precision).

    F1 = 2TP/(2TP + FP + FN) exists as soon as anything was positive or called so; without a positive
    prediction precision does not, and there is no false positive to pay for.
    """
    tp, fp, fn = counts.true_positives, counts.false_positives, counts.false_negatives
    if min(tp, fp, fn, counts.true_negatives) < 0:
        raise ValueError("counts: expected 0 or more")
    precision = tp / (tp + fp) if tp + fp else None
    recall = tp / (tp + fn) if tp + fn else None
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None
    business = None
    if f1 is not None:
        paid = false_positive_cost * (1 - precision) if precision is not None else 0.0
        business = f1_weight * f1 - paid
    return Score(precision=precision, recall=recall, f1=f1, business=business)
