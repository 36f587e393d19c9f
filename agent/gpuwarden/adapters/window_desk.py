"""What is seen of services on this node, gathered to windows of ten seconds, and judged each second by the fast
guardrails: the same judge as the aggregator's, also while that is away.

Three tell it: the services' pages, the services' own clients, and the picture of the devices they hold bytes on.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.adapters.window_spool import WindowSpool
from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable
from gpuwarden.evaluate.fast.guardrail import Memory, judge
from gpuwarden.evaluate.fast.tally import Tally
from gpuwarden.evaluate.fast.window import only
from gpuwarden.log import get_log
from gpuwarden.model.evaluation import Cohort, Colour, Lack, Missing, Verdict, Window
from gpuwarden.model.guardrail import Guardrail
from gpuwarden.model.status import View

WINDOW_S = 10.0
SECOND_S = 1.0
COHORTS_MAX = 256
RECENT_MAX = 1000
CLIENT_S = 60.0
"""So long after its last word a client is taken to be there."""
HELD_DOWN = 0x08 | 0x20 | 0x40 | 0x80
"""nvmlClocksEventReasonHwSlowdown, SwThermal, HwThermal, HwPowerBrake: a power cap is no fault."""
FRESH_S = 20.0
"""A reading of a device that is older is of another time (they are taken every 5 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """Who carries a service now."""

    cohort: Cohort
    tenant: str
    devices: tuple[str, ...] = ()


class NodeWindowDesk:
    """Implements ``ports_evaluation.WindowDesk``; ``start`` gives it a thread that ends with ``close``."""

    def __init__(
        self,
        source: ViewSource,
        spool: WindowSpool,
        clock: Clock,
        guardrails: Sequence[Guardrail],
        with_objective: frozenset[str] = frozenset(),
    ) -> None:
        """``with_objective``: services whose own objective takes the place of guardrails on latency."""
        self._source, self._spool, self._clock = source, spool, clock
        self._guardrails = [each for each in guardrails if each.is_fast]
        self._with_objective = with_objective
        self._lock = threading.Lock()
        self._carriers: dict[str, Carrier] = {}
        self._tallies: dict[Cohort, Tally] = {}
        self._seconds: dict[Cohort, Tally] = {}
        self._recent: dict[Cohort, deque[Window]] = {}
        self._memories: dict[tuple[str, Cohort], Memory] = {}
        self._objectives: dict[str, Verdict] = {}
        self._by_client: dict[tuple[str, str], float] = {}
        self._judged_at = clock.now()
        self._begin_wall: float | None = None
        self._revisions: dict[Cohort, int] = {}
        self._reds: frozenset[tuple[str, Cohort]] = frozenset()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpuwarden-windows", daemon=True)
        self.overflow = 0
        """Observations of more cohorts than are kept."""
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def page(self, service: str, window: Window, verdict: Verdict | None) -> None:
        with self._lock:
            cohort = self._cohort(service)
            window = self._not_twice(service, window)
            for table in (self._tallies, self._seconds):
                if (tally := self._tally(table, cohort)) is not None:
                    tally.merge(window)
            before = self._objectives.get(service)
            if verdict is not None:
                self._objectives[service] = verdict
        if verdict is not None and (before is None or before.colour is not verdict.colour):
            self._hurry.set()

    def unread(self, service: str, why: str) -> None:
        with self._lock:
            tally = self._tally(self._tallies, self._cohort(service))
            if tally is not None:
                tally.lack(Lack(series="", why=Missing.UNREADABLE, detail=_line(why)))

    def carrier(self, service: str) -> Carrier:
        """Who carries it, as far as is known."""
        with self._lock:
            return self._carriers.get(service, Carrier(cohort=Cohort(service=service), tenant=""))

    def service_of(self, tenant: str) -> str | None:
        """Which service a tenant carries: for nothing else it may speak."""
        with self._lock:
            for service, carrier in self._carriers.items():
                if carrier.tenant == tenant:
                    return service
        return None

    def observe(self, cohort: Cohort, told: Tally) -> None:
        """What a service's client told."""
        with self._lock:
            now = self._clock.now()
            for name in (*told.counts, *told.sketches, *told.categories):
                self._by_client[cohort.service, name] = now
            for table in (self._tallies, self._seconds):
                if (tally := self._tally(table, cohort)) is None:
                    self.overflow += 1
                    return
                tally.absorb(told)

    def _not_twice(self, service: str, window: Window) -> Window:
        """What the client tells as well, by segment and arm, is the same requests: it is left to the client."""
        now = self._clock.now()
        told = {
            name
            for (whose, name), at in self._by_client.items()
            if whose == service and now - at < CLIENT_S
        }
        if not told:
            return window
        names = {*window.counts, *window.levels, *window.histograms} - told
        return only(window, frozenset(names))

    def verdicts(self) -> Sequence[Verdict]:
        """All that stand on this node."""
        return self._spool.standing()

    def tick(self) -> None:
        """One second: devices, verdicts, and windows whose time is over."""
        now, wall = self._clock.now(), self._clock.wall()
        try:
            view = self._source.view()
        except Unavailable:
            view = None
        with self._lock:
            if view is not None:
                self._take_in(view)
            verdicts = [*self._judge(now), *self._told_objectives()]
            offset = wall - now
            walls = [
                replace(v, since_wall=v.since_wall + offset, at_wall=v.at_wall + offset)
                for v in verdicts
            ]
            self._cut(wall)
            reds = frozenset((v.guardrail, v.cohort) for v in walls if v.colour is Colour.RED)
            if reds - self._reds:
                self._send(is_last=False)  # the numbers travel with the word
            self._reds = reds
        self._spool.say(walls)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001  the boundary: the next second starts afresh
                self.failures += 1
                get_log().error("windows_failed", reason=repr(error)[:400])
            self._hurry.wait(SECOND_S)
            self._hurry.clear()

    def _cohort(self, service: str) -> Cohort:
        carrier = self._carriers.get(service)
        return Cohort(service=service) if carrier is None else carrier.cohort

    def _tally(self, table: dict[Cohort, Tally], cohort: Cohort) -> Tally | None:
        tally = table.get(cohort)
        if tally is None and len(table) < COHORTS_MAX:
            tally = table[cohort] = Tally()
        return tally

    def _take_in(self, view: View) -> None:
        """Who carries what, and how busy their devices are."""
        uses: dict[str, set[str]] = {}
        for use in view.snapshot.uses:
            uses.setdefault(use.tenant, set()).add(use.device)
        services = {tenant.id: tenant for tenant in view.snapshot.tenants if tenant.service}
        carriers: dict[str, Carrier] = {}
        for tenant in services.values():
            assert tenant.service is not None
            cohort = Cohort(service=tenant.service, version=tenant.version, arm=tenant.arm)
            devices = tuple(sorted(uses.get(tenant.id, ())))
            carriers[tenant.service] = Carrier(cohort=cohort, tenant=tenant.id, devices=devices)
        self._carriers = carriers
        vitals = {
            device.id: device.health.vitals
            for device in view.snapshot.devices
            if device.health is not None and device.health.vitals is not None
        }
        for carrier in carriers.values():
            for device in carrier.devices:
                reading = vitals.get(device)  # type: ignore[call-overload]
                if reading is None or view.at - reading.at > FRESH_S:
                    continue
                told = {"gpu_utilization": reading.utilization_ratio}
                if reading.clock_event_mask is not None:
                    told["gpu_throttled"] = float(bool(reading.clock_event_mask & HELD_DOWN))
                self._level(carrier.cohort, told)

    def _level(self, cohort: Cohort, told: Mapping[str, float | None]) -> None:
        for table in (self._tallies, self._seconds):
            tally = self._tally(table, cohort)
            for name, value in told.items():
                if tally is not None and value is not None:
                    tally.level(name, value)

    def _judge(self, now: float) -> list[Verdict]:
        """Every fast guardrail of every cohort that is carried, or was told of lately."""
        length_s = max(1e-3, now - self._judged_at)
        for cohort, tally in self._seconds.items():
            if not tally.is_empty:
                recent = self._recent.setdefault(cohort, deque(maxlen=RECENT_MAX))
                recent.append(tally.window(cohort, self._judged_at, length_s, 0))
        self._seconds, self._judged_at = {}, now
        verdicts = []
        for spec in self._guardrails:
            for cohort in [*self._recent]:
                if not self._is_for(spec, cohort):
                    continue
                recent = self._recent[cohort]
                since = now - spec.reach_s
                windows = [window for window in recent if window.begin_wall >= since]
                key = (spec.name, cohort)
                memory, verdict = judge(
                    spec, self._memories.get(key, Memory()), cohort, windows, now
                )
                self._memories[key] = memory
                verdicts.append(verdict)
        self._forget(now)
        return verdicts

    def _is_for(self, spec: Guardrail, cohort: Cohort) -> bool:
        if cohort.segment and not spec.by_segment:
            return False
        if "latency_s" in spec.expression and cohort.service in self._with_objective:
            return False
        return any(fnmatchcase(cohort.service, pattern) for pattern in spec.services)

    def _forget(self, now: float) -> None:
        """Cohorts of which nothing has come for long."""
        longest_s = max((spec.reach_s for spec in self._guardrails), default=60.0)
        gone = []
        for cohort, recent in list(self._recent.items()):
            while recent and recent[0].begin_wall < now - longest_s:
                recent.popleft()
            if not recent:
                gone.append(cohort)
                del self._recent[cohort]
        for key in [key for key in self._memories if key[1] in gone]:
            del self._memories[key]
        for told in [t for t, at in self._by_client.items() if now - at >= CLIENT_S]:
            del self._by_client[told]
        if gone:
            self._spool.forget(gone)

    def _told_objectives(self) -> list[Verdict]:
        return [
            replace(verdict, cohort=self._cohort(service))
            for service, verdict in self._objectives.items()
        ]

    def _cut(self, wall: float) -> None:
        """Windows whose time is over go; the first one begins with the next whole ten seconds."""
        begin = wall // WINDOW_S * WINDOW_S
        if self._begin_wall is None:
            self._begin_wall = begin + WINDOW_S
        if begin < self._begin_wall:
            self._tallies = {}  # what has come is of a window that began before this agent did
            if begin < self._begin_wall - WINDOW_S:
                self._begin_wall = begin  # the clock was set back
        elif begin > self._begin_wall:
            self._send(is_last=True)
            self._begin_wall = begin

    def _send(self, *, is_last: bool) -> None:
        """What has been gathered, as a revision that takes the place of one sent before."""
        begin = self._begin_wall
        if begin is None:
            return
        for cohort, tally in self._tallies.items():
            revision = self._revisions.get(cohort, -1) + 1
            self._revisions[cohort] = revision
            if not tally.is_empty:
                carrier = self._carriers.get(cohort.service)
                self._spool.put(
                    tally.window(cohort, begin, WINDOW_S, revision),
                    "" if carrier is None else carrier.tenant,
                    () if carrier is None else carrier.devices,
                )
        if is_last:
            self._tallies, self._revisions = {}, {}


def _line(why: str) -> str:
    text = " ".join(why.split())[:120]
    return "".join(c if c.isprintable() else "?" for c in text)
