"""Short plays on a simulated node that together order every kind of action.

Each is deterministic, so a step of an action is a number: the same in the undisturbed run and, up to
the moment of death, in the one that dies there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuwarden.adapters import kernel_lines
from gpuwarden.model.action import Kind
from gpuwarden.model.command import Verb
from gpuwarden.model.rollback import Recorded
from gpuwarden.sim.node.allowance import Allowance
from gpuwarden.sim.node.containers import Container
from gpuwarden.sim.node.process import Habit
from gpuwarden.sim.node.versions import LABEL
from gpuwarden.sim.scenario import at, card
from gpuwarden.sim.world import World

GIB_MIB = 1024
MIB = 2**20
SWIFT: dict[str, dict[str, Any]] = {
    "quota": {"soft_hold_s": 1.0, "throttle_after_s": 1.0, "clear_hold_s": 1.0, "warmup_s": 1.0},
    "ladder": {
        "grace_low_s": 1.0,
        "stuck_s": 2.0,
        "tombstone_window_s": 12.0,
        "page_after_s": 2.0,
        "uncordon_after_s": 4.0,
    },
}
"""What makes a play short; nothing of it changes what is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """``stage`` sets the scene; ``orders`` is what an agent that lives through it must order."""

    stage: Callable[[], World]
    orders: frozenset[Kind]
    until_s: float

    @property
    def name(self) -> str:
        return self.stage.__name__.strip("_").replace("_", "-")


def _node(settings: dict[str, Any] | None = None, **shape: Any) -> World:
    world = World(settings=SWIFT, **shape)
    world.configure(**(settings or {}))
    return world


def _habit(used_mib: int, *, on: int = 0, **rest: Any) -> Habit:
    return Habit(device=card(on), used_mib=used_mib, **rest)


def _serve(world: World, *, on: int = 0) -> Container:
    """A protected service within its quota, with an objective."""
    world.service("serve")
    return world.container(
        "serve",
        cls="protected",
        quota_mib=None,
        service="serve",
        habits=(_habit(4 * GIB_MIB, on=on),),
    )


def _bystander(world: World, *, on: int = 0) -> Container:
    """A large one within its quota that is restarted by Docker and has a CPU limit of its own."""
    made = world.container(
        "bystander",
        quota_mib=30 * GIB_MIB,
        habits=(_habit(20 * GIB_MIB, on=on),),
        restart="always",
    )
    return _own_limit(made)


def _own_limit(container: Container) -> Container:
    if container.group is not None:
        container.group.settings["cpu.max"] = "400000 100000"
    return container


def _hog(world: World, name: str = "hog", *, on: int = 0, **rest: Any) -> Container:
    """A low one that grows over its 8 GiB three seconds after its start."""
    own = {key: rest.pop(key) for key in ("obeys", "exit_s", "free_s") if key in rest}
    grows = _habit(2 * GIB_MIB, on=on, grow_mib_s=2 * GIB_MIB, goal_mib=20 * GIB_MIB, **own)
    made = world.container(name, quota_mib=8 * GIB_MIB, habits=(grows,), **rest)
    return _own_limit(made)


def _set(container: Container, used_mib: int) -> None:
    if container.main is not None:
        container.main.holds[card()] = used_mib * MIB


def throttled_and_let_go() -> World:
    """Over its soft quota long enough to be slowed down; then it gives bytes back by itself."""
    world = _node()
    _serve(world)
    _bystander(world)
    low = world.container("low", quota_mib=8_192, habits=(_habit(8_250),))
    _own_limit(low)
    at(world, 7.0, lambda: _set(low, 4_000))
    return world


def kept_alive() -> World:
    """Docker would start it again: held until that is switched off, which is given back later."""
    world = _node()
    _serve(world)
    _bystander(world)
    _hog(world, restart="always")
    return world


def ignores_term() -> World:
    """Nothing but a kill ends it."""
    world = _node()
    _serve(world)
    _hog(world, obeys=False)
    return world


def emergency() -> World:
    """It locks the device up under a protected service and ignores TERM: held, then killed."""
    world = _node()
    _serve(world)
    _bystander(world)
    low = _hog(world, obeys=False, restart="unless-stopped")
    at(world, 3.6, lambda: _lock(world, low))
    return world


def emergency_v1() -> World:
    """The same where what is frozen dies only when it runs again."""
    world = _node(cgroup_version=1)
    _serve(world)
    low = _hog(world, obeys=False, restart="always")
    at(world, 3.6, lambda: _lock(world, low))
    return world


