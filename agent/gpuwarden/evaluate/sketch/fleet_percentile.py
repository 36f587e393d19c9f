"""The fleet's percentile, and the mean of its nodes' percentiles that is so often taken for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpuwarden.evaluate.inputs import Floats, within


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPercentile:
    """Both in the unit of the values; one bad node in 40 shows in the first alone."""

    fleet: float
    mean_of_nodes: float


def fleet_percentile(nodes: Sequence[Floats], *, percentile: float) -> FleetPercentile:
    """Percentile (0..100) of all values together, linear between order statistics, beside the mean."""
    within(percentile, 0, 100, "percentile")
    if not nodes or any(not node.size for node in nodes):
        raise ValueError("nodes: expected at least one, each with a value")
    return FleetPercentile(
        fleet=float(np.percentile(np.concatenate(nodes), percentile)),
        mean_of_nodes=float(np.mean([np.percentile(node, percentile) for node in nodes])),
    )
