"""Method -> the function that answers it, and one case from JSON to JSON."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from gpuwarden.evaluate.cases import detectors, drifts, experiments, sketches
from gpuwarden.evaluate.cases.fields import Fields, shown

Method = Callable[[Fields, Fields], dict[str, Any]]

METHODS: Mapping[str, Method] = {
    **{name: detectors.alarms(detectors.stream(name)) for name in detectors.SETTINGS},
    **{f"{name}_rates": detectors.rates(detectors.stream(name)) for name in detectors.SETTINGS},
    "cusum": detectors.alarms(detectors.make_cusum),
    "gma": detectors.alarms(detectors.make_gma),
    "stepd": detectors.alarms(detectors.make_stepd),
    "ecdd": detectors.alarms(detectors.make_ecdd),
    "cusum_average_run_length": drifts.cusum_run_length,
    "ewma_average_run_length": drifts.ewma_run_length,
    "k_sigma_average_run_length": drifts.k_sigma_run_length,
    "ks_one_sample_critical_value": drifts.ks_one_sample,
    "ks_two_sample_critical_value": drifts.ks_two_sample,
    "ks_two_sample_critical_value_asymptotic": drifts.ks_two_sample_asymptotic,
    "ks_asymptotic_coefficient": drifts.ks_coefficient,
    "ks_with_effect_size": drifts.ks_effect,
    "chi_square_two_sample": drifts.chi_square_two_sample,
    "psi_from_samples": drifts.psi_samples,
    "wasserstein_1d": drifts.wasserstein_1d,
    "sample_drift_scores": drifts.scores,
    "share_divergences": drifts.share_divergences,
    "classifier_two_sample_null": drifts.classifier_null,
    "benjamini_hochberg": drifts.benjamini_hochberg,
    "familywise_false_alarm": drifts.familywise,
    "iqr_fences": drifts.iqr_fences,
    "k_sigma": drifts.k_sigma_outliers,
    "robust_z": drifts.robust_scores,
    "drift_harness_match": drifts.harness_match,
    "drift_harness_metric": drifts.harness_metric,
    "srm_chi_square": experiments.srm_chi_square,
    "srm_practical_gate": experiments.srm_practical_gate,
    "srm_exact_binomial": experiments.srm_exact_binomial,
    "srm_sequential_dirichlet": experiments.srm_dirichlet,
    "srm_peeking": experiments.srm_peeking,
    "repeated_significance_inflation": experiments.repeated_significance,
    "asymptotic_confidence_sequence": experiments.confidence_compare,
    "confidence_sequence_width": experiments.confidence_width,
    "msprt_normal": experiments.msprt_normal,
    "bandit_exploration_floor": experiments.bandit_floor,
    "beta_probability_best": experiments.beta_better,
    "regret_lower_bound": experiments.regret_bound,
    "thompson_regret": experiments.thompson_regret,
    "canary_group_score": experiments.canary_group_score,
    "canary_two_sample_statistics": experiments.canary_two_sample,
    "rollout_failure_limit": experiments.failure_limit,
    "rollout_at_count": experiments.at_count,
    "ddsketch_log_mapping": sketches.ddsketch_log_mapping,
    "ddsketch_merge": sketches.ddsketch_merge,
    "kll_merge": sketches.kll_merge,
    "kll_rank_error": sketches.kll_rank_error,
    "ks_from_sketches": sketches.ks_sketches,
    "fleet_percentile": sketches.percentile,
}
"""Every method of the reference cases; parameters come from the case alone."""


def answer(case: Any) -> dict[str, Any]:
    """``{"id", "got", "unsupported"}`` of one case; what cannot be answered says why, and never raises.

    NaN and infinities never leave: an answer that holds one is no answer.
    """
    name = case.get("id") if isinstance(case, dict) else None
    reply: dict[str, Any] = {
        "id": name if isinstance(name, str) or (type(name) is int) else None,
        "got": None,
        "unsupported": None,
    }
    try:
        fields = Fields(case, "case")
        method = fields.get("method")
        if not isinstance(method, str) or method not in METHODS:
            raise ValueError(f"no method {shown(method)}")
        got = METHODS[method](fields.fields("input"), fields.fields("params"))
        _demand_finite(got, "got")
    except (ArithmeticError, ValueError, TypeError) as error:
        reply["unsupported"] = f"{error}" or type(error).__name__
    except (MemoryError, RecursionError) as error:
        reply["unsupported"] = f"too large: {type(error).__name__}"
    else:
        reply["got"] = got
    return reply


def _demand_finite(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            _demand_finite(each, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for each in value:
            _demand_finite(each, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: the answer is not finite")