def undead() -> World:
    """In uninterruptible sleep: every rung fails, people are told; much later it ends."""
    world = _node()
    _serve(world)
    low = _hog(world, obeys=False)

    def stuck(is_stuck: bool) -> None:
        if low.main is not None:
            world.kernel.set_stuck(low.main, is_stuck)

    at(world, 3.1, lambda: stuck(True))
    at(world, 30.0, lambda: stuck(False))
    return world


def managed_unit() -> World:
    """A systemd unit: its manager is asked to stop it at the same time as it hears TERM."""
    world = _node({"default": {"memory": "8GiB"}})
    _serve(world)
    grows = _habit(2 * GIB_MIB, grow_mib_s=2 * GIB_MIB, goal_mib=20 * GIB_MIB, exit_s=0.3)
    allowed = Allowance(cls="low", quota_mib=8_192, runtime="systemd-service")
    world.bare(
        "trainer",
        grows,
        runtime="systemd-service",
        unit="trainer.service",
        allowance=allowed,
    )
    return world


def bare_group() -> World:
    """A process group without a cgroup of its own that ignores TERM: each pid is signalled."""
    world = _node({"default": {"memory": "8GiB"}})
    _serve(world)
    grows = _habit(2 * GIB_MIB, grow_mib_s=2 * GIB_MIB, goal_mib=20 * GIB_MIB, obeys=False)
    world.bare("notebook", grows, allowance=Allowance(cls="low", quota_mib=8_192, runtime="pgrp"))
    return world


def limited() -> World:
    """Preventive limits and host limits are set; one tenant ends by itself, one stays."""
    world = _node(limiter="works")
    _serve(world)
    world.container("stays", quota_mib=8_192, habits=(_habit(2_000),))
    bound = {"gpuwarden.host-memory": "16GiB", "gpuwarden.cpu": "4"}
    goes = world.container("goes", quota_mib=8_192, habits=(_habit(2_000),), labels=bound)
    at(world, 4.0, lambda: world.docker.remove(goes))
    return world


def stays_locked() -> World:
    """The offender is gone and the device stays locked: cordoned, and people are told."""
    world = _node()
    _serve(world)
    low = _hog(world)
    at(world, 3.6, lambda: _lock(world, low, heals=False))
    at(world, 34.0, lambda: _unlock(world))
    return world


def moved_away() -> World:
    """The same where the operator lets the protected service be started on a healthy device."""
    world = stays_locked()
    world.configure(ladder={"allow_protected_restart": True})
    return world


def _lock(world: World, by: Container, *, heals: bool = True) -> None:
    """The device stops working, and says so for as long as it does."""
    world.cards.lock(card(), by.tenant, heals=heals)
    world.cards.cards[card()].recovery_action = 2
    world.probe.event("xid", card(), 119)


def _unlock(world: World) -> None:
    """Somebody has reset the device."""
    board = world.cards.cards[card()]
    board.is_locked, board.locked_by, board.recovery_action = False, None, 0


def comes_back() -> World:
    """Its orchestrator makes it again after every eviction, until its owner is held; then it gives up."""
    world = _node({"ladder": {"tombstone_window_s": 40.0}})
    _serve(world)
    low = _hog(world)
    low.recreate_s = 1.0
    inherit = world.docker.on_heir

    def on_heir(old: Container, heir: Container) -> None:
        inherit(old, heir)
        made.append(heir)
        if len(made) == 4:
            heir.recreate_s = None

    made: list[Container] = []
    world.docker.on_heir = on_heir
    return world


def two_over() -> World:
    """Two are over quota on one device: the worse goes first, the other after its bytes are back."""
    world = _node()
    _serve(world)
    _hog(world, "worse", obeys=False, restart="always")
    world.container("second", quota_mib=8_192, habits=(_habit(9_800),), restart="always")
    return world


def paused() -> World:
    """Somebody has paused it over its quota: it is ended without ever running again."""
    world = _node()
    _serve(world)
    low = _hog(world, restart="always")
    at(world, 3.2, lambda: world.docker.pause(low))
    return world


def unseen_while_held() -> World:
    """Held while Docker takes its time; its device cannot be read by then, so nothing is raised, and it
    is thawed when the hold may last no longer."""
    world = _node({"ladder": {"restart_wait_s": 2.5, "hold_ttl_s": 1.8}})
    _serve(world)
    _hog(world, restart="always")
    world.docker.answer_s = 1.4
    board = world.cards.cards[card()]
    at(world, 3.3, lambda: setattr(board, "hangs_since", world.clock.now()))
    at(world, 9.0, lambda: setattr(board, "hangs_since", None))
    return world


