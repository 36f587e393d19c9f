"""Versions of services on a simulated node: what is on record, and the way back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpuwarden.errors import Refused
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId
from gpuwarden.model.rollback import Recorded

if TYPE_CHECKING:
    from gpuwarden.sim.node.containers import Container, SimDocker

LABEL = "gpuwarden.version"


class SimVersions:
    """Implements the ``Versions`` port. What is on record survives the agent, as a disk does."""

    def __init__(self, docker: SimDocker) -> None:
        self._docker = docker
        self.recorded: list[Recorded] = []

    def follow(
        self,
        replicas: Mapping[TenantId, str],
        wells: Mapping[str, bool | None],
        now: float,
        wall: float,
    ) -> None:
        """What is on record is the play's own."""

    def known(self) -> Sequence[Recorded]:
        return tuple(replace(each, tenant=self._runs(each)) for each in self.recorded)

    def roll_back(
        self, target: Target, service: str, place: str, version: str, *, has_room: bool
    ) -> Mapping[str, str]:
        if all((r.service, r.place, r.version) != (service, place, version) for r in self.recorded):
            raise Refused(f"{version} is not on record")
        heir = self._docker.swap(target, {LABEL: version})
        return {"container": heir, "beside": "yes" if has_room else "no"}

    def _runs(self, recorded: Recorded) -> TenantId | None:
        for container in self._docker.containers.values():
            if self._is(container, recorded):
                return container.tenant
        return None

    def _is(self, container: Container, recorded: Recorded) -> bool:
        is_there = container.is_running and container.name == recorded.place
        return is_there and container.labels.get(LABEL) == recorded.version
