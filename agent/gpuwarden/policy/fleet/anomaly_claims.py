"""What people are told of anomalies: warnings at most, one a service and one for all GPUs. Plain values alone."""

from collections.abc import Iterable

from gpuwarden.model.anomaly import TOGETHER, AnomalyView, Layer, OddDevice, Oddity
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim

NAMED = 3
GPUS = "gpus unlike their peers"
WORDS = {
    "requests_per_s": "requests a second",
    "error_ratio": "errors",
    "latency_p50_s": "latency (median)",
    "latency_p95_s": "latency (95th percentile)",
    "gpu_utilization": "use of its GPUs",
    "queue_length": "requests that wait",
    "temperature_c": "temperature",
    "power_w": "power",
}
_FORMS = {
    "requests_per_s": ".4g",
    "error_ratio": ".2%",
    "gpu_utilization": ".0%",
    "queue_length": ".4g",
}
_UNITS = {"requests_per_s": "/s", "latency_p50_s": " s", "latency_p95_s": " s"}
_DEVICE_UNITS = {"temperature_c": "C", "power_w": "W"}


def claims(view: AnomalyView, then: str) -> tuple[FleetClaim, ...]:
    """Nothing where ``then`` is ``ignore``."""
    if then == "ignore":
        return ()
    found = []
    for service, said in sorted(view.services.items()):
        if said.findings:
            summary = f"service {service}: {_joined(map(oddity, said.findings))}"
            found.append(_claim(f"anomaly {service}", summary, 1))
    if view.devices:
        nodes = len({each.node for each in view.devices})
        found.append(_claim(GPUS, _joined(map(device, view.devices)), nodes))
    return tuple(found)


def oddity(each: Oddity) -> str:
    """In a few words, without since when: a summary is not to change by the minute for that."""
    if each.series == TOGETHER:
        how = (
            "its series do not fit together as they used to"
            if each.layer is Layer.RECONSTRUCTION
            else "a state of all its series that was never seen"
        )
        return f"{how} ({each.detail})"
    stretch = " for long" if each.layer is Layer.WINDOW else ""
    text = f"{WORDS[each.series]}{stretch} {number(each.series, each.value)}"
    return f"{text}, at this hour usually {number(each.series, each.usual)}"


def device(each: OddDevice) -> str:
    unit = _DEVICE_UNITS[each.series]
    return (
        f"node {each.node} GPU {each.index} ({each.model}): {WORDS[each.series]} {each.value:.0f} {unit},"
        f" {each.count} peers at the same work {each.peers:.0f} {unit}"
    )


def number(series: str, value: float | None) -> str:
    """With its unit; ``-`` for what is not known."""
    if value is None:
        return "-"
    return format(value, _FORMS.get(series, ".3g")) + _UNITS.get(series, "")


def _claim(key: str, summary: str, count: int) -> FleetClaim:
    return FleetClaim(key=key, severity=Severity.WARNING, summary=summary, count=count)


def _joined(parts: Iterable[str]) -> str:
    every = list(parts)
    more = f" (and {len(every) - NAMED} more)" if len(every) > NAMED else ""
    return "; ".join(every[:NAMED]) + more