def reserve_made_good() -> World:
    """Both go for the reserve of a protected service, one after the other, though within quota."""
    world = _node({"reserve": {"bytes": "60GiB"}})
    _serve(world)
    for name, used_mib in (("small", 2_000), ("large", 21_000)):
        made = world.container(
            name, quota_mib=30 * GIB_MIB, habits=(_habit(used_mib, exit_s=0.6),), restart="always"
        )
        _own_limit(made)
    return world


ALL_STEPS = ["restart-services", "reset-gpu", "reload-driver", "reboot"]


def _repaired(*lines: str, **shape: Any) -> World:
    """An empty node whose operator allows every remedy; at second 3 the kernel log says this."""
    world = _node(
        {
            "repair": {"allow": ALL_STEPS, "verify_s": 4.0, "boot_verify_s": 4.0},
            "sampling": {"slow_every_s": 1.0},
            "ladder": {"page_after_s": 1.5},
        },
        **shape,
    )
    world.kernel_log.reads = kernel_lines.read_message
    world.docker.answer_s = 2.5  # so long a step takes: nothing is over before somebody is paged
    for line in lines:
        at(world, 3.0, lambda line=line: world.kernel_log.say(line))  # type: ignore[misc]
    return world


def reset() -> World:
    """A device whose firmware does not answer: reset once it is empty, verified, given back."""
    world = _repaired("NVRM: Xid (PCI:0000:10:00): 119, Timeout waiting for RPC from GSP!")

    def break_it() -> None:
        world.cards.cards[card()].recovery_action = 1

    at(world, 3.0, break_it)
    return world


def reset_in_vain() -> World:
    """A reset that fails: what it left is kept before the next step is tried."""
    world = reset()
    world.remedies.broken.add("reset-gpu")
    return world


def services_restarted() -> World:
    """A fatal error of an NVSwitch that the fabric manager can be started over."""
    return _repaired(
        "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 10003, Fatal, Link 00 Host_unhandled_interrupt"
    )


def driver_reloaded() -> World:
    """The library was updated and the module was not."""
    return _repaired(
        "NVRM: API mismatch: the client has the version 580.159.04, but NVRM: this kernel module has"
        " the version 580.95.05."
    )


def rebooted() -> World:
    """A device that is gone from the bus: only a reboot brings it back."""
    world = _repaired()

    def lose() -> None:
        world.cards.cards[card()].is_lost = True

    at(world, 3.0, lose)
    return world


def out_of_use_by_word() -> World:
    """An operator takes a device out of use, and what starts there is turned away; then they give it back."""
    world = _node()
    _serve(world, on=1)
    _bystander(world)
    insist(world, 3.0, Verb.CORDON)
    at(world, 16.0, lambda: _latecomer(world))
    insist(world, 26.0, Verb.UNCORDON)
    return world


def _latecomer(world: World) -> None:
    late = _habit(1_024, exit_s=0.3)
    world.container("latecomer", quota_mib=8_192, habits=(late,), restart="no", gpus=("0",))


def insist(world: World, since: float, verb: Verb, subject: str = "0") -> None:
    """Ask until there is an answer: an agent that dies of the question has not heard it."""
    before: list[int] = []

    def ask() -> None:
        before.append(len(world.commands.answers))
        if before[-1] == before[0]:
            if world.agent is not None:
                world.commands.say(verb, subject)
            at(world, world.clock.now() - world.began + 1.5, ask)

    at(world, since, ask)


def client_of_mps() -> World:
    """It shares an MPS server with the protected service: taken off it before any signal."""
    world = _node()
    serve = _serve(world)
    if serve.main is not None:
        serve.main.habit.is_mps = True
    low = _hog(world, restart="always")
    if low.main is not None:
        low.main.habit.is_mps = True
    return world


PROBED = {
    "name": "serve",
    "probe": {
        "http": "http://127.0.0.1:1/healthz",
        "every_s": 0.5,
        "timeout_s": 0.5,
        "restart": True,
        "verify_s": 8.0,
        "probation_s": 2.0,
    },
}


def service_restarted() -> World:
    """A protected service that does not answer its probe any more; a restart cures it."""
    world = _node({"service": [PROBED]})
    _serve(world)
    _bystander(world)
    at(world, 4.0, lambda: setattr(world.services.services["serve"], "is_sick", True))
    return world


