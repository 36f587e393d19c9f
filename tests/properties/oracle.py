"""Judges a world by the words of the design and by what really happened, not by the agent's own code.

It reads the world's ledger (who was really hit), the truth behind every list the agent had been handed,
what the operator allowed, and the journal's intents. Of the agent's own memory it uses one thing: when it
considers an eviction begun and over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from gpuwarden.model.action import HARMFUL
from gpuwarden.model.decision import Decision, NoteKind
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.memory import IN_FLIGHT, Rung
from gpuwarden.sim.node.allowance import Allowance
from gpuwarden.sim.node.ledger import HARM, Entry
from tests.properties.aftermath import left_behind
from tests.properties.evidence import SLACK_S, Evidence
from tests.properties.play import GRACES, MIB, Play

LADDER = frozenset({"freeze", "restart-off", "term", "kill", "stop"})
"""Effects of an eviction. Limits and throttles are judged for themselves."""
REPAIRS = frozenset({"restart-services", "reset-gpu", "reload-driver", "reboot"})
UNDO = frozenset({"thaw", "restore", "restart-back", "clear-limit"})
TOUCHES = HARM | REPAIRS | UNDO | {"drain", "resume"}
"""Everything the agent does to somebody else's things; in observe mode there is nothing to undo."""
RULE_OF_EFFECT = {
    "throttle": "quota",
    "set-limit": "quota",
    "relocate": "locked",
    **dict.fromkeys(REPAIRS, "repair"),
}
"""Effects that only one rule has."""
MARGIN = 512 * MIB
"""Bytes that may become nobody's without anybody noticing (``quota.unattributed_margin_bytes``)."""
GONE = "over: its processes are gone"
"""What an incident says of an eviction that has succeeded (see ``policy/evict.py``)."""


@dataclass(slots=True)
class Flight:
    """One eviction as it was felt: from the first effect on a tenant until it was left alone."""

    tenant: TenantId
    begun: float
    decided: float
    """When its first effect was decided."""
    serial: int
    devices: tuple[DeviceId, ...]
    pids: tuple[Pid, ...]
    ended: float | None = None


