"""Takes a container back to another version of itself, so that a start that fails leaves what ran before running.

The other version is made before anything is stopped: an image that is gone, or a body that Docker rejects, costs
nothing. Then one of two ways:

- *beside*: where the device holds both and nothing else can be had only once (a port of the host, an address, a
  volume that is written), the other version is started and proved well first, and only then the present one is
  stopped. One that does not come up is removed; the present one has run all the time.
- *in its place*: else the present one is stopped, and kept; the other version gets its name, is started and proved
  well. One that does not come up is removed and the present one is put back and started: it was down for the
  try, and the words say for how long. There is no third way on one GPU whose memory one of them fills.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.adapters.docker_client import Client, DockerDoor
from gpuwarden.adapters.docker_describe import name_of, restart_policy, table, text, texts
from gpuwarden.adapters.docker_recreate import (
    REPLACES,
    RESTART,
    body_again,
    further_networks,
    temporary_names,
)
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable, Unsupported

STOP_S = 10
"""Docker's own stop time-out, also the longest a swap waits for the present one."""
ORDER = ("replacement removed", "name", "restart policy", "present one started")
Prove = Callable[[str], None]
"""Returns once the container of that id is well; ``Unavailable`` says why it is not."""


@dataclass(slots=True, kw_only=True)
class Swap:
    """One swap. ``now`` is the present container as inspected just now, ``spec`` the one on record."""

    door: DockerDoor
    clock: Clock
    now: Mapping[str, Any]
    spec: Mapping[str, Any]
    prove: Prove
    has_room: bool
    is_beside: bool = False
    why_not_beside: str = ""
    """Why the two cannot run side by side, as far as is known from elsewhere."""
    stopped_at: float | None = None
    _undo: list[tuple[str, Callable[[Client], object]]] = field(default_factory=list)

    def carry_out(self) -> Mapping[str, str]:
        """The new id, and how it was done. ``Unavailable`` says what failed and whether all was put back."""
        state = table(self.now, "State")
        if state.get("Paused") is True:
            raise Unsupported("it is paused: somebody holds it on purpose")
        if table(self.now, "HostConfig").get("AutoRemove") is True:
            raise Unsupported("it is removed when it stops (--rm), so it could not be put back")
        if not self.why_not_beside:
            no_room = "" if self.has_room else "its device does not hold both"
            self.why_not_beside = no_room or only_once(self.spec)
        self.is_beside = not self.why_not_beside and state.get("Running") is True
        try:
            new_id, policy = self._taken_up()
            if new_id is None:
                new_id = self._swap(policy)
        except GpuwardenError as error:
            if not self._undo:
                raise
            raise Unavailable(f"{error}; {self._put_back()}") from error
        how = "started beside it, proved well, then it was stopped"
        if not self.is_beside:
            how = f"stopped first ({self.why_not_beside or 'it did not run'}), then started and proved well"
        down = "" if self.stopped_at is None else f"{self.clock.now() - self.stopped_at:.1f}"
        return {"new": new_id, "how": how, **({"down_s": down} if down else {})}

    def _swap(self, policy: str) -> str:
        old_id = text(self.now, "Id") or ""
        name, kept_name, new_name = temporary_names(self.now)
        with self._call() as client:
            image = image_of(client, self.spec)
            body = body_again(self.spec, image, self.now, policy)
            new_id = str(client.create_container_from_config(body, name=new_name)["Id"])
            self._note(ORDER[0], lambda c: c.remove_container(new_id, force=True))
            for network, endpoint in further_networks(self.spec).items():
                client.connect_container_to_network(new_id, network, aliases=endpoint["Aliases"])
        if self.is_beside:
            self._start(new_id)
        self._clear(old_id, name, kept_name, policy)
        with self._call() as client:
            client.rename(new_id, name)
        if self.is_beside:
            with self._call() as client:
                if table(client.inspect_container(new_id), "State").get("Running") is not True:
                    raise Unavailable("the version on record does not stay up")
        else:
            self._start(new_id)
        return new_id

    def _start(self, new_id: str) -> None:
        try:
            with self._call() as client:
                client.start(new_id)
            self.prove(new_id)
        except (
            Refused
        ) as error:  # a start that fails for want of what its image lacks is no "no such container"
            raise Unavailable(f"the new start failed: {error}") from error
        except Unavailable as error:
            raise Unavailable(f"the new start failed: {error}") from error

    def _clear(self, old_id: str, name: str, kept_name: str, policy: str) -> None:
        """The present one stops, and is kept under another name."""
        with self._call() as client:
            if policy != "no":
                kind, _, count = policy.partition(":")
                back: dict[str, Any] = {"Name": kind}
                if count:
                    back["MaximumRetryCount"] = int(count)
                self._note(ORDER[2], lambda c: c.update_container(old_id, restart_policy=back))
                client.update_container(old_id, restart_policy={"Name": "no"})
            self._note(ORDER[3], lambda c: c.start(old_id))
            self.stopped_at = None if self.is_beside else self.clock.now()
            client.stop(old_id, timeout=self._stop_s())
            if name_of(self.now) != kept_name:
                self._note(ORDER[1], lambda c: c.rename(old_id, name))
                client.rename(old_id, kept_name)

    def _taken_up(self) -> tuple[str | None, str]:
        """What an interrupted swap left: one that runs in its place is proved and taken; any other is removed. And
        the restart policy that the present one had before anybody touched it."""
        old_id, policy = text(self.now, "Id") or "", restart_policy(self.now) or "no"
        name, _, _ = temporary_names(self.now)
        is_up = table(self.now, "State").get("Running") is True
        taken = None
        with self._call() as client:
            for one in client.containers(all=True, filters={"label": f"{REPLACES}={old_id}"}):
                before = (one.get("Labels") or {}).get(RESTART, "no")
                policy = before if policy == "no" else policy
                if is_up or taken is not None or one.get("State") != "running":
                    client.remove_container(one["Id"], force=True)
                    continue
                taken = str(one["Id"])
                self._leftovers(old_id, taken, name, policy)
                if name_of(client.inspect_container(taken)) != name:
                    client.rename(taken, name)
        if taken is not None:
            self.prove(taken)
            return taken, policy
        if not is_up and name_of(self.now) != name:
            with self._call() as client:  # as it was: a failure has to find it so
                client.rename(old_id, name)
            with self._call() as client:
                self.now = client.inspect_container(old_id)
        return None, policy

    def _leftovers(self, old_id: str, new_id: str, name: str, policy: str) -> None:
        self._note(ORDER[0], lambda c: c.remove_container(new_id, force=True))
        if name_of(self.now) != name:
            self._note(ORDER[1], lambda c: c.rename(old_id, name))
        if policy != "no":
            kind = policy.partition(":")[0]
            self._note(
                ORDER[2], lambda c: c.update_container(old_id, restart_policy={"Name": kind})
            )
        self._note(ORDER[3], lambda c: c.start(old_id))

    def _note(self, what: str, undo: Callable[[Client], object]) -> None:
        self._undo.append((what, undo))

    def _put_back(self) -> str:
        """Undo in an order that works: replacement away, name, policy, then start the present one."""
        failed = []
        for what, undo in sorted(self._undo, key=lambda each: ORDER.index(each[0])):
            try:
                with self._call() as client:
                    undo(client)
            except GpuwardenError as error:
                failed.append(f"{what}: {error}")
        if failed:
            return f"NOT put back: {'; '.join(failed)}"
        if self.stopped_at is None:
            return "what ran before has run all the time"
        return f"what ran before runs again, it was down for {self.clock.now() - self.stopped_at:.1f} s"

    def _call(self) -> Any:
        return self.door.call(extra_s=self._stop_s() + 2 * self.door.timeout_s)

    def _stop_s(self) -> int:
        wanted = table(self.now, "Config").get("StopTimeout")
        if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 0:
            return min(wanted, STOP_S)
        return STOP_S


