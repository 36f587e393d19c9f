"""Judges a world by the words of the design and by what really happened, not by the agent's own code.

It reads the world's ledger (who was really hit), the truth behind every list the driver gave out, what
the operator allowed, and the journal's intents. Of the agent's own memory it uses one thing: when it
considers an eviction over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from gpuwarden.model.decision import Decision, NoteKind
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.memory import IN_FLIGHT, Rung
from gpuwarden.sim.node.allowance import Allowance
from gpuwarden.sim.node.ledger import HARM, Entry
from gpuwarden.sim.node.probe import Listed
from tests.properties.play import GRACES, MIB, Play

LADDER = frozenset({"freeze", "restart-off", "term", "kill", "stop"})
"""Effects of an eviction. Limits and throttles are judged for themselves."""
CLASSES = {"best-effort": 0, "low": 1, "normal": 2, "high": 3, "protected": 4}
MARGIN = 512 * MIB
"""Bytes that may become nobody's without anybody noticing (``quota.unattributed_margin_bytes``)."""
SLACK_S = 0.12
"""From a list to the effect decided on it: a tick, a worker's call."""


@dataclass(slots=True)
class Flight:
    """One eviction as it was felt: from the first effect on a tenant until it was left alone."""

    tenant: TenantId
    begun: float
    serial: int
    devices: tuple[DeviceId, ...]
    pids: tuple[Pid, ...]
    ended: float | None = None