@dataclass(slots=True)
class Oracle:
    """Watches one play; ``wrong`` is what it found."""

    play: Play
    evidence: Evidence = field(init=False)
    wrong: list[str] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)
    """What the world has really shown (``run.FEATURES``, as far as it is seen while it happens)."""
    flights: list[Flight] = field(default_factory=list)
    spells: dict[TenantId, list[tuple[float, float | None]]] = field(default_factory=dict)
    """Tenant -> when the agent had it in flight, by its own memory."""
    harmed: list[tuple[float, DeviceId]] = field(default_factory=list)
    """Moments at which a protected tenant suffered on a device."""
    down: list[tuple[float, float]] = field(default_factory=list)
    """When no agent ran, or it was stopped."""
    _in_flight: dict[TenantId, float] = field(default_factory=dict)
    _before: dict[TenantId, tuple[Rung, str, tuple[Pid, ...]]] = field(default_factory=dict)
    _looked: float = 0.0
    _has_died: bool = False
    """An agent has died since the last look."""
    _seen: int = 0
    _done: dict[str, float] = field(default_factory=dict)
    """Action -> when it had its (first) effect."""

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.play)

    # --- while it happens ---

    def look(self) -> None:
        """After every tick."""
        world = self.play.world
        now = world.clock.now()
        decision = world.board.decision
        if decision is None:
            return
        self._suffering(now)
        self._felt()
        self._spells(decision, now)
        self._one_per_device(decision)
        self._claims(decision)
        self._witness(now)

    def _say(self, text: str) -> None:
        self.wrong.append(f"{self.play.world.clock.now() - self.play.world.began:8.3f}  {text}")

    def _witness(self, now: float) -> None:
        """Which of the things a run has to cover are there now."""
        world = self.play.world
        snapshot = world.board.snapshot
        if snapshot is None:
            return
        interval = world.config().sampling.list_every_s
        for device in snapshot.devices:
            holders = {p.tenant for p in world.cards.holders(device.id)}
            if not holders:
                continue
            is_old = device.sight is Sight.BLIND or (
                self.evidence.age_s(device.id, now) > 2 * interval
            )
            if is_old and device.sight is not Sight.LOST:
                self.shown.add("stale sample")
                if self.evidence.tempts(device.id, now):
                    self.shown.add("stale sample of an offender")
            if device.parent is not None:
                self.shown.add("mig")
            unattributed = dict(snapshot.unattributed).get(device.id, 0)
            if unattributed > MARGIN and "unattributed" in self.play.features:
                self.shown.add("unattributed growth")
                if len(holders) > 1:
                    self.shown.add("ambiguity")
            if any(p.comm == "nvidia-cuda-mps-server" for p in world.cards.holders(device.id)):
                self.shown.add("mps")

    def _suffering(self, now: float) -> None:
        world = self.play.world
        reserve = world.config().reserve
        for card in world.cards.cards.values():
            guarded = [
                p
                for p in world.cards.holders(card.id)
                if self.evidence.class_of(p.tenant) == "protected"
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
        ended = self._looked if self._has_died else now  # in the tick it died of, at the earliest
        for tenant in set(self._in_flight) - flying:
            begun = self._in_flight.pop(tenant)
            self.spells.setdefault(tenant, []).append((begun, ended))
        self._looked, self._has_died = now, False

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
            n.incident
            for n in decision.incidents
            if n.kind is NoteKind.RUNG and n.text.startswith(GONE)
        }
        for tenant, (rung, incident, pids) in list(self._before.items()):
            if incident in over and tenant not in cases and rung in IN_FLIGHT | {Rung.STUCK}:
                self.shown.add("success claimed")
                self._check_gone(tenant, pids)
        self._before = {t: (c.rung, c.incident, c.target.pids) for t, c in cases.items()}

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
        entries = self.play.world.ledger.entries
        for entry in entries[self._seen :]:
            self._has_died |= entry.kind == "agent-died"
            if entry.kind not in HARM:
                continue
            first = self._done.setdefault(entry.action, entry.at)
            if entry.action and first != entry.at:
                self._say(f"done twice: {entry} (first at {first:.3f})")
            if entry.kind in LADDER and entry.tenant is not None:
                self._fly(entry, entry.tenant)
        self._seen = len(entries)

    def _fly(self, entry: Entry, tenant: TenantId) -> None:
        decided = self.evidence.decided_at(entry)
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
                decided=decided,
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
        for entry in self.play.world.ledger.of("term", "kill"):
            self._measured(entry)
        self._graces()
        self._at_once()
        self._emptied()
        self.wrong += left_behind(self.play, self.down)
        return self.wrong

    def _observe_mode(self) -> None:
        """A rule that observes touches nothing; where all do, there is nothing to undo either. Whose
        eviction it was is judged with the flights."""
        acting = self.play.enforces
        for entry in self.play.world.ledger.of(*TOUCHES):
            rule = RULE_OF_EFFECT.get(entry.kind)
            if not acting or (rule is not None and rule not in acting):
                self.wrong.append(f"observe mode touched: {entry}")
        for entry in self.play.world.ledger.of("intent"):
            if not acting and entry.text in HARMFUL:
                self.wrong.append(f"observe mode meant harm: {entry}")

    def _intended(self, entry: Entry) -> None:
        """Every harm has an earlier line in the journal, under the same id and kind."""
        lines = self.evidence.intents(entry.action)
        if not any(i.serial < entry.serial and i.text == entry.kind for i in lines):
            self.wrong.append(f"no earlier intent: {entry}")

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
        elif entry.kind == "throttle" and not self.evidence.is_throttled_rightly(tenant, entry.at):
            self.wrong.append(f"throttled within its soft quota: {entry}")

    def _may_move(self, entry: Entry) -> bool:
        return entry.kind == "relocate" and self.play.world.config().ladder.allow_protected_restart

    def _deserved(self, flight: Flight) -> None:
        """At fault by two lists, or chosen for a reserve, each by a list young enough to harm on; or a
        held owner's, for whom no size matters."""
        allowance = self.play.world.allowances.get(flight.tenant)
        if allowance is None or allowance.cls == "protected":
            return  # said already
        if self._is_held(flight, allowance):
            return
        when, devices = flight.decided, list(self.play.world.cards.cards)
        mine = self.evidence
        acting = self.play.enforces
        blamed = [d for d in devices if mine.convicts(flight.tenant, d, when) and "quota" in acting]
        chosen = [
            d for d in devices if mine.is_chosen(flight.tenant, d, when) and "reserve" in acting
        ]
        accused = [
            d
            for d in devices
            if "fault" in acting
            and mine.is_accused(flight.tenant, d, when)
            and any(x == d and abs(at - when) <= 1.0 for at, x in self.harmed)
        ]
        accused += [
            d
            for d in devices
            if "neighbour" in acting and mine.is_neighbour(flight.tenant, d, self._meant_at(flight))
        ]
        if accused and not blamed and not chosen:
            self.shown.add("accused")
        if not blamed and not chosen and not accused:
            self.wrong.append(f"wrong victim: {flight} allowed {allowance}")
            return
        if not chosen and allowance.cls == "high":
            self.wrong.append(f"a high tenant went for its own overrun: {flight}")
        youngest = min(mine.age_s(d, when) for d in {*blamed, *chosen, *accused})
        if youngest > self.play.world.config().sampling.harm_age_s + 1e-6:
            self.wrong.append(f"on stale data ({youngest:.2f} s): {flight}")

    def _meant_at(self, flight: Flight) -> float:
        """When it was first meant, in the journal's words: an agent that died of it goes on with it later, when the
        proof is not to be had again."""
        since = self._left_alone_at(flight)
        meant = [
            line.at
            for line in self.play.world.ledger.of("intent", tenant=flight.tenant)
            if line.text in LADDER and since <= line.at <= flight.decided
        ]
        return min(meant, default=flight.decided)

    def _is_held(self, flight: Flight, allowance: Allowance) -> bool:
        """A stop (of an owner that came back after three evictions): the one end that no size decides."""
        key = allowance.owner_key
        first = self.play.world.ledger.entries[flight.serial]
        if not key or first.kind != "stop" or "tombstone" not in self.play.enforces:
            return False
        kin = [t for t, a in self.play.world.allowances.items() if a.owner_key == key]
        past = [f for f in self.flights if f.tenant in kin and f.serial < flight.serial]
        return len(past) >= self.play.world.config().ladder.tombstone_evictions

    def _measured(self, entry: Entry) -> None:
        """No rung is climbed on a size read too long ago: in an emergency, where it would change nothing,
        two lists' time is allowed."""
        world = self.play.world
        tenant = entry.tenant
        flight = next((f for f in self._flights_of(entry)), None)
        if tenant is None or flight is None:
            return
        when = self.evidence.decided_at(entry)
        sampling = world.config().sampling
        is_emergency = any(
            abs(when - at) <= 1.0 or flight.decided <= at <= when
            for at, device in self.harmed
            if device in flight.devices
        )
        limit = 2 * sampling.list_every_s if is_emergency else sampling.harm_age_s
        youngest = min((self.evidence.age_s(d, when) for d in flight.devices), default=0.0)
        if youngest > limit + 1e-6:
            self.wrong.append(f"{entry.kind} on stale data ({youngest:.2f} s): {flight}")

    def _flights_of(self, entry: Entry) -> Iterator[Flight]:
        """The flight an effect belongs to, newest first."""
        for flight in reversed(self.flights):
            if flight.tenant == entry.tenant and flight.begun <= entry.at:
                yield flight

    def _graces(self) -> None:
        """Nobody is killed before his grace is over."""
        ledger = self.play.world.ledger
        for flight in self.flights:
            kills = [e for e in ledger.of("kill", tenant=flight.tenant) if self._is_of(flight, e)]
            if not kills:
                continue
            since = self._left_alone_at(flight)
            asked = [
                i.at
                for i in ledger.of("intent", tenant=flight.tenant)
                if i.text == "term" and i.at >= since and i.serial < kills[0].serial
            ]
            grace = self._grace(flight)
            if self._was_paused(flight):
                continue
            if asked and kills[0].at - asked[-1] < grace - 1e-3:
                waited = kills[0].at - asked[-1]
                self.wrong.append(f"killed after {waited:.2f} s of {grace} s: {flight}")
            if not asked and grace > 0:
                self.wrong.append(f"killed unasked: {flight}")

    def _left_alone_at(self, flight: Flight) -> float:
        """Until when it had been left alone; what was ordered since belongs to this flight, even if the
        agent died of it."""
        ends = [e for _, e in self._all_spells_of(flight.tenant) if e < flight.begun]
        return max(ends, default=0.0)

    def _all_spells_of(self, tenant: TenantId) -> list[tuple[float, float]]:
        spells = [(b, float("inf") if e is None else e) for b, e in self.spells.get(tenant, [])]
        if tenant in self._in_flight:
            spells.append((self._in_flight[tenant], float("inf")))
        return spells

    def _is_of(self, flight: Flight, entry: Entry) -> bool:
        later = [
            f.begun for f in self.flights if f.tenant == flight.tenant and f.begun > flight.begun
        ]
        return flight.begun <= entry.at < min(later, default=float("inf"))

    def _grace(self, flight: Flight) -> float:
        world = self.play.world
        allowance = world.allowances.get(flight.tenant)
        own = allowance.grace_s if allowance is not None else None
        grace = GRACES.get(self.evidence.class_of(flight.tenant), 0.0) if own is None else own
        end = flight.ended or float("inf")
        if any(flight.begun - 1 <= when <= end and d in flight.devices for when, d in self.harmed):
            return min(grace, world.config().ladder.emergency_grace_s)
        return grace

    def _was_paused(self, flight: Flight) -> bool:
        return flight.tenant in self.play.paused

    def _at_once(self) -> None:
        """By what was felt, not by what the agent remembers: nobody is hit on a device while another's
        eviction there is under way. Where somebody is counts as far as a list had told."""
        for one, other in combinations(self.flights, 2):
            first, second = sorted((one, other), key=lambda f: f.decided)
            shared = self.evidence.listed_on(first.tenant, first.decided)
            shared &= self.evidence.listed_on(second.tenant, second.decided)
            if one.tenant == other.tenant or not shared:
                continue
            end = self._end_of(first)
            if second.decided < end - 1e-6:
                self.wrong.append(f"two at once on {sorted(shared)}: {first} until {end} {second}")

    def _emptied(self) -> None:
        """A device is reset, and the driver reloaded, only when no list shows anybody there. (One that the
        driver does not even count any more is nobody's: there the step itself refuses.)"""
        for entry in self.play.world.ledger.of("reset-gpu", "reload-driver"):
            every = self.play.world.cards.cards
            for device in every if entry.device is None else [entry.device]:
                known = self.evidence.known(device, self.evidence.decided_at(entry))
                if known and known[-1].truth and every[device].is_there:
                    self.wrong.append(f"used by {sorted(known[-1].truth)}: {entry}")

    def _end_of(self, flight: Flight) -> float:
        ends = [
            e
            for b, e in self._all_spells_of(flight.tenant)
            if b <= flight.begun + SLACK_S and e > flight.decided
        ]
        return min(ends, default=flight.begun)

    def two_devices_at_once(self) -> bool:
        """Whether two devices saw an eviction at the same time."""
        return any(
            one.tenant != other.tenant
            and set(one.devices).isdisjoint(other.devices)
            and one.begun < self._end_of(other)
            and other.begun < self._end_of(one)
            for one, other in combinations(self.flights, 2)
        )

    def died_in_flight(self) -> bool:
        """Whether an agent died while an eviction was under way."""
        died = [e.at for e in self.play.world.ledger.of("agent-died")]
        return any(
            b <= at < e for t in self.spells for b, e in self._all_spells_of(t) for at in died
        )


def harm_kinds(oracle: Oracle) -> set[str]:
    """What kinds of harm a play saw."""
    wanted = HARM | REPAIRS
    return {e.kind for e in oracle.play.world.ledger.entries if e.kind in wanted}
