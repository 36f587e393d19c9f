"""Rule throttle: heat or the power supply holds the clocks down.

Source: DCGM warns at any thermal or power violation time within a minute, gpud at six hardware slowdowns in
ten minutes. Here it is the share of a minute, from the driver's own counters; a driver that has none is
judged by the reasons in force at every sample. A power cap is how a busy board keeps to its limit: no fault.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim

_SW_THERMAL, _HW_THERMAL, _POWER_BRAKE = 0x20, 0x40, 0x80

CAUSES = (
    (
        "throttle-heat",
        "clock_event_hw_thermal_s_total",
        _HW_THERMAL,
        Severity.ERROR,
        "by its hardware, for heat",
    ),
    (
        "throttle-power",
        "clock_event_hw_power_brake_s_total",
        _POWER_BRAKE,
        Severity.ERROR,
        "by the power supply's brake",
    ),
    (
        "throttle-warm",
        "clock_event_sw_thermal_s_total",
        _SW_THERMAL,
        Severity.WARNING,
        "by its driver, for heat",
    ),
)
"""Fault, counter, reason bit, severity and words of each."""


def _vitals(look: Look) -> Iterator[Claim]:
    vitals, window, cfg = look.vitals, look.history.vitals, look.cfg.health.throttle
    if vitals is None:
        return
    mask = vitals.clock_event_mask or 0
    if not mask & 0xE0 and (window is None or not window.grown):
        return
    for fault, counter, bit, severity, words in CAUSES:
        most = cfg.software_ratio_max if bit == _SW_THERMAL else cfg.hardware_ratio_max
        share = None
        if window is not None and getattr(vitals, counter) is not None:
            share = window.grown.get(counter, 0.0) / window.span_s if window.span_s else 0.0
        if share is None:
            if mask & bit:
                text = f"is slowed down {words}"
                evidence = (("clock event reasons", f"{mask:#x}"),)
                yield claim(cfg, fault, severity, text, evidence=evidence)
        elif share > most:
            text = f"was slowed down for {min(share, 1.0):.0%} of a minute {words}"
            seen = (("share of the time", f"{share:.3f}"), ("temperature", _degrees(look)))
            yield claim(cfg, fault, severity, text, evidence=seen)


def _degrees(look: Look) -> str:
    vitals = look.vitals
    known = vitals is not None and vitals.temperature_c is not None
    return f"{vitals.temperature_c:.0f} C" if vitals is not None and known else "not told"


def _needs(counter: str) -> tuple[str, ...]:
    return (f"vitals.{counter}|vitals.clock_event_mask",)


JUDGES = (Judge("throttle", "vitals", _vitals, {fault: _needs(by) for fault, by, *_ in CAUSES}),)