def image_of(client: Client, spec: Mapping[str, Any]) -> str:
    """A name under which the very image on record is had. Its own where that still means it, for the operator's
    policy knows services by it; else by digest, else a new tag of the same repository. ``Refused``: it is gone."""
    digest, named = text(spec, "Image") or "", text(table(spec, "Config"), "Image") or ""
    known = _image(client, digest)
    if known is None:
        raise Unavailable(f"its image {named} ({digest[:19]}) is not here any more: pull it")
    for name in (named, *texts(known, "RepoTags"), *texts(known, "RepoDigests")):
        is_alike = name and _repository(name) == _repository(named)
        if is_alike and (_image(client, name) or {}).get("Id") == digest:
            return name
    repository = _repository(named)
    if not repository:
        return digest
    tag = f"gpuwarden-{digest.removeprefix('sha256:')[:12]}"
    client.tag(digest, repository, tag)
    return f"{repository}:{tag}"


def _image(client: Client, name: str) -> Mapping[str, Any] | None:
    """None: there is no such image."""
    from docker.errors import NotFound

    try:
        found = client.inspect_image(name)
    except NotFound:
        return None
    return found if isinstance(found, Mapping) else None


def _repository(name: str) -> str:
    """``host:5000/risk:v1`` and ``host:5000/risk@sha256:...`` -> ``host:5000/risk``; empty of a bare digest."""
    if name.startswith("sha256:"):
        return ""
    name = name.partition("@")[0]
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


def only_once(spec: Mapping[str, Any]) -> str:
    """What of a specification two containers cannot have at once, in words; empty: nothing."""
    host = table(spec, "HostConfig")
    mode = text(host, "NetworkMode") or ""
    if mode == "host" or mode.startswith("container:"):
        return f"it uses the network of {mode.removeprefix('container:')}"
    for port, rows in table(host, "PortBindings").items():
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, Mapping) and text(row, "HostPort") not in (None, "", "0"):
                return f"it publishes port {port} of the host"
    for network, end in table(spec, "NetworkSettings", "Networks").items():
        if isinstance(end, Mapping) and table(end, "IPAMConfig").get("IPv4Address"):
            return f"it has an address of its own in {network}"
    mounts = spec.get("Mounts")
    for mount in mounts if isinstance(mounts, list) else []:
        if (
            isinstance(mount, Mapping)
            and mount.get("RW") is not False
            and mount.get("Type") != "tmpfs"
        ):
            return f"it writes to {text(mount, 'Destination') or 'a volume'}"
    return ""
