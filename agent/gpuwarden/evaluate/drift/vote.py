"""Concept drift by a vote of stream detectors on a standardised series: never "any of".

Alone, each of them cries wolf or is blind on some stream; two that agree within a span of values have been
wrong together far less often.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.evaluate.drift import stream
from gpuwarden.evaluate.drift.sliding import Sliding, Weighted

DEFAULT: Mapping[str, Mapping[str, Any]] = {
    "adwin": {
        "delta": 0.002,
        "clock": 32,
        "max_buckets": 5,
        "min_window_length": 5,
        "grace_period": 10,
    },
    "hddm_a": {"drift_confidence": 0.001, "warning_confidence": 0.005, "two_sided_test": False},
    "page_hinkley": {
        # On z-scores: 60, 23 and 6 values for shifts of 0.5, 1 and 3 sigma, 0.01 false alarms in 1,000.
        "min_instances": 30,
        "delta": 0.25,
        "threshold": 20.0,
        "alpha": 0.9999,
        "mode": "up",
    },
}
"""ADWIN (the sane default), HDDM-A for shares, Page-Hinkley on z-scores; no EDDM, which pages all day."""


STANDARDISED: Mapping[str, Any] = {"sliding": Sliding, "weighted": Weighted}
"""Detectors of our own; they are told z-scores, as Page-Hinkley is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteSettings:
    """``quorum`` different detectors within ``span`` values."""

    detectors: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: DEFAULT)
    quorum: int = 2
    span: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Which detectors agreed, at which value, in which version: a later one may say otherwise."""

    index: int  # 0-based, of the value that completed the quorum
    detectors: tuple[str, ...]
    version: str = stream.VERSION


class Vote:
    """Fed value by value in order of time; kept in one place, for detectors do not merge.

    Page-Hinkley's threshold is in the unit of the values, so what it gets is (x - mean)/std of the
    reference; ADWIN and HDDM get the value as it is (HDDM: 0 or 1).
    """

    def __init__(self, settings: VoteSettings, *, mean: float, std: float) -> None:
        if not 1 <= settings.quorum <= len(settings.detectors):
            raise ValueError(f"quorum: expected 1 to {len(settings.detectors)}")
        if not std > 0:
            raise ValueError(f"std: expected a number above 0, got {std:g}")
        for name, each in settings.detectors.items():
            if name not in STANDARDISED:
                stream.check(name, each)
        self._settings, self._mean, self._std = settings, mean, std
        self._seen = 0
        self._start()

    def _start(self) -> None:
        self._detectors = [
            (
                name,
                STANDARDISED[name](**each) if name in STANDARDISED else stream.new(name, each),
                name == "page_hinkley" or name in STANDARDISED,
            )
            for name, each in self._settings.detectors.items()
        ]
        self._voted: dict[str, int] = {}

    def rebase(self, *, mean: float, std: float) -> None:
        """The reference is known better: what comes is held against it. What has come stays as it was."""
        self._mean, self._std = mean, std

    def update(self, x: float) -> Alarm | None:
        """One more value; an alarm starts all detectors afresh."""
        z = (x - self._mean) / self._std
        has_voted = False
        for name, detector, is_standardised in self._detectors:
            detector.update(z if is_standardised else x)
            if detector.drift_detected:
                self._voted[name] = self._seen
                has_voted = True
        self._seen += 1
        if not has_voted:  # old votes can only expire
            return None
        since = self._seen - self._settings.span
        agreed = tuple(sorted(name for name, at in self._voted.items() if at >= since))
        if len(agreed) < self._settings.quorum:
            return None
        self._start()
        return Alarm(index=self._seen - 1, detectors=agreed)
