"""What is odd of every service beside its own days, and of every GPU beside its peers. Observe-only.

A thread of its own. Once a quarter of an hour it asks the services' thread for what came since, and holds it against
the days before by ``policy.fleet.oddlines`` (numpy is imported when a service has days enough to be judged, not
before); once a minute it is handed what the nodes' newest samples say of GPUs. Days are in the store, written by
whoever leads; after a start the windows that are kept fill what was open. What GPUs did is not kept.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gpuwarden.aggregator import anomaly_memories, anomaly_steps
from gpuwarden.aggregator.anomaly_steps import Told
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.picture import Picture
from gpuwarden.clock import Clock
from gpuwarden.config_anomaly import AnomalyConfig
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.anomaly import AnomalyView, OddDevice, ServiceOddities
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.policy.fleet import anomaly_claims
from gpuwarden.policy.fleet.odd_history import SLOTS_KEPT, History
from gpuwarden.policy.fleet.odd_peers import DeviceReading, PeerSettings, PeerWatch

if TYPE_CHECKING:
    from gpuwarden.policy.fleet.oddlines import OddSettings, ServiceOdds

AskNames = Callable[[Callable[[], dict[str, int]]], dict[str, int]]
AskTold = Callable[[Callable[[], dict[str, Told]]], dict[str, Told]]
"""Have something done on the services' thread; ``Unavailable`` when it does not come to it."""

PASS_S = 15.0
WRITE_S = 3600.0
SET_S = 300.0
WAIT_S = 3600.0
"""A clock that was set by more than that is believed after so long."""
AHEAD_SLOTS = 2 * 96
"""Whoever wrote it may have had a clock that was ahead; what is further ahead is broken."""
AGAIN_SLOTS = 96
"""After a start the newest day is judged again: what stood, stands."""


