"""Asks the health rules about what is new, and keeps what they said: a fold over samples.

A rule is asked when a new sample of its class has come, never twice about the same one and never about one
that is too old; between two samples only time passes. So a quiet tick costs a comparison for each device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpuwarden.config import Config
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding
from gpuwarden.model.health import EVERY_S, SPEAKS_PERIODS, DeviceHealth, Surroundings
from gpuwarden.model.health_memory import DeviceHistory, HealthMemory, Sign
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Memory
from gpuwarden.policy import guard, sight
from gpuwarden.policy.health import dwell, retired, window
from gpuwarden.policy.health.rule import Claim, HostLook, Judge, Look, is_told
from gpuwarden.policy.health.rules import BY_PART, HOST_RULES, ON_EVENT, PARTS
from gpuwarden.policy.health.wallclock import jumped
from gpuwarden.policy.scene import Scene

HOST_EVERY_S = 5.0
"""The host is judged this often: some of its rules read what every tick sees."""
FORGET_S = 300.0
"""A sign of a device that is not among the devices any more is forgotten after so long: a driver that is
loaded again is back by then, and a device that stays away is said by ``count`` and ``sight``."""
DEVICES_MAX = 128
DEVICES_A_TICK = 4
"""So many devices are judged in one tick, or a quarter of them: no tick pays for all samples at once, and
each has had its turn long before its next sample."""
_SPEAKS_S = tuple(EVERY_S[part] * SPEAKS_PERIODS for part in PARTS)
_EVENT_SPEAKS_S = _SPEAKS_S[PARTS.index("errors")]
_NOTHING = DeviceHistory()


def fold(cfg: Config, memory: Memory, scene: Scene) -> HealthMemory:
    """Memory of health with this tick's samples, events and time."""
    old, snap = memory.health, scene.snap
    book = _Book(cfg=cfg, scene=scene, signs=dict(old.signs), before=old.devices)
    budget = max(DEVICES_A_TICK, -(-len(snap.devices) // DEVICES_A_TICK))
    for device in snap.devices:
        if device.health is not None and device.sight is Sight.OK:
            book.device(device, device.health)
            if len(book.fresh) >= budget:
                break  # their samples came together; the others have their turn in the next tick
    judged_at, around_at = old.host_judged_at, old.surroundings_at
    around = snap.surroundings
    is_new = around is not None and around.at != around_at
    is_due = is_new or judged_at is None or not 0 <= snap.at - judged_at < HOST_EVERY_S
    # While the agent lets go of every device for a repair it sees none, and misses none.
    if is_due and not sight.is_let_go(memory):
        book.host(around)
        judged_at, around_at = snap.at, around.at if around is not None else around_at
    for event in snap.events:
        known = ON_EVENT.get(event.kind)
        on = scene.devices.get(event.device) if event.device is not None else None
        if known is not None and on is not None and guard.is_on(cfg, known[0]):
            book.show(known[0], known[1](cfg), min(event.at, snap.at), _EVENT_SPEAKS_S, on)
    step = jumped(cfg, memory, snap)
    if step is not None:
        book.show("wallclock", step, snap.at, HOST_EVERY_S * SPEAKS_PERIODS, None)
    book.age()
    return HealthMemory(
        signs=book.signs,
        devices=book.kept_devices(),
        host_judged_at=judged_at,
        surroundings_at=around_at,
    )


@dataclass(slots=True)
class _Book:
    """One fold's work."""

    cfg: Config
    scene: Scene
    signs: dict[str, Sign]
    before: Mapping[DeviceId, DeviceHistory]
    fresh: dict[DeviceId, DeviceHistory] = field(default_factory=dict)
    """Histories that this fold changed."""
    on: dict[int, list[Judge]] = field(default_factory=dict)

    def device(self, device: Device, health: DeviceHealth) -> None:
        """Judge every class of a device that has a sample not judged yet."""
        vitals, errors, setup, deep = health.vitals, health.errors, health.setup, health.deep
        times = (
            None if vitals is None else vitals.at,
            None if errors is None else errors.at,
            None if setup is None else setup.at,
            None if deep is None else deep.at,
        )
        old = self.before.get(device.id, _NOTHING)
        if times == old.judged:
            return
        now = self.scene.snap.at
        speaks = [at is not None and 0 <= now - at <= _SPEAKS_S[n] for n, at in enumerate(times)]
        fresh = [n for n in range(4) if speaks[n] and times[n] != old.judged[n]]
        if not fresh:
            return
        history = self._advanced(old, health, fresh, times)
        self.fresh[device.id] = history
        look = Look(
            cfg=self.cfg,
            device=device,
            devices=self.scene.snap.devices,
            history=history,
            wall=self.scene.snap.wall,
            vitals=vitals if speaks[0] else None,
            errors=errors if speaks[1] else None,
            setup=setup if speaks[2] else None,
            deep=deep if speaks[3] else None,
        )
        for n in fresh:
            for judge in self._judges(n):
                self._ask(judge, look, times[n] or 0.0, _SPEAKS_S[n])

    def _advanced(
        self,
        old: DeviceHistory,
        health: DeviceHealth,
        fresh: list[int],
        times: tuple[float | None, ...],
    ) -> DeviceHistory:
        """The device's past with its new samples."""
        window_s = self.cfg.health.window_s
        vitals, errors = old.vitals, old.errors
        mask, pages = old.links_up_mask, old.pages
        if 0 in fresh and health.vitals is not None:
            vitals = window.over_vitals(vitals, health.vitals, window_s)
        if 1 in fresh and health.errors is not None:
            errors = window.over_errors(errors, health.errors, window_s)
            mask |= health.errors.nvlink_up_mask or 0
        if 2 in fresh and health.setup is not None:
            double = health.setup.retired_pages_double_bit
            pages = retired.noted(pages, double, self.scene.snap.wall)
        return DeviceHistory(
            judged=tuple(times[n] if n in fresh else old.judged[n] for n in range(4)),
            vitals=vitals,
            errors=errors,
            links_up_mask=mask,
            pages=pages,
        )

    def _judges(self, part: int) -> Sequence[Judge]:
        """Those of a class that are on."""
        known = self.on.get(part)
        if known is None:
            known = [j for j in BY_PART[PARTS[part]] if guard.is_on(self.cfg, j.rule)]
            self.on[part] = known
        return known

    def _ask(self, judge: Judge, look: Look, at: float, speaks_s: float) -> None:
        shown = {
            self.show(judge.rule, found, at, speaks_s, look.device) for found in judge.ask(look)
        }
        if self.signs:
            self._clear(judge.needs, look, shown, at, look.device.id)

    def host(self, around: Surroundings | None) -> None:
        """Ask the rules on the host about what is known of it now."""
        now = self.scene.snap.at
        if around is not None and not 0 <= now - around.at <= SPEAKS_PERIODS * around.every_s:
            around = None
        look = HostLook(cfg=self.cfg, scene=self.scene, surroundings=around)
        speaks_s = SPEAKS_PERIODS * max(HOST_EVERY_S, around.every_s if around is not None else 0)
        for judge in HOST_RULES:
            shown = set()
            if guard.is_on(self.cfg, judge.rule):
                for found in judge.ask(look):
                    on = self.scene.devices.get(found.device) if found.device else None
                    shown.add(self.show(judge.rule, found, now, speaks_s, on))
            if self.signs:
                self._clear(judge.needs, look, shown, now, None)

    def show(
        self, rule: str, found: Claim, at: float, speaks_s: float, device: Device | None
    ) -> str:
        """A sample shows a fault; the key of its finding."""
        words = [found.fault, *([device.id] if device is not None else []), found.subject]
        key = " ".join(word for word in words if word)
        place = (("pci", device.pci),) if device is not None and device.pci else ()
        finding = Finding(
            rule=rule,
            key=key,
            severity=found.severity,
            summary=found.summary if device is None else f"GPU {device.index} {found.summary}",
            tenant=found.tenant,
            device=device.id if device is not None else None,
            evidence=(*found.evidence, *place),
            fault=found.fault,
            scope=found.scope,
        )
        self.signs[key] = dwell.shown(
            self.signs.get(key),
            finding,
            at=at,
            grace_s=found.grace_s,
            probation_s=found.probation_s,
            speaks_s=speaks_s,
        )
        return key

    def _clear(
        self,
        needs: Mapping[str, tuple[str, ...]],
        look: object,
        shown: set[str],
        at: float,
        device: DeviceId | None,
    ) -> None:
        """What could have been shown and was not. ``device`` None: the host's, whatever they are on."""
        for key, sign in list(self.signs.items()):
            needed = needs.get(sign.finding.fault)
            if needed is None or key in shown or device not in (None, sign.finding.device):
                continue
            if not all(is_told(look, path) for path in needed):
                continue
            kept = dwell.not_shown(sign, at)
            if kept is None:
                del self.signs[key]
            else:
                self.signs[key] = kept

    def age(self) -> None:
        """Time goes by for every sign; those of devices that are no more are forgotten."""
        now = self.scene.snap.at
        for key, sign in list(self.signs.items()):
            kept: Sign | None = sign
            on = sign.finding.device
            if not guard.is_on(self.cfg, sign.finding.rule) or sign.looked_at > now:
                kept = None  # switched off, or of another boot's clock
            elif on is None or on in self.scene.devices:
                kept = dwell.aged(sign, now)
            elif now - sign.looked_at > FORGET_S:
                kept = None
            if kept is None:
                del self.signs[key]
            elif kept is not sign:
                self.signs[key] = kept

    def kept_devices(self) -> Mapping[DeviceId, DeviceHistory]:
        """Histories; of more than DEVICES_MAX only those of devices that are there."""
        if not self.fresh:
            return self.before
        devices = {**self.before, **self.fresh}
        if len(devices) <= DEVICES_MAX:
            return devices
        return {d: h for d, h in devices.items() if d in self.scene.devices}


def reborn(old: HealthMemory) -> HealthMemory:
    """After a reboot: what is kept in wall time. A reboot clears what it clears; what is still so shows
    itself again."""
    return HealthMemory(
        devices={
            device: DeviceHistory(pages=history.pages)
            for device, history in old.devices.items()
            if history.pages
        }
    )


def moved(old: HealthMemory, jump_s: float) -> HealthMemory:
    """The wall clock was set: what is kept in wall time moves with it."""
    devices = {
        device: replace(h, pages=tuple((at + jump_s, n) for at, n in h.pages)) if h.pages else h
        for device, h in old.devices.items()
    }
    return replace(old, devices=devices)
