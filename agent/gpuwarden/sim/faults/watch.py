"""What the agent says of faults and repairs while a play lasts, by its own stream."""

from __future__ import annotations

from pathlib import Path

from gpuwarden.sim.incident.witness import AgentWatch
from gpuwarden.wire.v1 import node_pb2 as pb

WAITING = frozenset({"emptying", "handed-over"})
"""Phases of a repair in which it is somebody else's turn."""


class FaultWatch(AgentWatch):
    """Remembers every fault as it was last told, and every phase that a repair went through."""

    def __init__(self, socket_path: Path) -> None:
        super().__init__(socket_path)
        self._faults: dict[tuple[str, str], pb.Fault] = {}
        self._phases: list[str] = []

    def faults(self) -> list[pb.Fault]:
        """Every fault seen, the first first."""
        with self._fresh:
            return list(self._faults.values())

    def phases(self) -> list[str]:
        """Every phase that any repair was seen in, in order."""
        with self._fresh:
            return list(self._phases)

    def _take(self, view: pb.View, at: float) -> None:
        with self._fresh:
            for fault in view.faults:
                subject = fault.root.device or "node"
                self._faults[subject, fault.root.fault_class] = fault
            for repair in view.repairs:
                if not self._phases or self._phases[-1] != repair.phase:
                    self._phases.append(repair.phase)
            super()._take(view, at)


def is_over(view: pb.View) -> bool:
    """Whether the agent holds that nothing is left of it."""
    is_open = view.repairs or view.cases or view.faults or not view.incidents
    return not is_open and all(i.HasField("closed_at") for i in view.incidents)


def sees_all(view: pb.View) -> bool:
    """Whether every device answers."""
    return all(device.sight == pb.SIGHT_OK for device in view.snapshot.devices)


def is_waiting(view: pb.View) -> bool:
    """Whether a repair waits for people."""
    return any(repair.phase in WAITING for repair in view.repairs)
