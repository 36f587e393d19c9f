"""How often a detector cries wolf and how late it is: alarms of several runs in four numbers."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What alarms of runs of one length say of a detector; delays in values."""

    false_alarms_per_1000: float
    share_of_runs_with_false_alarm: float
    detection_rate: float | None  # None where nothing changed
    mean_delay: float | None  # None where nothing changed, or no run found it


def rates(alarms: Sequence[Sequence[int]], *, length: int, drift_at: int | None) -> Rates:
    """Alarms before ``drift_at`` are false, the first one from there on is the detection.

    ``alarms`` holds the 0-based indexes of each run, ascending; ``length`` is the number of values in a
    run. With ``drift_at`` None nothing changes and every alarm is false.
    """
    if not alarms or length < 1:
        raise ValueError("expected at least one run of at least one value")
    if drift_at is not None and not 0 <= drift_at <= length:
        raise ValueError(f"drift_at: expected 0 to {length}, got {drift_at}")
    quiet = length if drift_at is None else drift_at
    false = [sum(index < quiet for index in run) for run in alarms]
    watched = len(alarms) * quiet
    first = [next((index for index in run if index >= quiet), None) for run in alarms]
    delays = [index - quiet for index in first if index is not None]
    return Rates(
        false_alarms_per_1000=1000 * sum(false) / watched if watched else 0.0,
        share_of_runs_with_false_alarm=sum(n > 0 for n in false) / len(alarms),
        detection_rate=None if drift_at is None else len(delays) / len(alarms),
        mean_delay=sum(delays) / len(delays) if delays and drift_at is not None else None,
    )
