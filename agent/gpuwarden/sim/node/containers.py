"""Docker in a simulated node: containers, restart policies, pauses, an orchestrator above, a daemon
that hangs or is not there."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Action, Kind, Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.sim.node.cgroups import SimCgroups
from gpuwarden.sim.node.kernel import Kernel
from gpuwarden.sim.node.process import Group, Habit, Process
from gpuwarden.sim.node.versions import SimVersions

RESTART_S = 0.1
"""Docker starts a container again after this, doubling (moby restartmanager)."""
KEPT = frozenset({"always", "unless-stopped", "on-failure"})


@dataclass(slots=True, eq=False, kw_only=True)
class Container:
    """One container. Its main process is the first of ``habits``."""

    id: str
    name: str
    image: str
    labels: dict[str, str]
    habits: tuple[Habit, ...]
    restart: str = "no"
    owner_key: str | None = None
    parent_path: str = "/docker"
    nested_in: str | None = None
    group: Group | None = None
    main: Process | None = None
    is_running: bool = False
    is_paused: bool = False
    is_stopped_by_hand: bool = False
    is_being_restarted: bool = False
    restarts: int = 0
    started_at: float = 0.0
    recreate_s: float | None = None
    """An orchestrator makes a new one under another id so long after it ended."""
    uid: int = 1000
    heirs: list["Container"] = field(default_factory=list)
    gpus: tuple[str, ...] = ()
    """The GPUs it was given, as its creator named them."""
    replaces: "Container | None" = None
    """Whose place it has taken on another device."""

    @property
    def tenant(self) -> TenantId:
        """Its tenant id."""
        outer = f"@{self.nested_in}" if self.nested_in else ""
        return TenantId(f"docker:{self.id}{outer}")

    @property
    def path(self) -> str:
        """Its cgroup."""
        return f"{self.parent_path}/{self.id}"


class SimDocker:
    """Implements ``ports.Runtime`` for containers, and lives their lives."""

    def __init__(self, kernel: Kernel, cgroups: SimCgroups) -> None:
        self._kernel = kernel
        self._cgroups = cgroups
        self.containers: dict[str, Container] = {}
        self.versions = SimVersions(self)
        self.is_hung = False
        self.is_absent = False
        self.timeout_s = 3.0
        self.answer_s = 0.03
        self.describe_s = 0.0
        """How long after its start a container is described."""
        self.is_changed = False
        self.on_heir: Callable[[Container, Container], None] = lambda old, heir: None
        """Told when one container takes another's place."""
        self.on_restart: Callable[[Container], None] = lambda container: None
        """Told when one has been restarted as ordered."""
        kernel.on_exit.append(self._exited)

    # --- the world's side ---

    def run(self, container: Container) -> Container:
        """Create and start."""
        self.containers[container.id] = container
        self._start(container)
        return container

    def pause(self, container: Container) -> None:
        """Somebody pauses it."""
        if container.group is not None and container.is_running:
            container.is_paused = True
            container.group.is_frozen = True
            self.is_changed = True

    def unpause(self, container: Container) -> None:
        """Somebody lets it go on."""
        container.is_paused = False
        if container.group is not None and container.group.is_frozen:
            container.group.is_frozen = False
            self._kernel.thawed(container.group)
        self.is_changed = True

    def daemon_returns(self) -> None:
        """A daemon that was away starts what its restart policies say."""
        self.is_absent = False
        for container in list(self.containers.values()):
            if container.restart in KEPT and not container.is_running:
                self._restart(container)

    def by_tenant(self, tenant: TenantId) -> Container | None:
        """The container of a tenant."""
        return next((c for c in self.containers.values() if c.tenant == tenant), None)

    def remove(self, container: Container) -> None:
        """Removed, as by hand."""
        container.is_stopped_by_hand = True
        self._kill_all(container)
        self._clear(container)
        self.containers.pop(container.id, None)
        self.is_changed = True

    # --- ports.Runtime ---

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        container = self.containers.get(owner.container_id or "")
        self._answer()
        if container is None:
            raise Refused("no such container")
        return self.told(container)

    def told(self, container: Container) -> RuntimeFacts:
        """What Docker says of it, as last heard."""
        waited = self._kernel.clock.now() - container.started_at
        if waited < self.describe_s:
            return RuntimeFacts(tenant=container.tenant, described=False)
        return RuntimeFacts(
            tenant=container.tenant,
            described=True,
            name=container.name,
            image=container.image,
            labels=tuple(container.labels.items()),
            restart_policy=container.restart,
            is_paused=container.is_paused,
            started_wall=self._kernel.clock.wall() - waited,
            owner_key=container.owner_key or f"container:{container.image}+{container.name}",
        )

    def restart_off(self, target: Target) -> Mapping[str, str]:
        container = self._same(target)
        self._kernel.ledger.note("restart-off", container.tenant)
        if container.restart not in KEPT:
            return {}
        old, container.restart = container.restart, "no"
        self.is_changed = True
        return {"Name": old, "MaximumRetryCount": "0"}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        self._answer()
        container = self.by_tenant(target.tenant)
        if container is None or not old:
            return
        name = old.get("Name") or old.get("restart_policy", "")
        if name not in KEPT:
            raise Refused(f"{dict(old)!r} is no restart policy")
        self._kernel.ledger.note("restart-back", container.tenant, text=name)
        container.restart = name
        self.is_changed = True

    def stop(self, target: Target, grace_s: float) -> None:
        container = self._same(target)
        self._kernel.ledger.note("stop", container.tenant, text=f"grace {grace_s:g} s")
        container.is_stopped_by_hand = True
        self.is_changed = True
        if not container.is_running or container.main is None:
            return
        if container.is_paused or grace_s <= 0:
            self._kill_all(container)
            return
        self._kernel.deliver(container.main, signal.SIGTERM)
        self._kernel.clock.later(grace_s, lambda: self._kill_all(container))

    def restart(self, target: Target, grace_s: float) -> None:
        container = self._same(target)
        if not container.is_running or container.is_paused:
            raise Refused("it does not run")
        self._kernel.ledger.note("restart-tenant", container.tenant, text=f"grace {grace_s:g} s")
        container.is_being_restarted = True
        self._kill_all(container)

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        def moved(container: Container) -> Container:
            self._kernel.ledger.note("relocate", container.tenant, device=device)
            habits = tuple(replace(h, device=device) for h in container.habits)
            return _heir(container, container.labels, habits)

        return self._replaced(target, moved)

    def swap(self, target: Target, labels: dict[str, str]) -> str:
        """Another version in its place: the same container with these labels."""

        def other(container: Container) -> Container:
            self._kernel.ledger.note("roll-back", container.tenant)
            return _heir(container, {**container.labels, **labels}, container.habits)

        return self._replaced(target, other)

    def _replaced(self, target: Target, make: Callable[[Container], Container]) -> str:
        for other in self.containers.values():
            if other.replaces is not None and other.replaces.tenant == target.tenant:
                return other.id  # what was finished is found so
        container = self._same(target)
        heir = make(container)
        self.remove(container)
        self._succeed(container, heir)
        return heir.id

    # --- inside ---

    def takes_s(self, action: Action) -> float:
        """How long a worker's call takes: what does not ask Docker is over at once."""
        if action.kind in (Kind.PAGE, Kind.SET_LIMIT, Kind.CLEAR_LIMIT):
            return 0.005
        is_docker = action.target is not None and action.target.runtime == "docker"
        return self.timeout_s if is_docker and self.is_hung else self.answer_s

    def _answer(self) -> None:
        if self.is_absent:
            raise Unavailable("Docker's socket is not there")
        if self.is_hung:
            raise Unavailable(f"Docker did not answer within {self.timeout_s:g} s")

    def _same(self, target: Target) -> Container:
        self._answer()
        container = self.by_tenant(target.tenant)
        if container is None:
            raise Refused("no such container")
        if container.nested_in is not None:
            raise Unsupported("it stands inside another owner")
        return container

    def _start(self, container: Container) -> None:
        group = self._kernel.make_group(container.path)
        container.group, container.is_running = group, True
        container.is_paused = False
        container.started_at = self._kernel.clock.now()
        owner = CgroupOwner(
            runtime="docker",
            cgroup_path=group.path,
            leaf_path=group.path,
            container_id=container.id,
            name=container.name,
        )
        first: Process | None = None
        for habit in container.habits:
            # Each life begins as the first one did: growth spends the goal, not the habit.
            process = self._kernel.spawn(
                container.name[:15],
                group,
                owner,
                container.tenant,
                replace(habit),
                uid=container.uid,
                parent=first,
            )
            first = first or process
        container.main = first
        self.is_changed = True
        if self.describe_s > 0:
            self._kernel.clock.later(self.describe_s, self._tell)

    def _tell(self) -> None:
        self.is_changed = True

    def _exited(self, process: Process) -> None:
        for container in list(self.containers.values()):
            if container.main is process and container.is_running:
                self._ended(container)

    def _ended(self, container: Container) -> None:
        """Its main process is gone: the others go with it, its group goes, and it may come back."""
        container.is_running = False
        self.is_changed = True
        self._kill_all(container)
        group = container.group
        if group is not None and not self._kernel.members(group):
            self._clear(container)
        if container.is_being_restarted:
            self._kernel.clock.later(RESTART_S, lambda: self._start_again(container))
        elif container.recreate_s is not None:
            self._kernel.clock.later(container.recreate_s, lambda: self._recreate(container))
        elif container.restart in KEPT and not container.is_stopped_by_hand and not self._is_down():
            wait = RESTART_S * 2 ** min(container.restarts, 9)
            container.restarts += 1
            self._kernel.clock.later(wait, lambda: self._restart(container))

    def _is_down(self) -> bool:
        return self.is_absent

    def _restart(self, container: Container) -> None:
        if container.id not in self.containers or container.is_running:
            return
        if container.restart not in KEPT or container.is_stopped_by_hand:
            return
        if container.group is not None and self._kernel.members(container.group):
            self._kernel.clock.later(RESTART_S, lambda: self._restart(container))
            return
        self._clear(container)
        self._start(container)
        self._kernel.ledger.note("restarted", container.tenant, action="")

    def _start_again(self, container: Container) -> None:
        """The second half of a restart: once nothing of the first life is left."""
        if container.group is not None and self._kernel.members(container.group):
            self._kernel.clock.later(RESTART_S, lambda: self._start_again(container))
            return
        container.is_being_restarted = False
        self._clear(container)
        self._start(container)
        self.on_restart(container)

    def _recreate(self, container: Container) -> None:
        heir = replace_container(container)
        self.containers.pop(container.id, None)
        self._succeed(container, heir)
        self._kernel.ledger.note("recreated", heir.tenant, text=container.id[:8], action="")

    def _succeed(self, container: Container, heir: Container) -> None:
        container.heirs.append(heir)
        self.on_heir(container, heir)
        self.run(heir)

    def _kill_all(self, container: Container) -> None:
        if container.group is None:
            return
        for process in self._kernel.members(container.group):
            self._kernel.deliver(process, signal.SIGKILL)
        if container.is_paused or container.group.is_frozen:
            container.is_paused = False
            container.group.is_frozen = False
            self._kernel.thawed(container.group)

    def _clear(self, container: Container) -> None:
        group = container.group
        if group is not None and group.is_there:
            self._cgroups.forget(group)
            self._kernel.remove_group(group)


def _heir(old: Container, labels: dict[str, str], habits: tuple[Habit, ...]) -> Container:
    """What takes its place by the agent's hand."""
    return Container(
        id=_next_id(old.id, "f"),
        name=old.name,
        image=old.image,
        labels=labels,
        habits=habits,
        restart=old.restart,
        owner_key=old.owner_key,
        replaces=old,
    )


def replace_container(old: Container) -> Container:
    """What an orchestrator makes in its place: another id, the same owner."""
    return Container(
        id=_next_id(old.id, "e"),
        name=old.name,
        image=old.image,
        labels=dict(old.labels),
        habits=tuple(replace(h) for h in old.habits),
        restart=old.restart,
        owner_key=old.owner_key,
        recreate_s=old.recreate_s,
        uid=old.uid,
    )


def _next_id(old: str, mark: str) -> str:
    return f"{mark}{old}"[:64]
