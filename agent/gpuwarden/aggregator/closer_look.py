"""After a drift verdict more predictions of that service and segment go to people, for a while.

Nodes are told again and again for as long as it is to last, each time for a little longer than until the next: one that
comes later hears of it too, and when the verdict ends, or this aggregator does, it ends by itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from gpuwarden.clock import Clock
from gpuwarden.config_evaluation import EvaluationConfig
from gpuwarden.errors import GpuwardenError
from gpuwarden.log import get_log
from gpuwarden.model.drift import DriftState, DriftVerdict, DriftView
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1 import fleet_pb2

LOOK_S = 2.0
AGAIN_S = 60.0
HOLDS_S = 150.0
CARRIER_S = 600.0
RAISES_MAX = 64


class Carriers(Protocol):
    """Who carries a service: ``retrain_facts.ServiceFacts``."""

    def nodes(self, service: str, since_wall: float) -> frozenset[str]: ...


class CloserLook:
    """``keep`` is the chore, on the loop that serves nodes."""

    def __init__(
        self,
        cfg: EvaluationConfig,
        drift: Callable[[], DriftView],
        carriers: Carriers,
        clock: Clock,
        direct: Callable[[str, fleet_pb2.Directive], bool],
    ) -> None:
        self.cfg = cfg
        self.drift = drift
        """Whoever judges it."""
        self._carriers, self._clock, self._direct = carriers, clock, direct
        self._told: dict[tuple[str, str], float] = {}
        self.raised = 0

    async def keep(self) -> None:
        """For ever."""
        while True:
            try:
                wanted = self.wanted(self.drift().verdicts.values())
                for service, raises in wanted.items():
                    since = self._clock.wall() - CARRIER_S
                    nodes = await asyncio.to_thread(self._carriers.nodes, service, since)
                    self._tell(nodes, raises)
            except GpuwardenError as error:
                get_log().warning("closer_look_waits", reason=str(error))
            except Exception as error:  # noqa: BLE001  the boundary: the next pass sees the same again
                get_log().error("closer_look_failed", reason=repr(error))
            await asyncio.sleep(LOOK_S)

    def wanted(self, verdicts: Iterable[DriftVerdict]) -> Mapping[str, list[pb.SamplingRaise]]:
        """By service, what nodes are to be told now."""
        now, wall = self._clock.now(), self._clock.wall()
        found: dict[str, list[pb.SamplingRaise]] = {}
        standing: set[tuple[str, str]] = set()
        for each in verdicts:
            is_new = 0 <= wall - each.since_wall < self.cfg.review_raise_s
            if each.state is not DriftState.DRIFT or not is_new or self.cfg.review_times <= 1:
                continue
            key = (each.cohort.service, each.cohort.segment)
            if key in standing or len(standing) >= RAISES_MAX:
                continue
            standing.add(key)
            if now - self._told.get(key, float("-inf")) < AGAIN_S:
                continue
            self.raised += key not in self._told
            self._told[key] = now
            left_s = each.since_wall + self.cfg.review_raise_s - wall
            found.setdefault(key[0], []).append(
                pb.SamplingRaise(
                    service=key[0],
                    segment=key[1],
                    times=self.cfg.review_times,
                    for_s=min(HOLDS_S, left_s),
                )
            )
        self._told = {key: at for key, at in self._told.items() if key in standing}
        return found

    def _tell(self, nodes: Iterable[str], raises: list[pb.SamplingRaise]) -> None:
        for node in nodes:
            self._direct(node, fleet_pb2.Directive(sampling=raises))
