"""Methods on arms and canaries: sample ratio, sequential tests, bandits, scores."""

from dataclasses import asdict
from typing import Any, cast

from gpuwarden.evaluate.cases import series
from gpuwarden.evaluate.cases.fields import Fields, number, unfit
from gpuwarden.evaluate.experiment import (
    bandit,
    canary_samples,
    canary_score,
    confidence_sequence,
    measured,
    msprt,
    peeking,
    srm,
    srm_sequential,
    thompson,
)

Answer = dict[str, Any]


def srm_chi_square(given: Fields, params: Fields) -> Answer:
    return asdict(
        srm.chi_square(
            given.wholes("observed"),
            given.numbers("expected_ratio"),
            alpha=params.number("alpha"),
        )
    )


def srm_practical_gate(given: Fields, params: Fields) -> Answer:
    return asdict(
        srm.practical_gate(
            given.wholes("observed"),
            given.numbers("expected_ratio"),
            alpha=params.number("alpha"),
            min_relative_deviation=params.number("min_relative_deviation"),
        )
    )


def srm_exact_binomial(given: Fields, params: Fields) -> Answer:
    params.word("alternative", ("two-sided",))
    p = srm.exact_binomial(given.wholes("observed"), given.numbers("expected_ratio"))
    return {"p_value": p}


def srm_dirichlet(given: Fields, params: Fields) -> Answer:
    batches = []
    for index, batch in enumerate(given.items("batches")):
        batches.append(Fields({"batch": batch}, f"{given.path}.batches[{index}]").wholes("batch"))
    found = srm_sequential.dirichlet(
        batches,
        null=params.numbers("null"),
        prior_mean=params.numbers("prior_mean"),
        concentration=params.number("concentration"),
    )
    at = params.wholes("at_batches")
    if any(not 1 <= batch <= len(found.p) for batch in at):
        raise ValueError(f"params.at_batches: expected numbers from 1 to {len(found.p)}")
    return {
        "p": [found.p[batch - 1] for batch in at],
        "first_batch_below_0.05": found.first_below(0.05),
        "first_batch_below_0.001": found.first_below(0.001),
    }


def srm_peeking(given: Fields, params: Fields) -> Answer:
    rate = peeking.srm(
        given.whole("looks"),
        given.whole("users_per_look"),
        alpha=params.number("alpha"),
        split=params.pair("split"),
    )
    return {"false_alarm_rate": rate}


def repeated_significance(given: Fields, params: Fields) -> Answer:
    rate = peeking.repeated_significance(given.whole("looks"), alpha=params.number("alpha"))
    return {"false_positive_rate": rate}


def _arm(fields: Fields) -> confidence_sequence.Arm:
    return confidence_sequence.Arm(
        n=fields.whole("n"), total=fields.number("sum"), sum_squares=fields.number("sum_squares")
    )


def confidence_compare(given: Fields, params: Fields) -> Answer:
    metric = params.word("metric", ("mean", "proportion"))
    difference = params.word("difference", ("relative", "absolute"))
    return asdict(
        confidence_sequence.compare(
            _arm(given.fields("a")),
            _arm(given.fields("b")),
            alpha=params.number("alpha"),
            tuning_n=params.whole("tuning_N"),
            metric=cast(confidence_sequence.Metric, metric),
            difference=cast(confidence_sequence.Difference, difference),
        )
    )


def confidence_width(given: Fields, params: Fields) -> Answer:
    return asdict(
        confidence_sequence.width(
            given.whole("n"), alpha=params.number("alpha"), tuning_n=params.whole("tuning_N")
        )
    )


def msprt_normal(given: Fields, params: Fields) -> Answer:
    x, y = series.pair(given, "samples", "x", "y")
    found = msprt.normal(
        x,
        y,
        sigma=params.number("sigma"),
        tau2=params.number("tau2"),
        theta0=params.number("theta0"),
        alpha=params.number("alpha"),
        at_n=params.wholes("at_n"),
    )
    return {"lambda": found.likelihood_ratio, "p": found.p, "first_n": found.first_n}


def bandit_floor(given: Fields, params: Fields) -> Answer:
    shares = bandit.exploration_floor(
        given.numbers("weights"), min_share=params.number("min_share")
    )
    return {"shares": shares}


def beta_better(given: Fields, params: Fields) -> Answer:
    if not params.flag("prior_included"):
        raise ValueError("params.prior_included: only posterior parameters are known here")
    p = bandit.probability_better(given.pair("arm_a"), given.pair("arm_b"))
    return {"p_b_better": p}


def regret_bound(given: Fields, params: Fields) -> Answer:
    return asdict(bandit.regret_lower_bound(given.numbers("arm_means"), plays=params.whole("T")))


def thompson_regret(given: Fields, params: Fields) -> Answer:
    return asdict(
        thompson.regret(
            given.numbers("arm_means"),
            plays=params.whole("T"),
            runs=params.whole("runs"),
            prior=params.pair("prior"),
            min_share=params.number("min_share"),
        )
    )


def canary_group_score(given: Fields, params: Fields) -> Answer:
    metrics = []
    for index, item in enumerate(given.items("metrics")):
        fields = Fields(item, f"{given.path}.metrics[{index}]")
        group = fields.get("group")
        if not isinstance(group, str):
            raise unfit(f"{fields.path}.group", "a name", group)
        verdict = cast(
            canary_score.Class, fields.word("class", tuple(sorted(canary_score.CLASSES)))
        )
        metrics.append(
            canary_score.Judged(group=group, verdict=verdict, critical=fields.flag("critical"))
        )
    weights = given.get("weights")
    if not isinstance(weights, dict):
        raise unfit(f"{given.path}.weights", "an object", weights)
    return {
        "score": canary_score.score(
            metrics,
            {name: number(w, f"{given.path}.weights.{name}") for name, w in weights.items()},
            nodata_share_that_fails=params.number("nodata_share_that_fails"),
        )
    }


def canary_two_sample(given: Fields, params: Fields) -> Answer:
    params.word("mann_whitney", ("asymptotic_tie_continuity",))
    params.word("ks", ("exact",))
    return asdict(
        canary_samples.statistics(
            series.single(given.get("canary"), f"{given.path}.canary"),
            series.single(given.get("baseline"), f"{given.path}.baseline"),
        )
    )


def failure_limit(given: Fields, params: Fields) -> Answer:
    limit = params.whole("failure_limit")
    return {"outcome": measured.failure_limit(given.whole("failures"), limit=limit)}


def at_count(given: Fields, params: Fields) -> Answer:
    return {
        "outcome": measured.at_count(
            failure_limit_violated=given.flag("failure_limit_violated"),
            consecutive_success_limit_satisfied=given.flag("consecutive_success_limit_satisfied"),
        )
    }