def service_not_cured() -> World:
    """The same where a restart does not help: people are told, and cure it."""
    world = service_restarted()
    service = world.services.services["serve"]
    service.heals = False
    at(world, 25.0, lambda: setattr(service, "is_sick", False))
    return world


def rolled_back() -> World:
    """An operator wants the version before the present one; it is started in its place."""
    world = _node()
    serve = _serve(world)
    serve.labels[LABEL] = "v2"
    for version, good_wall in (("v1", 1.0), ("v2", None)):
        world.docker.versions.recorded.append(
            Recorded(service="serve", place="serve", version=version, good_wall=good_wall)
        )
    _bystander(world)
    insist(world, 4.0, Verb.ROLL_BACK, "serve@@")
    return world


K = Kind
EVICTION = frozenset({K.WARN, K.TERM})
PLAYS: tuple[Play, ...] = (
    Play(
        stage=throttled_and_let_go, orders=frozenset({K.WARN, K.THROTTLE, K.UNTHROTTLE}), until_s=14
    ),
    Play(
        stage=kept_alive,
        orders=EVICTION | {K.FREEZE, K.THAW, K.RESTART_OFF, K.RESTART_BACK},
        until_s=30,
    ),
    Play(stage=ignores_term, orders=EVICTION | {K.KILL}, until_s=14),
    Play(
        stage=emergency,
        orders=frozenset({K.FREEZE, K.RESTART_OFF, K.TERM, K.THAW, K.KILL}),
        until_s=30,
    ),
    Play(
        stage=emergency_v1,
        orders=frozenset({K.FREEZE, K.RESTART_OFF, K.TERM, K.THAW, K.KILL}),
        until_s=30,
    ),
    Play(
        stage=undead, orders=EVICTION | {K.KILL, K.STOP, K.CORDON, K.UNCORDON, K.PAGE}, until_s=40
    ),
    Play(stage=managed_unit, orders=EVICTION | {K.STOP}, until_s=14),
    Play(stage=bare_group, orders=EVICTION | {K.KILL}, until_s=14),
    Play(
        stage=limited, orders=frozenset({K.SET_LIMIT, K.CLEAR_LIMIT, K.SET_HOST_LIMITS}), until_s=12
    ),
    Play(stage=stays_locked, orders=EVICTION | {K.CORDON, K.UNCORDON, K.PAGE}, until_s=48),
    Play(
        stage=moved_away, orders=EVICTION | {K.RELOCATE, K.CORDON, K.UNCORDON, K.PAGE}, until_s=48
    ),
    Play(stage=comes_back, orders=EVICTION | {K.STOP, K.PAGE}, until_s=80),
    Play(stage=two_over, orders=EVICTION | {K.FREEZE, K.RESTART_OFF, K.KILL}, until_s=40),
    Play(stage=paused, orders=frozenset({K.WARN, K.KILL}), until_s=30),
    Play(stage=unseen_while_held, orders=frozenset({K.FREEZE, K.THAW, K.TERM}), until_s=40),
    Play(stage=client_of_mps, orders=EVICTION | {K.DETACH, K.RESTART_OFF}, until_s=30),
    Play(stage=reserve_made_good, orders=frozenset({K.FREEZE, K.THAW, K.TERM}), until_s=30),
    Play(stage=out_of_use_by_word, orders=frozenset({K.CORDON, K.STOP, K.UNCORDON}), until_s=40),
    Play(stage=rolled_back, orders=frozenset({K.ROLL_BACK}), until_s=24),
    Play(stage=service_restarted, orders=frozenset({K.RESTART_TENANT}), until_s=24),
    Play(stage=service_not_cured, orders=frozenset({K.RESTART_TENANT, K.PAGE}), until_s=34),
    Play(stage=reset, orders=frozenset({K.CORDON, K.PAGE, K.RESET_GPU, K.UNCORDON}), until_s=40),
    Play(
        stage=reset_in_vain,
        orders=frozenset({K.CORDON, K.RESET_GPU, K.KEEP_EVIDENCE, K.REBOOT}),
        until_s=130,
    ),
    Play(stage=services_restarted, orders=frozenset({K.RESTART_SERVICES}), until_s=30),
    Play(stage=driver_reloaded, orders=frozenset({K.RELOAD_DRIVER}), until_s=30),
    Play(stage=rebooted, orders=frozenset({K.CORDON, K.UNCORDON, K.PAGE, K.REBOOT}), until_s=130),
)
