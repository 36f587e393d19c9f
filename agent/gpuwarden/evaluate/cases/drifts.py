"""Methods on two samples, many tests, run lengths, outliers and scores of detectors."""

import math
from dataclasses import asdict
from typing import Any

from gpuwarden.evaluate.anomaly import iqr, k_sigma, robust_z
from gpuwarden.evaluate.cases import series
from gpuwarden.evaluate.cases.fields import Fields, shown
from gpuwarden.evaluate.drift import (
    chi_square,
    classifier,
    divergence,
    effect,
    harness,
    ks,
    multiplicity,
    psi,
    run_length,
    sample_scores,
    wasserstein,
)
from gpuwarden.evaluate.inputs import Floats

Answer = dict[str, Any]


def _samples(given: Fields) -> tuple[Floats, Floats]:
    return series.pair(given, "samples", "ref", "cur")


def ks_one_sample(given: Fields, params: Fields) -> Answer:
    return {"critical_D": ks.one_sample_critical(given.whole("n"), alpha=params.number("alpha"))}


def ks_two_sample(given: Fields, params: Fields) -> Answer:
    n1, n2 = given.whole("n1"), given.whole("n2")
    return asdict(ks.two_sample_critical(n1, n2, alpha=params.number("alpha")))


def ks_two_sample_asymptotic(given: Fields, params: Fields) -> Answer:
    critical = ks.two_sample_critical_asymptotic(
        given.whole("n1"), given.whole("n2"), c_alpha=params.number("c_alpha")
    )
    return {"critical_D": critical}


def ks_coefficient(given: Fields, params: Fields) -> Answer:
    return {"c_alpha": ks.asymptotic_coefficient(params.number("alpha"))}


def ks_effect(given: Fields, params: Fields) -> Answer:
    ref, cur = _samples(given)
    return asdict(
        effect.effect(
            ref,
            cur,
            alpha=params.number("alpha"),
            psi_bins=params.whole("psi_bins"),
            psi_floor=params.number("psi_floor"),
            material_wasserstein_norm=params.number("material_wasserstein_norm"),
        )
    )


def _labels(given: Fields, key: str) -> list[tuple[str, Any]]:
    labels = given.items(key)
    for index, label in enumerate(labels):
        if not isinstance(label, str | int | float | None) or not _is_finite(label):
            raise ValueError(f"{given.path}.{key}[{index}]: expected a label, got {shown(label)}")
    return [(type(label).__name__, label) for label in labels]  # true, 1 and "1" are three labels


def _is_finite(label: str | float | None) -> bool:
    return not isinstance(label, float) or math.isfinite(label)


def chi_square_two_sample(given: Fields, params: Fields) -> Answer:
    correction = params.flag("continuity_correction")
    ref, cur = _labels(given, "ref"), _labels(given, "cur")
    return asdict(chi_square.from_labels(ref, cur, continuity_correction=correction))


def psi_samples(given: Fields, params: Fields) -> Answer:
    params.word("bin_rule", ("reference_quantiles",))
    ref, cur = _samples(given)
    return {
        "psi": psi.from_samples(ref, cur, bins=params.whole("bins"), floor=params.number("floor"))
    }


def wasserstein_1d(given: Fields, params: Fields) -> Answer:
    params.word("norm", ("population_std_of_ref",))
    return asdict(wasserstein.distances(*_samples(given)))


def scores(given: Fields, params: Fields) -> Answer:
    params.word("bins", ("sturges_pooled",))
    ref, cur = _samples(given)
    return asdict(
        sample_scores.scores(
            ref,
            cur,
            zero_share_floor=params.number("zero_share_floor"),
            distance_from=params.number("distance_from"),
            alpha=params.number("alpha"),
        )
    )


def share_divergences(given: Fields, params: Fields) -> Answer:
    return asdict(
        divergence.divergences(
            given.numbers("ref_shares"),
            given.numbers("cur_shares"),
            moderate_from=params.number("moderate_from"),
            major_from=params.number("major_from"),
        )
    )


def classifier_null(given: Fields, params: Fields) -> Answer:
    if not params.flag("balanced"):
        raise ValueError("params.balanced: only balanced classes are known here")
    return asdict(classifier.null(given.whole("n_test"), alpha=params.number("alpha")))


def benjamini_hochberg(given: Fields, params: Fields) -> Answer:
    found = multiplicity.benjamini_hochberg(given.numbers("p_values"), q=params.number("q"))
    return asdict(found)


def familywise(given: Fields, params: Fields) -> Answer:
    return asdict(multiplicity.familywise(given.whole("tests"), alpha=params.number("alpha")))


def cusum_run_length(given: Fields, params: Fields) -> Answer:
    mu = given.number("mu")
    return {"arl": run_length.cusum(mu, k=params.number("k"), h=params.number("h"))}


def ewma_run_length(given: Fields, params: Fields) -> Answer:
    mu = given.number("mu")
    return {"arl": run_length.ewma(mu, weight=params.number("lambda"), limit=params.number("L"))}


def k_sigma_run_length(given: Fields, params: Fields) -> Answer:
    return {"arl": run_length.k_sigma(given.number("mu"), k=params.number("k"))}


def iqr_fences(given: Fields, params: Fields) -> Answer:
    params.word("quantile_rule", ("rank_p_times_n_plus_1",))
    return asdict(
        iqr.fences(
            given.numbers("values"),
            inner_factor=params.number("inner_factor"),
            outer_factor=params.number("outer_factor"),
        )
    )


def k_sigma_outliers(given: Fields, params: Fields) -> Answer:
    k, ddof = params.number("k"), params.whole("ddof")
    return asdict(k_sigma.outliers(given.numbers("values"), k=k, ddof=ddof))


def robust_scores(given: Fields, params: Fields) -> Answer:
    return asdict(
        robust_z.robust_z(
            given.numbers("values"),
            constant=params.number("constant"),
            meanad_constant=params.number("meanad_constant"),
            cut=params.number("cut"),
        )
    )


def harness_match(given: Fields, params: Fields) -> Answer:
    return asdict(
        harness.match(
            given.wholes("alarms"), given.wholes("drifts"), delta_max=params.whole("delta_max")
        )
    )


def harness_metric(given: Fields, params: Fields) -> Answer:
    value = harness.score(
        params.word("metric", tuple(harness.SCORES)),
        given.wholes("alarms"),
        given.wholes("drifts"),
        delta_max=params.whole("delta_max"),
        n_samples=given.whole("n_samples", or_none=True),
    )
    return {"value": value}
