"""Every fault that can be played, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gpuwarden.sim.faults import of_device, of_node
from gpuwarden.sim.faults.play import Play

PLAYS: Mapping[str, Play] = MappingProxyType(
    {play.name: play for play in (*of_device.PLAYS, *of_node.PLAYS)}
)