@dataclass(slots=True)
class Oracle:
    """Watches one play; ``wrong`` is what it found."""

    play: Play
    wrong: list[str] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)
    spells: dict[TenantId, list[tuple[float, float | None]]] = field(default_factory=dict)
    """Tenant -> when the agent had it in flight, by its own memory."""
    harmed: list[tuple[float, DeviceId]] = field(default_factory=list)
    """Moments at which a protected tenant suffered on a device."""
    down: list[tuple[float, float]] = field(default_factory=list)
    """When no agent ran, or it was stopped."""
    _in_flight: dict[TenantId, float] = field(default_factory=dict)
    _after: dict[TenantId, tuple[Pid, ...]] = field(default_factory=dict)
    _seen: int = 0
    _by_action: dict[str, list[Entry]] = field(default_factory=dict)
    _indexed: int = 0

    # --- while it happens ---

    def look(self) -> None:
        """After every tick."""
        world = self.play.world
        now = world.clock.now()
        decision = world.board.decision
        if decision is None:
            return
        self._suffering(now)
        self._spells(decision, now)
        self._one_per_device(decision)
        self._claims(decision)
        self._felt()

    def _say(self, text: str) -> None:
        self.wrong.append(f"{self.play.world.clock.now() - self.play.world.began:8.3f}  {text}")

    def _suffering(self, now: float) -> None:
        world = self.play.world
        reserve = world.config().reserve
        for card in world.cards.cards.values():
            guarded = [
                p for p in world.cards.holders(card.id) if self._class(p.tenant) == "protected"
            ]
            if not guarded:
                continue
            free = card.total_bytes - world.cards.used_bytes(card)
            red = any(
                s.health.value == "red" and s.tenant in {p.tenant for p in guarded}
                for s in world.services.services.values()
            )
            state = (
                world.board.decision.memory.devices.get(card.id) if world.board.decision else None
            )
            is_locked = card.is_locked or (state is not None and state.locked_since is not None)
            if red or is_locked or free < max(reserve.bytes, int(reserve.ratio * card.total_bytes)):
                self.harmed.append((now, card.id))

    def _spells(self, decision: Decision, now: float) -> None:
        flying = {t for t, c in decision.memory.cases.items() if c.rung in IN_FLIGHT}
        for tenant in flying - set(self._in_flight):
            self._in_flight[tenant] = now
        for tenant in set(self._in_flight) - flying:
            begun = self._in_flight.pop(tenant)
            self.spells.setdefault(tenant, []).append((begun, now))

    def _one_per_device(self, decision: Decision) -> None:
        busy: dict[DeviceId, TenantId] = {}
        for case in decision.memory.cases.values():
            if case.rung not in IN_FLIGHT:
                continue
            for device in case.devices or (case.device,):
                if device in busy:
                    self._say(
                        f"two evictions in flight on {device}: {busy[device]} and {case.tenant}"
                    )
                busy[device] = case.tenant

    def _claims(self, decision: Decision) -> None:
        """Success is an empty group and the bytes back."""
        cases = decision.memory.cases
        over = {
            n.incident for n in decision.incidents if n.kind is NoteKind.RUNG and n.text == "over"
        }
        for tenant, (rung, incident, pids) in list(self._before.items()):
            if incident in over and tenant not in cases and rung in _ENDING:
                self._check_gone(tenant, pids)
        self._before = {t: (c.rung, c.incident, c.target.pids) for t, c in cases.items()}

    _before: dict[TenantId, tuple[Rung, str, tuple[Pid, ...]]] = field(default_factory=dict)

    def _check_gone(self, tenant: TenantId, pids: tuple[Pid, ...]) -> None:
        kernel = self.play.world.kernel
        for process in kernel.everyone():
            if process.tenant != tenant or process.pid not in pids:
                continue
            there = [d for d, n in process.holds.items() if n > MARGIN and self._is_measurable(d)]
            if process.is_alive or there:
                self._say(f"called over: {tenant} while {process.pid} lives or holds {there}")

    def _is_measurable(self, device: DeviceId) -> bool:
        card = self.play.world.cards.cards[device]
        return card.is_there and not card.is_lost

    def _felt(self) -> None:
        """What was felt since the last tick; a flight begins with the first of it."""
        world = self.play.world
        entries = world.ledger.entries
        for entry in entries[self._seen :]:
            if entry.kind in LADDER and entry.tenant is not None:
                self._fly(entry)
        self._seen = len(entries)

    def _fly(self, entry: Entry) -> None:
        tenant = entry.tenant
        if tenant is None:
            return
        intents = self._intents_of(entry)
        decided = intents[0].at if intents else entry.at  # a worker's turn may come later
        for flight in self.flights:
            if flight.tenant == tenant and not self._is_over(flight, decided):
                return
        holds = {
            d for p in self.play.world.kernel.everyone() if p.tenant == tenant for d in p.holds
        }
        self.flights.append(
            Flight(
                tenant=tenant,
                begun=entry.at,
                serial=entry.serial,
                devices=tuple(sorted(holds)),
                pids=entry.pids,
            )
        )

    def _is_over(self, flight: Flight, now: float) -> bool:
        """Left alone since: the agent's own memory had it out of flight in between."""
        if flight.ended is None:
            for begun, ended in self.spells.get(flight.tenant, []):
                if (
                    ended is not None
                    and begun <= flight.begun + SLACK_S
                    and flight.begun <= ended < now
                ):
                    flight.ended = ended
        return flight.ended is not None

    # --- afterwards ---

    def judge(self) -> list[str]:
        """Everything that was wrong."""
        self._felt()
        self._observe_mode()
        for entry in self.play.world.ledger.harm():
            self._intended(entry)
            self._allowed(entry)
        for flight in self.flights:
            self._deserved(flight)
            self._fresh(flight)
        self._graces()
        self._left_behind()
        return self.wrong

    def _class(self, tenant: TenantId) -> str:
        allowance = self.play.world.allowances.get(tenant)
        return allowance.cls if allowance is not None else "unknown"

    def _observe_mode(self) -> None:
        if self.play.mode == "observe":
            self.wrong += [f"observe mode touched: {e}" for e in self.play.world.ledger.harm()]

    def _intended(self, entry: Entry) -> None:
        """Every harm has an earlier line in the journal, under the same id and kind."""
        if not any(i.serial < entry.serial for i in self._intents_of(entry)):
            self.wrong.append(f"no earlier intent: {entry}")

    def _intents_of(self, entry: Entry) -> list[Entry]:
        ledger = self.play.world.ledger
        for line in ledger.entries[self._indexed :]:
            if line.kind == "intent":
                self._by_action.setdefault(line.action, []).append(line)
        self._indexed = len(ledger.entries)
        return self._by_action.get(entry.action, [])

    def _allowed(self, entry: Entry) -> None:
        """Never whom nothing may hit."""
        tenant = entry.tenant
        if tenant is None:
            return
        allowance = self.play.world.allowances.get(tenant)
        if allowance is None:
            self.wrong.append(f"hit somebody nobody knows: {entry}")
        elif allowance.is_never_victim:
            self.wrong.append(f"hit a never-victim: {entry}")
        elif allowance.cls == "protected" and not self._may_move(entry):
            self.wrong.append(f"hit a protected tenant: {entry}")
        elif entry.kind == "throttle":
            self._throttled(entry, allowance)

    def _may_move(self, entry: Entry) -> bool:
        return entry.kind == "relocate" and self.play.world.config().ladder.allow_protected_restart

    def _throttled(self, entry: Entry, allowance: Allowance) -> None:
        """Over its soft quota on some device by every list for as long as a throttle takes."""
        soft = (allowance.soft_mib or allowance.quota_mib or 0) * MIB
        cfg = self.play.world.config()
        hold, interval = cfg.quota.throttle_after_s, cfg.sampling.list_every_s
        tenant = entry.tenant
        for device in self.play.world.cards.cards:
            past = [x for x in self._lists(device) if x.at <= entry.at]
            recent = [x for x in past if entry.at - x.at <= 2 * interval + SLACK_S]
            ends = [entry.at, *(x.at for x in recent)] if recent else []
            if tenant and soft and any(_held(past, end, tenant, soft, hold) for end in ends):
                return
        self.wrong.append(f"throttled within its soft quota: {entry}")

    def _lists(self, device: DeviceId) -> list[Listed]:
        return [x for x in self.play.world.probe.history if x.device == device]

    def _deserved(self, flight: Flight) -> None:
        """At fault by two lists; or chosen for a reserve; or a held owner's."""
        allowance = self.play.world.allowances.get(flight.tenant)
        if allowance is None or allowance.cls == "protected":
            return  # said already
        if any(
            self._is_at_fault(flight, device, allowance) for device in self.play.world.cards.cards
        ):
            if allowance.cls == "high" and not self._is_tombstoned(flight):
                self.wrong.append(f"a high tenant went for its own overrun: {flight}")
            return
        if any(self._is_chosen(flight, device) for device in self.play.world.cards.cards):
            return
        if self._is_held(flight, allowance):
            return
        self.wrong.append(f"wrong victim: {flight} allowed {allowance}")

    def _is_at_fault(self, flight: Flight, device: DeviceId, allowance: Allowance) -> bool:
        if allowance.quota_mib is None:
            return False
        quota = allowance.quota_mib * MIB
        trip = quota + max(64 * MIB, quota * 2 // 100)
        lists = [x for x in self._lists(device) if x.at <= flight.begun][-12:]
        over = [x.truth.get(flight.tenant, 0) > trip for x in lists]
        recent = [x for x in lists if flight.begun - x.at <= 8]
        return any(a and b for a, b in pairwise(over)) and bool(recent)

    def _is_chosen(self, flight: Flight, device: DeviceId) -> bool:
        """Somebody protected is there, less than the reserve is free, and nobody comes before him."""
        world = self.play.world
        reserve = world.config().reserve
        card = world.cards.cards[device]
        least = max(reserve.bytes, int(reserve.ratio * card.total_bytes))
        lists = [x for x in self._lists(device) if x.at <= flight.begun]
        if not lists or least == 0:
            return False
        last = lists[-1]
        mine = last.truth.get(flight.tenant, 0)
        if last.free_bytes >= least or mine == 0:
            return False
        if not any(self._class(t) == "protected" for t in last.truth):
            return False
        if CLASSES.get(self._class(flight.tenant), 9) >= CLASSES["high"]:
            return False
        rank = self._rank(flight.tenant, mine)
        if rank[1] == 1 and not reserve.evict_within_quota:
            return False
        others = [
            t for t in last.truth if t != flight.tenant and self._is_eligible(t, flight.begun)
        ]
        ranks = [self._rank(t, last.truth[t]) for t in others]
        return all(r >= rank for r in ranks if r[1] == 0 or reserve.evict_within_quota)

    def _is_eligible(self, tenant: TenantId, when: float) -> bool:
        world = self.play.world
        allowance = world.allowances.get(tenant)
        if (
            allowance is None
            or allowance.is_never_victim
            or CLASSES[allowance.cls] >= CLASSES["high"]
        ):
            return False
        container = world.docker.by_tenant(tenant)
        if tenant.startswith("docker:") and container is None:
            return False
        if tenant in self.play.heirs:
            return False  # has a dead process's pid: its bytes may be in doubt
        late = container is not None and when - container.started_at < world.docker.describe_s + 2.5
        return not late  # not described yet, or seen only since the last list

    def _rank(self, tenant: TenantId, used: int) -> tuple[int, int]:
        """Lower class first, then over quota; finer steps are the unit tests' business."""
        allowance = self.play.world.allowances[tenant]
        quota = (allowance.quota_mib or 0) * MIB
        return CLASSES[allowance.cls], 0 if quota and used > quota else 1

    def _is_held(self, flight: Flight, allowance: Allowance) -> bool:
        key = allowance.owner_key
        if not key:
            return False
        kin = [t for t, a in self.play.world.allowances.items() if a.owner_key == key]
        past = [f for f in self.flights if f.tenant in kin and f.serial < flight.serial]
        need = self.play.world.config().ladder.tombstone_evictions
        return len(past) >= need

    def _fresh(self, flight: Flight) -> None:
        """Begun on a list at most ``harm_age_s`` old, on a device that answered."""
        world = self.play.world
        if self._is_tombstoned(flight):
            return
        limit = world.config().sampling.harm_age_s + SLACK_S
        ages = [
            flight.begun - x.at
            for d in flight.devices
            for x in self._lists(d)
            if x.at <= flight.begun
        ]
        if flight.devices and (not ages or min(ages) > limit):
            self.wrong.append(f"on stale data ({min(ages, default=-1):.2f} s): {flight}")

    def _is_tombstoned(self, flight: Flight) -> bool:
        first = self.play.world.ledger.entries[flight.serial]
        return first.kind == "stop"

    def _graces(self) -> None:
        """Nobody is killed before his grace is over."""
        ledger = self.play.world.ledger
        for flight in self.flights:
            kills = [e for e in ledger.of("kill", tenant=flight.tenant) if self._is_of(flight, e)]
            if not kills:
                continue
            asked = [
                i
                for i in ledger.of("intent", tenant=flight.tenant)
                if i.text == "term" and flight.serial - 50 <= i.serial < kills[0].serial
            ]
            grace = self._grace(flight)
            if asked and kills[0].at - asked[-1].at < grace - 1e-3:
                waited = kills[0].at - asked[-1].at
                self.wrong.append(f"killed after {waited:.2f} s of {grace} s: {flight}")
            if not asked and grace > 0 and not self._was_paused(flight):
                self.wrong.append(f"killed unasked: {flight}")

    def _is_of(self, flight: Flight, entry: Entry) -> bool:
        later = [
            f.begun for f in self.flights if f.tenant == flight.tenant and f.begun > flight.begun
        ]
        return flight.begun <= entry.at < min(later, default=float("inf"))

    def _grace(self, flight: Flight) -> float:
        world = self.play.world
        allowance = world.allowances.get(flight.tenant)
        own = allowance.grace_s if allowance is not None else None
        grace = GRACES.get(self._class(flight.tenant), 0.0) if own is None else own
        end = flight.ended or float("inf")
        if any(flight.begun - 1 <= when <= end and d in flight.devices for when, d in self.harmed):
            return min(grace, world.config().ladder.emergency_grace_s)
        return grace

    def _was_paused(self, flight: Flight) -> bool:
        return flight.tenant in self.play.paused

    def _left_behind(self) -> None:
        """Nothing frozen past its time, nothing owed for ever."""
        world = self.play.world
        ttl = world.config().ladder.hold_ttl_s
        held = [
            *world.cgroups.holds,
            *((p, s, world.clock.now()) for p, s in world.cgroups.held_since.items()),
        ]
        for path, begun, ended in held:
            excused = sum(max(0.0, min(ended, b) - max(begun, a)) for a, b in self.down)
            excused += 3.0 if "thaw fails" in self.play.features else 0.0
            if ended - begun > ttl + 1.2 + excused + 3 * bool(self.down):
                self.wrong.append(f"frozen for {ended - begun:.2f} s: {path}")
        if world.agent is None or self.play.mode == "observe":
            return
        for container in world.docker.containers.values():
            given = self.play.restarts.get(container.id)
            if (
                given is not None
                and container.restart != given
                and not self._is_stuck(container.tenant)
            ):
                self.wrong.append(
                    f"restart policy of {container.name} stays {container.restart}, was {given}"
                )
            throttled = (
                container.group is not None
                and container.is_running
                and "cpu.max" in container.group.settings
            )
            if throttled and container.tenant not in self._throttled_now():
                self.wrong.append(f"throttled for ever: {container.name}")

    def _is_stuck(self, tenant: TenantId) -> bool:
        decision = self.play.world.board.decision
        return decision is not None and tenant in decision.memory.cases

    def _throttled_now(self) -> set[TenantId]:
        decision = self.play.world.board.decision
        return set(decision.memory.cases) if decision is not None else set()


def _held(past: list[Listed], end: float, tenant: TenantId, soft: int, hold: float) -> bool:
    """Whether every list of so long a time, up to a moment, shows him over."""
    early = [x for x in past if x.at <= end - hold + SLACK_S][-1:]
    since = [x for x in past if end - hold + SLACK_S < x.at <= end]
    return all(x.truth.get(tenant, 0) > soft for x in (*early, *since))


_ENDING = frozenset({Rung.TERMED, Rung.KILLED, Rung.STOPPED, Rung.STUCK})


def two_at_once(oracle: Oracle) -> bool:
    """Whether two devices saw an eviction at the same time."""
    spells = list(_all_spells(oracle))
    return any(
        a[0] != b[0] and a[1] < b[2] and b[1] < a[2]
        for n, a in enumerate(spells)
        for b in spells[:n]
    )


def _all_spells(oracle: Oracle) -> Iterator[tuple[TenantId, float, float]]:
    for tenant, spells in oracle.spells.items():
        for begun, ended in spells:
            yield tenant, begun, ended if ended is not None else float("inf")


def harm_kinds(oracle: Oracle) -> set[str]:
    """What kinds of harm a play saw."""
    return {e.kind for e in oracle.play.world.ledger.entries if e.kind in HARM}
