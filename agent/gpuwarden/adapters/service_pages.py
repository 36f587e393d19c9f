"""Services for load balancers, autoscalers and Prometheus: /fit/SERVICE, and their part of the metrics page."""

import json
import math
from collections import Counter

from gpuwarden.adapters.exposition import Page, labels
from gpuwarden.model.evaluation import Colour, Verdict
from gpuwarden.model.fitness import ServicesView, Standing

SERVICES_MAX = 200
"""On the metrics page, by name; of more than these only how many."""


def fit(view: ServicesView, service: str) -> tuple[int, bytes]:
    """200: requests may be sent there; 503: not, or nothing is known (``fit`` null); 404: it was never told of."""
    standing = view.services.get(service)
    if standing is None:
        status = 503 if view.note else 404
        why = view.note or "nothing was ever told of it"
        return status, _json({"service": service, "fit": None, "colour": "unknown", "why": why})
    is_fit = None if view.note else standing.is_fit
    said: dict[str, object] = {
        "service": standing.service,
        "fit": is_fit,
        "colour": standing.colour.value,
        "why": view.note or standing.why,
        "since": standing.since_wall,
        "age_s": _rounded(standing.age_s),
        "versions": standing.versions,
        "nodes": standing.nodes,
        "requests_per_s": _rounded(standing.requests_per_s),
        "queue_length": _rounded(standing.queue_length),
        "gpu_utilization": _rounded(standing.gpu_utilization),
        "verdicts": [_verdict(each) for each in standing.verdicts],
    }
    return (200 if is_fit else 503), _json(said)


def _verdict(verdict: Verdict) -> dict[str, object]:
    cohort = verdict.cohort
    said: dict[str, object] = {
        name: value
        for name, value in (
            ("version", cohort.version),
            ("arm", cohort.arm),
            ("segment", cohort.segment),
        )
        if value
    }
    return {
        "guardrail": verdict.guardrail,
        **said,
        "colour": verdict.colour.value,
        "value": _rounded(verdict.value),
        "limit": _rounded(verdict.limit),
        "missing": None if verdict.missing is None else verdict.missing.value,
        "since": verdict.since_wall,
    }


def _rounded(value: float | None) -> float | None:
    """Six digits; what is not finite is no number in JSON."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _json(said: dict[str, object]) -> bytes:
    return json.dumps(said, ensure_ascii=True).encode("ascii") + b"\n"


def of_services(page: Page, view: ServicesView) -> None:
    """Their gauges; labels are services of the fleet and guardrails of the configuration, a bounded number."""
    shown = [view.services[name] for name in sorted(view.services)[:SERVICES_MAX]]
    page.gauge("services", "Services that are judged.", len(view.services))
    page.gauge(
        "services_unshown",
        f"Services beyond the {SERVICES_MAX} of this page.",
        len(view.services) - len(shown),
    )
    page.gauge(
        "services_unjudged",
        "1 while what other aggregators hold is not known, and no service is judged.",
        bool(view.note),
    )
    colours = page.family(
        "service_colour", "gauge", "1 for what a service is: green, red or unknown."
    )
    for each in shown:
        for colour in Colour:
            said = labels((("service", each.service), ("colour", colour.value)))
            colours.add(said, each.colour is colour)
    fit = page.family(
        "service_fit", "gauge", "1: requests may be sent there; 0: not; absent: not known."
    )
    for each in shown:
        if each.is_fit is not None:
            fit.add(labels((("service", each.service),)), each.is_fit)
    _guardrails(page, shown)
    for each in shown:
        said = labels((("service", each.service),))
        for name, text, number in (
            ("data_age_seconds", "Since the end of the newest window.", each.age_s),
            ("requests_per_second", "Of all nodes, lately.", each.requests_per_s),
            ("queue_length", "Mean of the nodes, lately.", each.queue_length),
            ("gpu_utilization_ratio", "Mean of the devices it holds.", each.gpu_utilization),
        ):
            page.gauge(f"service_{name}", text, number, said)


def _guardrails(page: Page, shown: list[Standing]) -> None:
    family = page.family(
        "service_guardrail",
        "gauge",
        "Parts of a service (versions, arms, segments, the whole) of which a guardrail says so.",
    )
    for each in shown:
        counts = Counter((v.guardrail, v.severity, v.colour) for v in each.verdicts)
        for (guardrail, severity, colour), number in sorted(counts.items()):
            said = (
                ("service", each.service),
                ("guardrail", guardrail),
                ("severity", severity),
                ("colour", colour.value),
            )
            family.add(labels(said), number)