class Anomalies:
    """``view``, ``claims``, ``counters`` and ``hear`` are for any thread."""

    def __init__(
        self,
        cfg: AnomalyConfig,
        picture: Picture,
        ask_names: AskNames,
        ask_told: AskTold,
        documents: StoreDocuments,
        clock: Clock,
        is_leading: Callable[[], bool],
    ) -> None:
        self.cfg = self._used = cfg
        self._picture = picture
        self._ask_names, self._ask_told = ask_names, ask_told
        self._documents = documents
        self._clock = clock
        self._is_leading = is_leading
        self._days: dict[str, History] = {}
        self._judges: dict[str, ServiceOdds] = {}
        self._said: dict[str, ServiceOddities] = {}
        self._written: dict[str, tuple[int, float]] = {}
        """By service, up to which slot it was written, and when (wall)."""
        self._peers = PeerWatch(_peer_settings(cfg))
        self._readings: Sequence[DeviceReading] | None = None
        self._odd_devices: tuple[OddDevice, ...] = ()
        self._gathered = 0
        """The newest slot that was asked for."""
        self._times: tuple[float, float] | None = None
        """Monotonic and wall, of the pass before."""
        self._set_at = float("-inf")
        """When the clock was last seen to be set (monotonic)."""
        self._is_loaded = False
        self.failures = self.crowded = self.refused = self.begun = 0
        """``crowded``: services that are told of now and have no room; ``refused``: days in the store that were none;
        ``begun``: findings on services, ever."""
        self.fault = ""
        """Why the view is not that of now; empty: it is."""
        self.view = AnomalyView(serial=0, wall=clock.wall())
        self._wake = threading.Condition()
        self._is_stopping = self._is_due = False
        self._thread = threading.Thread(target=self._run, name="gpuwarden-anomaly", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_s: float = 10.0) -> None:
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def hear(self, readings: Sequence[DeviceReading]) -> None:
        """Every GPU of now; what waits still is replaced."""
        with self._wake:
            self._readings, self._is_due = readings, True
            self._wake.notify()

    def claims(self) -> tuple[FleetClaim, ...]:
        return anomaly_claims.claims(self.view, self.cfg.then)

    def counters(self) -> dict[str, int]:
        view = self.view
        services = view.services.values()
        return {
            "anomaly_services": len(services),
            "anomaly_services_learning": sum(each.is_learning for each in services),
            "anomaly_services_crowded": self.crowded,
            "anomaly_findings": sum(len(each.findings) for each in services),
            "anomaly_findings_begun": self.begun,
            "anomaly_devices_compared": view.devices_compared,
            "anomaly_devices_odd": len({(each.node, each.device) for each in view.devices}),
            "anomaly_devices_crowded": self._peers.crowded,
            "anomaly_memories_refused": self.refused,
            "anomaly_failures": self.failures,
        }

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_stopping or self._is_due, PASS_S)
                is_stopping, self._is_due = self._is_stopping, False
            try:
                if is_stopping:
                    self._write(is_last=True)
                    return
                self.look()
            except Exception as error:  # noqa: BLE001  the boundary: the next look sees the same again
                self.failures += 1
                self.fault = f"anomalies are not looked for: {error!r}"[:200]
                get_log().error("anomalies_failed", reason=repr(error))
                if is_stopping:
                    return

    def look(self) -> None:
        """One pass."""
        wall = self._clock.wall()
        self._adopt()
        self._look_at_devices(wall)
        try:
            if not self._is_loaded:
                self._load(wall)
            newest = anomaly_steps.newest_slot(wall)
            self.fault = self._clock_fault(wall)
            if newest != self._gathered and not self.fault:
                self._look_at_services(newest, wall)
                self._gathered = newest
        except GpuwardenError as error:
            self.failures += 1
            self.fault = str(error)
        self._publish(wall)
        self._write()

    def _adopt(self) -> None:
        """Settings that were read again."""
        if self._used is not self.cfg:
            self._used = self.cfg
            self._judges.clear()
            self._peers.settings = _peer_settings(self.cfg)

    def _clock_fault(self, wall: float) -> str:
        """A clock that is set, and perhaps set back soon, must not empty the days that are kept."""
        now = self._clock.now()
        if self._times is not None:
            before, before_wall = self._times
            if abs((wall - before_wall) - (now - before)) > SET_S:
                self._set_at = now
                get_log().warning("anomalies_wait", reason="the clock was set")
        self._times = (now, wall)
        return "the clock was set: services wait for an hour" if now - self._set_at < WAIT_S else ""

    def _load(self, wall: float) -> None:
        newest = anomaly_steps.newest_slot(wall)
        for document in self._documents.every(anomaly_memories.KIND):
            known = anomaly_memories.read(document.body)
            if known is None or known[1].upto > newest + AHEAD_SLOTS:
                self.refused += 1
                get_log().error("anomaly_memory_unread", key=document.key)
                continue
            service, history = known
            if len(self._days) < self.cfg.services_max:
                self._days[service] = history
                self._written[service] = (history.upto, document.wall)
        self._is_loaded = True
        for service, history in self._days.items():
            self._judge(service, history, history.upto)  # until there is something new, it holds

    def _look_at_devices(self, wall: float) -> None:
        with self._wake:
            readings, self._readings = self._readings, None
        if readings is not None:
            self._odd_devices = self._peers.look(readings, wall)

    def _look_at_services(self, newest: int, wall: float) -> None:
        told_of = self._ask_names(lambda: anomaly_steps.services_of(self._picture))
        wanted = dict.fromkeys((*self._days, *told_of))
        self.crowded = 0
        since: dict[str, int] = {}
        for service in wanted:
            history = self._days.get(service)
            if history is None:
                if len(self._days) + len(since.keys() - self._days.keys()) >= self.cfg.services_max:
                    self.crowded += 1
                    continue
                history = History()
            since[service] = history.upto
        for some in anomaly_steps.jobs(since, told_of):
            job = partial(anomaly_steps.gathered, self._picture, some, wall)
            found = self._ask_told(job)
            for service, told in found.items():
                try:
                    self._take(service, told, newest)
                except Exception as error:  # noqa: BLE001  the boundary: one takes no other along
                    self.failures += 1
                    get_log().error("anomalies_failed", service=service, reason=repr(error))
        self._forget(newest)

    def _take(self, service: str, told: Told, newest: int) -> None:
        history = self._days.get(service)
        if history is None:
            if not told:
                return
            history = self._days[service] = History()
        if history.upto > newest + 1:
            history.cut(newest + 1)
            self._judges.pop(service, None)
        since = history.upto if len(history) else min(told, default=newest)
        for slot in sorted(told):
            history.take(slot, told[slot])
        history.take(newest, {})  # unless it was told: nothing came of it
        self._judge(service, history, since)

    def _judge(self, service: str, history: History, since: int) -> None:
        days, days_min = history.days(), self.cfg.days_min
        if days < days_min:
            self._judges.pop(service, None)
            learning = ServiceOddities(service=service, days=days, days_min=days_min)
            self._said[service] = learning
            return
        judge = self._judges.get(service)
        if judge is None:
            from gpuwarden.policy.fleet.oddlines import ServiceOdds

            judge = ServiceOdds(service, _settings(self.cfg), history)
            self._judges[service] = judge
            since = max(history.first, min(since, history.upto - AGAIN_SLOTS))
        before = judge.begun
        self._said[service] = judge.judge(since)
        self.begun += judge.begun - before

    def _forget(self, newest: int) -> None:
        gone = [
            service
            for service, history in self._days.items()
            if newest - history.newest_told() >= SLOTS_KEPT
        ]
        for service in gone:
            del self._days[service]
            self._judges.pop(service, None)
            self._said.pop(service, None)
            self._written.pop(service, None)
            if self._is_leading():
                anomaly_memories.forget(self._documents, service)

    def _publish(self, wall: float) -> None:
        self.view = AnomalyView(
            serial=self.view.serial + 1,
            wall=wall,
            services=dict(self._said),
            devices=self._odd_devices,
            devices_compared=self._peers.compared,
        )

    def _write(self, *, is_last: bool = False) -> None:
        """Days that have grown, once an hour and at the end; by whoever leads."""
        if not self._is_leading() or not self._is_loaded:
            return
        wall = self._clock.wall()
        for service, history in self._days.items():
            upto, at = self._written.get(service, (0, wall - WRITE_S))
            if history.upto == upto or (wall - at < WRITE_S and not is_last):
                continue
            try:
                anomaly_memories.write(self._documents, service, history, wall)
            except GpuwardenError as error:
                self.failures += 1
                get_log().warning("anomaly_memory_not_kept", service=service, reason=str(error))
                if not isinstance(error, Refused):
                    return  # the store is ill: each of the others would wait for it, too
                continue
            self._written[service] = (history.upto, wall)


def _settings(cfg: AnomalyConfig) -> "OddSettings":
    from gpuwarden.policy.fleet.oddlines import OddSettings

    return OddSettings(
        point_sigma=cfg.point_sigma,
        window_sigma=cfg.window_sigma,
        days_min=cfg.days_min,
        reconstruction=cfg.reconstruction,
    )


def _peer_settings(cfg: AnomalyConfig) -> PeerSettings:
    return PeerSettings(peers_min=cfg.peers_min, peer_sigma=cfg.peer_sigma)
