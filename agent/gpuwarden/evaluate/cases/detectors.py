"""Methods that run a stream detector: alarm indexes, or rates over runs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from gpuwarden.evaluate.cases import series
from gpuwarden.evaluate.cases.fields import Fields, number
from gpuwarden.evaluate.drift import alarm_rates, cusum, ecdd, gma, stepd
from gpuwarden.evaluate.inputs import Floats

Alarms = Callable[[Floats], list[int]]
Answer = dict[str, Any]


def alarms(make: Callable[[Fields], Alarms]) -> Callable[[Fields, Fields], Answer]:
    """Method that answers alarm indexes of every run of ``stream``."""

    def answer(given: Fields, params: Fields) -> Answer:
        detect = make(params)
        return {"alarms": [detect(run) for run in _runs(given)]}

    return answer


def rates(make: Callable[[Fields], Alarms]) -> Callable[[Fields, Fields], Answer]:
    """Method that answers false alarms, detection rate and delay over the runs of ``stream``."""

    def answer(given: Fields, params: Fields) -> Answer:
        detect = make(params)
        drift_at = given.whole("drift_at", or_none=True)
        found = _runs(given)
        return asdict(
            alarm_rates.rates(
                [detect(run) for run in found], length=found[0].size, drift_at=drift_at
            )
        )

    return answer


def _runs(given: Fields) -> list[Floats]:
    return series.runs(given.get("stream"), f"{given.path}.stream")


Reader = Callable[[Fields, str], Any]


def _number(p: Fields, key: str) -> float:
    return p.number(key)


def _count(p: Fields, key: str) -> int:
    value = p.whole(key)
    if not 0 <= value <= 100_000_000:
        raise ValueError(f"{p.path}.{key}: expected 0 to 1e8, got {value}")
    return value


def _count_or_none(p: Fields, key: str) -> int | None:
    return None if p.get(key) is None else _count(p, key)


def _flag(p: Fields, key: str) -> bool:
    return p.flag(key)


def _mode(p: Fields, key: str) -> str:
    return p.word(key, ("up", "down", "both"))


SETTINGS: Mapping[str, Mapping[str, Reader]] = {
    "adwin": {
        "delta": _number,
        "clock": _count,
        "max_buckets": _count,
        "min_window_length": _count,
        "grace_period": _count,
    },
    "ddm": {"warm_start": _count, "warning_threshold": _number, "drift_threshold": _number},
    "eddm": {"warm_start": _count, "alpha": _number, "beta": _number},
    "fhddm": {
        "sliding_window_size": _count,
        "confidence_level": _number,
        "short_window_size": _count_or_none,
    },
    "hddm_a": {"drift_confidence": _number, "warning_confidence": _number, "two_sided_test": _flag},
    "hddm_w": {
        "drift_confidence": _number,
        "warning_confidence": _number,
        "lambda": _number,
        "two_sided_test": _flag,
    },
    "kswin": {"alpha": _number, "window_size": _count, "stat_size": _count, "seed": _count},
    "page_hinkley": {
        "min_instances": _count,
        "delta": _number,
        "threshold": _number,
        "alpha": _number,
        "mode": _mode,
    },
}
"""The settings of each of river's detectors and how each is read."""


def stream(name: str) -> Callable[[Fields], Alarms]:
    """One of river's detectors, a new one for each run."""

    def make(params: Fields) -> Alarms:
        from gpuwarden.evaluate.drift import stream as detectors  # a second of imports

        settings = {key: read(params, key) for key, read in SETTINGS[name].items()}
        detectors.check(name, settings)
        is_error = name in detectors.ERRORS_ONLY

        def detect(run: Floats) -> list[int]:
            values: list[Any] = run.tolist()
            if is_error:
                if not set(values) <= {0.0, 1.0}:
                    raise ValueError(f"{name}: expected a stream of 0 and 1")
                values = [value > 0 for value in values]
            return detectors.alarms(name, values, settings)

        return detect

    return make


def make_cusum(params: Fields) -> Alarms:
    n, delta = params.whole("min_instances"), params.number("delta")
    threshold = params.number("threshold")
    return lambda run: cusum.alarms(run.tolist(), min_instances=n, delta=delta, threshold=threshold)


def make_gma(params: Fields) -> Alarms:
    n, alpha = params.whole("min_instances"), params.number("alpha")
    threshold = params.number("threshold")
    return lambda run: gma.alarms(run.tolist(), min_instances=n, alpha=alpha, threshold=threshold)


def make_stepd(params: Fields) -> Alarms:
    size, alpha = params.whole("window_size"), params.number("alpha_drift")
    return lambda run: stepd.alarms(run.tolist(), window_size=size, alpha_drift=alpha)


def make_ecdd(params: Fields) -> Alarms:
    polynomial = []
    for index, term in enumerate(params.items("limit_polynomial")):
        place = f"{params.path}.limit_polynomial[{index}]"
        if not isinstance(term, list) or len(term) != 2:
            raise ValueError(f"{place}: expected a pair [c, e]")
        polynomial.append((number(term[0], place), number(term[1], place)))
    weight, n = params.number("lambda"), params.whole("min_instances")
    return lambda run: ecdd.alarms(
        run.tolist(), weight=weight, limit_polynomial=polynomial, min_instances=n
    )
