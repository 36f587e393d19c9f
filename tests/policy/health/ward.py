"""Devices under observation: samples go in, the faults that stand come out.

``ask`` puts one look before one rule; ``Ward`` lets time go by over many. ``enters`` and ``leaves`` hold a
fault to its grace and its probation, to the tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.config import Config
from gpuwarden.model.device import Device, DriverEvent
from gpuwarden.model.finding import Finding
from gpuwarden.model.health import (
    EVERY_S,
    Deep,
    DeviceHealth,
    DriverVersions,
    Errors,
    Setup,
    Surroundings,
    Vitals,
)
from gpuwarden.model.health_memory import DeviceHistory, HealthMemory, Window
from gpuwarden.model.memory import Memory
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy.health import standing, watch, window
from gpuwarden.policy.health.rule import Claim, HostJudge, HostLook, Judge, Look
from tests.policy.builders import BOOT, NOW, WALL, config, gpu, scene, snap

Values = Mapping[str, Any]
TICK_S = 0.1


def sampled(
    index: int = 0,
    *,
    at: float = NOW,
    vitals: Values | None = None,
    errors: Values | None = None,
    setup: Values | None = None,
    deep: Values | None = None,
    **rest: Any,
) -> Device:
    """A device with samples of the classes that are given, all taken at ``at``."""
    return gpu(
        index,
        at=at,
        health=DeviceHealth(
            vitals=None if vitals is None else Vitals(at=at, **vitals),
            errors=None if errors is None else Errors(at=at, **errors),
            setup=None if setup is None else Setup(at=at, **setup),
            deep=None if deep is None else Deep(at=at, **deep),
        ),
        **rest,
    )


def grew(span_s: float = 60.0, **counters: float) -> Window:
    """A whole window of error counters in which these grew."""
    return Window(at=NOW, base=(0.0,) * len(window.ERRORS), span_s=span_s, grown=counters)


def ask(
    judges: Sequence[Judge],
    device: Device,
    *,
    others: Sequence[Device] = (),
    history: DeviceHistory | None = None,
    cfg: Config | None = None,
    wall: float = WALL,
) -> dict[str, Claim]:
    """What the rule's judges say of one look at a device, by fault."""
    health = device.health or DeviceHealth()
    look = Look(
        cfg=cfg or config(),
        device=device,
        devices=(device, *others),
        history=history or DeviceHistory(),
        wall=wall,
        vitals=health.vitals,
        errors=health.errors,
        setup=health.setup,
        deep=health.deep,
    )
    found = [claim for judge in judges for claim in judge.ask(look)]
    known = {fault for judge in judges for fault in judge.needs}
    assert {claim.fault for claim in found} <= known, "a fault that could never be cleared"
    return {claim.fault: claim for claim in found}


def ask_host(
    judges: Sequence[HostJudge],
    around: Surroundings | None = None,
    *,
    devices: Sequence[Device] = (),
    tenants: Sequence[Tenant] = (),
    driver: DriverVersions | None = None,
    cfg: Config | None = None,
) -> list[Claim]:
    """What the rule's judges say of the host."""
    look = snap(gpus=devices, tenants=tenants, driver=driver, surroundings=around)
    cfg = cfg or config()
    asked = HostLook(cfg=cfg, scene=scene(cfg, look), surroundings=around)
    found = [claim for judge in judges for claim in judge.ask(asked)]
    known = {fault for judge in judges for fault in judge.needs}
    assert {claim.fault for claim in found} <= known, "a fault that could never be cleared"
    return found


@dataclass(slots=True)
class Ward:
    """Tick after tick through the fold of health, the memory carried along."""

    cfg: Config = field(default_factory=config)
    memory: Memory = field(default_factory=lambda: Memory(boot_id=BOOT))

    def see(
        self,
        at: float,
        *devices: Device,
        around: Surroundings | None = None,
        events: Sequence[DriverEvent] = (),
        driver: DriverVersions | None = None,
        wall: float | None = None,
        boot: str = BOOT,
    ) -> dict[str, Finding]:
        """One tick; the faults that stand after it, by key."""
        look = snap(
            at,
            gpus=devices,
            surroundings=around,
            events=tuple(events),
            driver=driver,
            wall=wall,
            boot_id=boot,
        )
        seen = scene(self.cfg, look)
        health = watch.fold(self.cfg, self.memory, seen)
        self.memory = Memory(
            boot_id=look.boot_id, last_at=look.at, last_wall=look.wall, health=health
        )
        return {f.key: f for f in standing.find(self.cfg, self.memory, seen)}

    @property
    def health(self) -> HealthMemory:
        return self.memory.health


Show = Callable[[float], Device]
"""A device as sampled at some second."""


def at_pace(part: str, show: Show, now: float, since: float) -> Device:
    """The device as of its newest sample of a class that began at ``since``."""
    every_s = EVERY_S[part]
    return show(since + (now - since) // every_s * every_s)


def enters(
    part: str, ill: Show, key: str, grace_s: float, *, ward: Ward | None = None
) -> tuple[Ward, float]:
    """Asserts that a fault stands at the very second its grace is over, and not before; the second."""
    ward, since = ward or Ward(), NOW
    due = since + grace_s
    seconds = [since + EVERY_S[part] * n for n in range(int(grace_s // EVERY_S[part]) + 1)]
    for second in sorted({*seconds, *([due - TICK_S] if grace_s else []), due}):
        found = ward.see(second, at_pace(part, ill, second, since))
        assert (key in found) is (second >= due), f"at {second - since:.1f} s of {grace_s} s"
    return ward, due


def leaves(part: str, well: Show, key: str, probation_s: float, ward: Ward, after: float) -> None:
    """Asserts that a fault that stands is over at the very second its probation is."""
    since = after + EVERY_S[part]
    due = since + probation_s
    seconds = [since + EVERY_S[part] * n for n in range(int(probation_s // EVERY_S[part]) + 1)]
    for second in sorted({*seconds, *([due - TICK_S] if probation_s else []), due}):
        found = ward.see(second, at_pace(part, well, second, since))
        assert (key in found) is (second < due), f"at {second - since:.1f} s of {probation_s} s"
