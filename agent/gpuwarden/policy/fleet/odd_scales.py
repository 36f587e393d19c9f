"""On which scale each series is judged, so that its noise is much the same at all hours, and how little is noise in
any case: what so few requests cannot say more exactly."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpuwarden.evaluate.inputs import Floats
from gpuwarden.model.anomaly import SLOT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """``least``: the smallest deviation that counts as one. ``noise``: so many deviations are in the square root of
    one over the requests of a slot; 0: it does not depend on them."""

    kind: Literal["log", "angle", "ratio"]
    origin: float = 0.0
    least: float
    noise: float = 0.0


SCALES = {
    "requests_per_s": Scale(kind="log", origin=1 / SLOT_S, least=0.02, noise=1.0),
    "error_ratio": Scale(kind="angle", least=0.01, noise=0.5),
    "latency_p50_s": Scale(kind="log", origin=1e-6, least=0.02, noise=1.0),
    "latency_p95_s": Scale(kind="log", origin=1e-6, least=0.02, noise=1.0),
    "gpu_utilization": Scale(kind="ratio", least=0.01),
    "queue_length": Scale(kind="log", origin=1.0, least=0.1),
}


def straight(name: str, values: Floats) -> Floats:
    """Values as they are judged; a gap (NaN) stays one, as does what cannot be."""
    scale = SCALES[name]
    with np.errstate(invalid="ignore"):
        if scale.kind == "log":
            return np.log(np.where(values >= 0, values, np.nan) + scale.origin)
        ratio = np.where((values >= 0) & (values <= 1), values, np.nan)
        return np.arcsin(np.sqrt(ratio)) if scale.kind == "angle" else ratio


def shown(name: str, value: float) -> float:
    """Back in the series' own unit."""
    scale = SCALES[name]
    if scale.kind == "log":
        return max(0.0, float(np.exp(value)) - scale.origin)
    return float(np.sin(value) ** 2) if scale.kind == "angle" else value


def floors(requests: Floats) -> dict[str, Floats]:
    """By series, for each slot of the day, a deviation that is chance alone. ``requests``: days x slots, as judged."""
    told = ~np.isnan(requests)
    sums = np.where(told, requests, 0.0).sum(axis=0)
    usual = sums / np.maximum(told.sum(axis=0), 1)
    many = np.where(told.any(axis=0), np.exp(usual) * SLOT_S, np.inf)
    return {name: scale.noise / np.sqrt(many + 1) for name, scale in SCALES.items()}
