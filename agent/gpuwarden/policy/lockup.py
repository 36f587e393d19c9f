"""Whether a device is locked up: what says so, and what proves that it works again."""

from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import DeviceMemory
from gpuwarden.model.snapshot import Health, ServiceState
from gpuwarden.policy.fault.catalogue import LOCKING
from gpuwarden.policy.scene import Scene

QUIET_S = 1.0
"""A lock that nothing speaks for any more is over after this long."""


def fold(cfg: Config, old: DeviceMemory, device: Device, scene: Scene) -> DeviceMemory:
    """Locked: an Xid that stops the device, or the driver asks for a recovery. Free again: the driver
    asks for nothing, and every service on the device is seen to work."""
    for event in scene.snap.events:
        if event.device != device.id:
            continue
        if event.kind == "recovery-action":
            asked = event.at if event.code else None
            old = replace(old, recovery_asked_at=asked)
        if event.kind == "xid" and event.code in LOCKING:
            since = event.at if old.locked_since is None else old.locked_since
            old = replace(old, locked_since=since, locked_why=f"Xid {event.code}")
    asks = is_asking(cfg, old, device, scene.snap.at)
    if asks and old.locked_since is None:
        action = f" {device.recovery_action}" if device.recovery_action else ""
        return replace(
            old,
            locked_since=scene.snap.at,
            locked_why=f"driver asks for recovery action{action}",
        )
    if old.locked_since is None or asks or device.sight is not Sight.OK:
        return old
    if not is_proven(cfg, scene, device.id, old.locked_since):
        return old
    return replace(old, locked_since=None, locked_why="", last_resort="")


def is_proven(cfg: Config, scene: Scene, device: DeviceId, since: float) -> bool:
    """Whether every service on a device has been seen to work since a moment; where there is none, nothing
    has spoken against it for a while."""
    services = services_on(scene, device)
    if scene.snap.at - since <= max([QUIET_S, *(_proof_s(cfg, s) for s in services)]):
        return False
    return all(is_well(state) for state in services)


def is_asking(cfg: Config, state: DeviceMemory, device: Device, now: float) -> bool:
    """Whether the driver wants a recovery. It says so by an event at once, and when asked every
    ``slow_every_s``: until then an answer from before the event says nothing."""
    if device.recovery_action is not None and device.recovery_action > 0:
        return True
    asked_at = state.recovery_asked_at
    return asked_at is not None and now - asked_at <= cfg.sampling.slow_every_s + QUIET_S


def services_on(scene: Scene, device: DeviceId) -> list[ServiceState]:
    """The services whose tenant holds bytes on a device."""
    return [
        state
        for state in scene.snap.services
        if state.tenant is not None
        and any(use.device == device for use in scene.uses_of(state.tenant))
    ]


def is_finishing(state: ServiceState) -> bool:
    """Whether a service's requests come to an end, however slowly; unknown is not."""
    return state.health is not Health.UNKNOWN and state.p99_s is not None


def is_well(state: ServiceState) -> bool:
    """Green, and its requests finish: one that has just stalled is still called green."""
    return state.health is Health.GREEN and is_finishing(state)


def is_recovering(state: ServiceState) -> bool:
    """Its requests finish in time again, though not yet for long enough to be called green."""
    if not is_finishing(state) or state.limit_s is None or state.p99_s is None:
        return False
    return state.p99_s <= state.limit_s


def _proof_s(cfg: Config, state: ServiceState) -> float:
    """After this long a device that does no work would show in a service on it: a request has to be
    overdue, and the page to be read once more."""
    mine = [s for s in cfg.service if s.name == state.service]
    return max((s.stall_s + 2 * s.every_s for s in mine), default=QUIET_S)
