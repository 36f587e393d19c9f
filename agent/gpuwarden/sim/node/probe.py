"""The Probe port of a simulated node: samples and lists as the probe child takes them."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpuwarden.config import SamplingConfig
from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.device import Device, DriverEvent, Listing, ProcessUse, Sight
from gpuwarden.model.health import (
    EVERY_S,
    Deep,
    DeviceHealth,
    DriverVersions,
    Errors,
    Setup,
    Vitals,
)
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.model.views import ProbeView
from gpuwarden.sim.node.cards import Card, Cards
from gpuwarden.sim.node.clock import SimClock

TRIGGER_BYTES = 64 * 2**20
BEAT_S = 1.0
EPS = 1e-6
_PARTS: Mapping[str, type[Any]] = {
    "vitals": Vitals,
    "errors": Errors,
    "setup": Setup,
    "deep": Deep,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list that was taken, with the truth behind its rows."""

    at: float
    device: DeviceId
    truth: dict[TenantId, int]
    free_bytes: int
    left_out: dict[TenantId, int] = field(default_factory=dict)
    """Bytes of processes that this list leaves out, by tenant."""


class SimProbe:
    """Implements ``ports.Probe``. ``step`` is the child's life; the port hands out what it sent."""

    def __init__(self, clock: SimClock, cards: Cards, sampling: SamplingConfig) -> None:
        self._clock = clock
        self._cards = cards
        self._sampling = sampling
        self.plan = ProbePlan(
            period_s=sampling.fast_base_s,
            list_every_s=sampling.list_every_s,
            list_gap_s=sampling.list_gap_s,
        )
        self._wanted: set[DeviceId] = set()
        self._devices: dict[DeviceId, Device] = {}
        self._listings: dict[DeviceId, Listing] = {}
        self._health: dict[DeviceId, DeviceHealth] = {}
        self.driver: DriverVersions | None = None
        self._frames: deque[tuple[float, tuple[Device, ...], tuple[Listing, ...]]] = deque()
        self._handed: tuple[tuple[Device, ...], tuple[Listing, ...]] = ((), ())
        self._events: list[DriverEvent] = []
        self._sampled_at = -1e9
        self._sent_at = -1e9
        self.has_news = False
        self.lag_s = 0.0
        """How late what was seen is handed over (a starved agent, a full pipe)."""
        self.is_silent = False
        """The child sends nothing at all."""
        self.is_paused = False
        """Every device is let go of."""
        self.epoch = 0
        self.history: list[Listed] = []
        self.handed_over: dict[DeviceId, list[tuple[float, float]]] = {}
        """Device -> when a newer list of it was handed to the agent, and when that had been taken."""
        self.told: list[tuple[float, DriverEvent]] = []
        """The driver's events, with when they were handed to the agent."""
        self.ever_listed: set[Pid] = set()
        self.left_out: dict[int, int] = {}
        """Pid -> how many of the next lists leave it out although it lives."""

    # --- the child ---

    def step(self) -> None:
        """Sample and list if it is time to."""
        now = self._clock.now()
        self._judge(now)
        if self.is_paused or self.is_silent or self._is_stuck(now):
            return
        due = now - self._sampled_at >= self.plan.period_s - EPS
        listing_due = any(self._is_list_due(c, now) for c in self._seen())
        if not (due or listing_due):
            return
        self._sampled_at = now
        moved = self._sample(now)
        for card in self._seen():
            if self._is_list_due(card, now):
                self._list(card, now)
                moved = True
        if moved or now - self._sent_at >= BEAT_S - EPS:
            self._send(now)

    def next_due(self) -> float:
        """When the child would look next if nothing moved."""
        now = self._clock.now()
        beat = self._sent_at + BEAT_S
        lists = [
            self._listings[c.id].at + self.plan.list_every_s
            for c in self._seen()
            if c.id in self._listings
        ]
        urgent = [now + self.plan.list_gap_s] if self._wanted else []
        hangs = [
            c.hangs_since + self._sampling.fast_deadline_s
            for c in self._cards.cards.values()
            if c.hangs_since is not None and not c.is_blamed
        ]
        return max(now + EPS, min([beat, *lists, *urgent, *hangs]))

    def event(
        self, kind: str, device: DeviceId | None, code: int | None = None, pid: int | None = None
    ) -> None:
        """The driver reports something."""
        source = "kernel" if kind == "xid" and pid is not None else "nvml"
        self._events.append(
            DriverEvent(
                kind=kind, at=self._clock.now(), device=device, code=code, pid=pid, source=source
            )
        )
        self.has_news = True

    def renumber(self, order: list[DeviceId]) -> None:
        """The driver counts its devices anew."""
        for index, device in enumerate(order):
            self._cards.cards[device].index = index
        self.epoch += 1
        self._sampled_at = -1e9

    # --- ports.Probe ---

    def drain(self, now: float) -> ProbeView:
        self.has_news = False
        ready: tuple[tuple[Device, ...], tuple[Listing, ...]] | None = None
        while self._frames and self._frames[0][0] + self.lag_s <= now + EPS:
            _, devices, listings = self._frames.popleft()
            ready = devices, listings
        if ready is not None:
            self._handed = ready
            self._note_handed(now, ready[1])
        devices, listings = self._handed
        events, self._events = tuple(self._events), []
        self.told += [(now, event) for event in events]
        fresh_s = self.plan.period_s + 2 * self._sampling.fast_deadline_s
        seen = tuple(self._judged(d, now, max(fresh_s, BEAT_S + fresh_s)) for d in devices)
        gaps = tuple(
            Gap(
                source="probe",
                subject=d.id,
                kind=GapKind.HUNG,
                detail="memory info does not return",
            )
            for d in seen
            if d.sight is Sight.BLIND
        )
        return ProbeView(
            devices=seen,
            listings=listings,
            events=events,
            gaps=gaps,
            epoch=self.epoch,
            driver=self.driver,
        )

    def steer(self, plan: ProbePlan) -> None:
        self.plan = plan
        self._wanted.update(plan.list_now)

    def pause(self) -> None:
        self.is_paused = True
        self._frames.clear()
        self._handed = (
            tuple(replace(d, sight=Sight.BLIND, used_bytes=None) for d in self._handed[0]),
            (),
        )
        self.has_news = True

    def resume(self) -> None:
        self.is_paused = False
        self._sampled_at = -1e9

    def filenos(self) -> Sequence[int]:
        return ()

    def close(self) -> None:
        return

    # --- inside ---

    def _note_handed(self, now: float, listings: tuple[Listing, ...]) -> None:
        for listing in listings:
            past = self.handed_over.setdefault(listing.device, [])
            if not past or past[-1][1] < listing.at:
                past.append((now, listing.at))

    def _judged(self, device: Device, now: float, fresh_s: float) -> Device:
        """What nothing has been heard of for too long is blind, whatever was said last."""
        if device.sight is Sight.OK and (
            device.at is None or now - device.at > fresh_s + self.lag_s
        ):
            return replace(device, sight=Sight.BLIND, used_bytes=None, health=None)
        return device

    def _seen(self) -> list[Card]:
        return [
            c
            for c in self._cards.cards.values()
            if c.is_there and not c.is_lost and c.hangs_since is None and not c.is_mig_parent
        ]

    def _judge(self, now: float) -> None:
        for card in self._cards.cards.values():
            hangs = card.hangs_since
            if hangs is None:
                card.is_blamed = False
            elif now - hangs >= self._sampling.fast_deadline_s - EPS and not card.is_blamed:
                card.is_blamed = True
                self._sampled_at = -1e9

    def _is_stuck(self, now: float) -> bool:
        """A call that has not returned holds up the others until it is blamed."""
        return any(
            c.hangs_since is not None and not c.is_blamed for c in self._cards.cards.values()
        )

    def _sample(self, now: float) -> bool:
        found: dict[DeviceId, Device] = {}
        for card in self._cards.cards.values():
            if not card.is_there:
                continue
            sight = (
                Sight.LOST
                if card.is_lost
                else Sight.BLIND
                if card.hangs_since is not None
                else Sight.OK
            )
            is_read = sight is Sight.OK and not card.is_mig_parent
            found[card.id] = Device(
                id=card.id,
                index=card.index,
                name="A100-SXM4-80GB",
                total_bytes=card.total_bytes,
                used_bytes=self._cards.used_bytes(card) if is_read else None,
                at=now if sight is Sight.OK else None,
                sight=sight,
                parent=card.parent,
                pci=f"0000{card.place}.0" if card.parent is None else None,
                is_mig_parent=card.is_mig_parent,
                recovery_action=card.recovery_action if sight is Sight.OK else None,
                health=self._health_of(card, now) if sight is Sight.OK else None,
            )
        moved = _worth(found) != _worth(self._devices)
        self._devices = found
        for gone in [d for d in self._listings if d not in found]:
            del self._listings[gone]
        return moved

    def _health_of(self, card: Card, now: float) -> DeviceHealth | None:
        """Every class as of its newest sample; each is taken at its own pace."""
        if not card.facts:
            return None
        old = self._health.get(card.id, DeviceHealth())
        fresh = {}
        for name, kind in _PARTS.items():
            part = getattr(old, name)
            told = card.facts.get(name)
            if told is None:
                part = None
            elif part is None or now - part.at >= EVERY_S[name] - EPS:
                part = kind(at=now, **told)
            fresh[name] = part
        if any(fresh[name] is not getattr(old, name) for name in _PARTS):
            self._health[card.id] = DeviceHealth(**fresh)
        return self._health.get(card.id, old)

    def _is_list_due(self, card: Card, now: float) -> bool:
        last = self._listings.get(card.id)
        if last is None:
            return True
        if now - last.at < self.plan.list_gap_s - EPS:
            return False
        if card.id in self._wanted or now - last.at >= self.plan.list_every_s - EPS:
            return True
        device = self._devices.get(card.id)
        if device is None or device.used_bytes is None:
            return False
        trigger = dict(self.plan.list_trigger_bytes).get(card.id, TRIGGER_BYTES)
        return abs(self._cards.used_bytes(card) - last.used_bytes) >= trigger

    def _list(self, card: Card, now: float) -> None:
        self._wanted.discard(card.id)
        sizes: dict[int, int] = {}
        truth: dict[TenantId, int] = {}
        left_out: dict[TenantId, int] = {}
        clients: set[int] = set()
        for process in self._cards.holders(card.id):
            held = process.holds[card.id]
            truth[process.tenant] = truth.get(process.tenant, 0) + held
            number = process.pid.pid
            if self.left_out.get(number, 0) > 0:
                self.left_out[number] -= 1
                left_out[process.tenant] = left_out.get(process.tenant, 0) + held
                continue
            self.ever_listed.add(process.pid)
            sizes[number] = max(held, sizes.get(number, 0))
            if process.habit.is_mps:
                clients.add(number)
        rows = tuple(
            ProcessUse(pid=None, raw_pid=n, device=card.id, used_bytes=held, is_mps=n in clients)
            for n, held in sizes.items()
        )
        self._listings[card.id] = Listing(
            device=card.id, at=now, used_bytes=self._cards.used_bytes(card), rows=rows
        )
        free = card.total_bytes - self._cards.used_bytes(card)
        self.history.append(
            Listed(at=now, device=card.id, truth=truth, free_bytes=free, left_out=left_out)
        )

    def _send(self, now: float) -> None:
        self._sent_at = now
        self.has_news = True
        self._frames.append((now, tuple(self._devices.values()), tuple(self._listings.values())))


def _worth(devices: dict[DeviceId, Device]) -> list[tuple[object, ...]]:
    """What makes a sample news: everything but its time."""
    return [
        (d.id, d.index, d.used_bytes, d.sight, d.recovery_action, id(d.health))
        for d in devices.values()
    ]
