"""Whether the aggregator lives: a finished turn of the fold-decide loop, and a store that gave an answer since.

An answer may be an error: a database that is away is told, and starting the aggregator anew does not bring it back.
No answer at all means that the one thread that writes is stuck, and then nothing is acknowledged any more.
"""

import asyncio
from collections.abc import Callable

from gpuwarden.aggregator.committer import Committer
from gpuwarden.errors import GpuwardenError
from gpuwarden.model.fleet import FleetView, NodeState
from gpuwarden.ports import Watchdog

BEAT_S = 2.0
_TELLING = (NodeState.DEGRADED, NodeState.CORDONED, NodeState.BLIND, NodeState.SILENT)


async def keep(committer: Committer, view: Callable[[], FleetView], watchdog: Watchdog) -> None:
    """For ever: feed the watchdog once for each pair of a newer picture and an answer of the store."""
    serial = 0  # that of the picture before the first turn
    while True:
        seen = view()
        if seen.serial > serial:
            trouble = await _asked(committer)
            watchdog.pet(summary(view(), trouble))
            serial = seen.serial
        await asyncio.sleep(BEAT_S)


async def _asked(committer: Committer) -> str:
    """What the store had against an empty transaction; waits for as long as it says nothing."""
    try:
        await asyncio.wrap_future(committer.do(lambda store: None))
    except GpuwardenError as error:
        return str(error)
    return ""


def summary(view: FleetView, trouble: str = "") -> str:
    """Nodes by state, who leads, permits, and what the store has against it."""
    states = [node.state for node in view.nodes]
    said = [f"{count} {state.value}" for state in _TELLING if (count := states.count(state))]
    parts = [f"{len(states)} nodes" + (f" ({', '.join(said)})" if said else "")]
    parts.append("leads" if view.is_leader else f"does not lead ({view.leader or 'nobody known'})")
    if view.permits_held:
        parts.append(f"{view.permits_held} permits out")
    if view.frozen:
        parts.append("permits are frozen")
    if trouble:
        parts.append(f"store: {trouble}")
    return ", ".join(parts)
