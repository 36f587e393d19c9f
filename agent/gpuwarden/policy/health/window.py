"""Counters over whole windows: how much each grew, and never more than it did.

A counter that went back (the driver was loaded again, the device reset) began anew: it has not grown.
"""

from operator import attrgetter

from gpuwarden.model.health import Errors, Vitals
from gpuwarden.model.health_memory import Window

ERRORS = (
    "ecc_corrected_volatile_total",
    "ecc_uncorrected_volatile_total",
    "pcie_replays_total",
    "pcie_non_fatal_errors_total",
    "pcie_fatal_errors_total",
    "nvlink_crc_flit_errors_total",
    "nvlink_crc_data_errors_total",
    "nvlink_replay_errors_total",
    "nvlink_recovery_errors_total",
    "nvlink_receive_errors_total",
    "nvlink_integrity_errors_total",
    "nvlink_recovery_failures_total",
)
VITALS = (
    "clock_event_sw_thermal_s_total",
    "clock_event_hw_thermal_s_total",
    "clock_event_hw_power_brake_s_total",
)
_errors = attrgetter(*ERRORS)
_vitals = attrgetter(*VITALS)


def over_errors(old: Window | None, sample: Errors, window_s: float) -> Window:
    """The window of the error counters with one more sample."""
    return _advanced(old, sample.at, _errors(sample), ERRORS, window_s)


def over_vitals(old: Window | None, sample: Vitals, window_s: float) -> Window:
    """The same of the times for which the clocks were held down."""
    return _advanced(old, sample.at, _vitals(sample), VITALS, window_s)


def _advanced(
    old: Window | None,
    at: float,
    values: tuple[float | None, ...],
    names: tuple[str, ...],
    window_s: float,
) -> Window:
    if old is None or len(old.base) != len(names):
        return Window(at=at, base=values)
    span_s = at - old.at
    if span_s < window_s:
        return _begun_anew(old, values, names)
    grown = {
        name: value - base
        for name, value, base in zip(names, values, old.base, strict=True)
        if value is not None and base is not None and value > base
    }
    return Window(at=at, base=values, span_s=span_s, grown=grown)


def _begun_anew(old: Window, values: tuple[float | None, ...], names: tuple[str, ...]) -> Window:
    """The same stretch; a counter that went back in it is counted from where it is now."""
    if values == old.base:
        return old
    back = [
        place
        for place, (value, before) in enumerate(zip(values, old.base, strict=True))
        if value is not None and before is not None and value < before
    ]
    if not back:
        return old
    base = tuple(values[n] if n in back else before for n, before in enumerate(old.base))
    gone = {names[n] for n in back}
    grown = {name: by for name, by in old.grown.items() if name not in gone}
    return Window(at=old.at, base=base, span_s=old.span_s, grown=grown)
