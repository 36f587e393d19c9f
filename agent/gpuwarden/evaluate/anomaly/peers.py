"""This device behaves unlike its peers: the same work, another number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpuwarden.evaluate.inputs import finite_or_none


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlike:
    """A device whose median over the windows is off its peers'; z in robust sigmas of the peers."""

    device: str
    z: float
    value: float
    peers: float


def unlike(
    series: Mapping[str, Sequence[float | None]],
    *,
    cut: float = 6.0,
    min_peers: int = 4,
    min_windows: int = 5,
    least_spread: float = 0.02,
) -> tuple[Unlike, ...]:
    """Devices unlike the median of the others, the furthest first.

    ``series`` are the same windows of every device of one kind at one kind of work; None is missing.
    The spread is 1.4826 MAD over devices, never below ``least_spread`` of the peers' median: eight
    boards that agree to a digit must not make a ninth an outlier. One odd window does nothing.
    """
    medians: dict[str, float] = {}
    for device, values in series.items():
        known = [v for v in values if v is not None and finite_or_none(v) is not None]
        if len(known) >= min_windows:
            medians[device] = float(np.median(known))
    found = []
    for device, value in medians.items():
        others = np.array([v for name, v in medians.items() if name != device])
        if others.size < min_peers:
            continue
        centre = float(np.median(others))
        spread = 1.4826 * float(np.median(np.abs(others - centre)))
        spread = max(spread, least_spread * abs(centre), 1e-12)
        z = (value - centre) / spread
        if abs(z) > cut:
            found.append(Unlike(device=device, z=z, value=value, peers=centre))
    return tuple(sorted(found, key=lambda each: (-abs(each.z), each.device)))
