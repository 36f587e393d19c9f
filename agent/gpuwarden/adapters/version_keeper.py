"""The ``Versions`` port: one thread inspects who carries a service and records it; the loop's word on how services
fare makes a version good; a worker goes back to one.

Only Docker tells all that it takes to start a container again; other runtimes' tenants are not recorded.
"""

import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.tenancy import container_id_of, is_nested
from gpuwarden.adapters.version_book import VersionBook
from gpuwarden.clock import Clock
from gpuwarden.config_rollback import RollbackConfig
from gpuwarden.config_services import ProbeConfig, ServiceConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported
from gpuwarden.evaluate.fast.probation import Probation, told
from gpuwarden.log import get_log
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId
from gpuwarden.model.rollback import Recorded

QUEUE = 64
RETRY_S = 10.0
"""A container that could not be inspected is tried again so much later."""

Note = tuple[str, str, str, float]
"""service, tenant or place, version (empty: record it), wall."""


class VersionKeeper:
    """``follow`` and ``known`` belong to the loop's thread, ``roll_back`` to a worker's. Without a tenant of Docker
    that carries a service there is no thread and no file."""

    def __init__(
        self,
        book: VersionBook,
        door: DockerDoor,
        clock: Clock,
        cfg: RollbackConfig,
        services: Sequence[ServiceConfig],
    ) -> None:
        self._book = book
        self._door = door
        self._clock = clock
        self._cfg = cfg
        self._services = {each.name: each for each in services}
        self._notes: queue.Queue[Note | None] = queue.Queue(QUEUE)
        self._tried: dict[TenantId, float] = {}
        self._runs: dict[TenantId, Recorded] = {}
        """Who runs what, as it was recorded; written by the thread alone, replaced as a whole."""
        self._probations: dict[TenantId, Probation] = {}
        self._carried: Mapping[TenantId, str] = {}
        self._thread: threading.Thread | None = None
        self._seen: tuple[Recorded, ...] = ()
        self.dropped = 0
        self.failures = 0

    def follow(
        self,
        replicas: Mapping[TenantId, str],
        wells: Mapping[str, bool | None],
        now: float,
        wall: float,
    ) -> None:
        self._carried = {t: s for t, s in replicas.items() if _is_docker(t)}
        for gone in [t for t in self._tried if t not in self._carried]:
            self._tried.pop(gone)
            self._probations.pop(gone, None)
        runs = self._runs
        for tenant, service in self._carried.items():
            if tenant in runs and runs[tenant].service == service:
                self._judge(tenant, runs[tenant], wells.get(service), now, wall)
            elif now - self._tried.get(tenant, float("-inf")) >= RETRY_S:
                self._tried[tenant] = now
                self._tell((service, tenant, "", wall))

    def _judge(
        self, tenant: TenantId, about: Recorded, is_well: bool | None, now: float, wall: float
    ) -> None:
        before = self._probations.get(tenant, Probation())
        after = self._probations[tenant] = told(before, is_well, now)
        lasts = self._cfg.probation_s
        if after.is_over(lasts) and not before.is_over(lasts) and about.good_wall is None:
            self._tell((about.service, about.place, about.version, wall))

    def known(self) -> Sequence[Recorded]:
        if self._thread is None:
            return ()
        runs, wanted = self._runs, set(self._carried.values())
        now = {(r.service, r.place, r.version): t for t, r in runs.items() if t in self._carried}
        found = tuple(
            replace(r, tenant=now.get((r.service, r.place, r.version)))
            for r in self._book.every()
            if r.service in wanted
        )
        if found != self._seen:
            self._seen = found
        return self._seen

    def roll_back(
        self, target: Target, service: str, place: str, version: str, *, has_room: bool
    ) -> Mapping[str, str]:
        # Imported when somebody goes back: the agent at rest does without.
        from gpuwarden.adapters.docker_swap import Swap
        from gpuwarden.adapters.start_proof import Proof

        entry = self._book.entry(service, place, version)
        now = self._inspected(target.tenant)
        configured = self._services.get(service)
        probe = None if configured is None else configured.probe
        proof = Proof(door=self._door, clock=self._clock, cfg=self._cfg, probe=probe)
        swap = Swap(
            door=self._door,
            clock=self._clock,
            now=now,
            spec=entry.raw,
            prove=proof.prove,
            has_room=has_room,
            why_not_beside=_one_address(probe),
        )
        begun = self._clock.now()
        done = swap.carry_out()
        took = f"{self._clock.now() - begun:.1f}"
        return {**done, "took_s": took, "start_s": f"{proof.took_s:.1f}", "proved": proof.said}

    def _inspected(self, tenant: TenantId) -> Mapping[str, Any]:
        from gpuwarden.adapters.dockerd import (
            inspect,  # with Docker's adapter, where there is Docker
        )

        with self._door.call() as client:
            return inspect(client, container_id_of(tenant))

    def close(self) -> None:
        """End the thread; returns when it has, or its call's time is up."""
        if self._thread is not None:
            with suppress(queue.Full):
                self._notes.put_nowait(None)
            self._thread.join(self._door.timeout_s)
        self._door.close()

    def _tell(self, note: Note) -> None:
        if self._thread is None:
            try:
                self._book.open()
            except Unavailable as error:
                self.failures += 1
                get_log().error("versions_not_recorded", reason=str(error))
                return
            self._thread = threading.Thread(target=self._run, name="versions", daemon=True)
            self._thread.start()
        try:
            self._notes.put_nowait(note)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while True:
            note = self._notes.get()
            if note is None:
                return
            service, who, version, wall = note
            try:
                if version:
                    self._book.praise(service, who, version, wall)
                    self._praised(service, who, version, wall)
                    get_log().info("version_good", service=service, place=who, version=version)
                else:
                    self._record(service, TenantId(who), wall)
            except GpuwardenError as error:
                self.failures += 1
                get_log().warning("version_not_recorded", service=service, reason=str(error))
            except Exception as error:  # noqa: BLE001  the boundary: one container must not end the thread
                self.failures += 1
                get_log().error(
                    "version_not_recorded", service=service, reason=type(error).__name__
                )

    def _record(self, service: str, tenant: TenantId, wall: float) -> None:
        raw = self._inspected(tenant)
        about = self._book.record(service, raw, wall)
        alive = {t: r for t, r in self._runs.items() if t in self._carried}
        self._runs = {**alive, tenant: about}
        get_log().info(
            "version_recorded", service=service, place=about.place, version=about.version
        )

    def _praised(self, service: str, place: str, version: str, wall: float) -> None:
        self._runs = {
            t: replace(r, good_wall=wall)
            if (r.service, r.place, r.version) == (service, place, version)
            else r
            for t, r in self._runs.items()
        }


def _one_address(probe: ProbeConfig | None) -> str:
    is_one = probe is not None and probe.http is not None
    return "its probe is asked at one address, where the present one answers" if is_one else ""


def _is_docker(tenant: TenantId) -> bool:
    if not tenant.startswith("docker:") or is_nested(tenant):
        return False
    try:
        container_id_of(tenant)
    except (Refused, Unsupported):
        return False
    return True
