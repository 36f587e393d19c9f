"""Moves a container to another device: a replacement takes its name, the old one is kept, stopped.

The replacement is made before anything is stopped, so a body that Docker rejects costs nothing. Every
later step has its undo; when one fails the old container is put back as it was and started again. The
replacement's labels say what it replaces and which restart policy the old one had, so that a person,
or an agent that died half way, finds both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.adapters.docker_client import Client, DockerDoor
from gpuwarden.adapters.docker_describe import name_of, table, text
from gpuwarden.adapters.docker_recreate import REPLACES, body_of, further_networks, temporary_names
from gpuwarden.errors import GpuwardenError, Unavailable, Unsupported
from gpuwarden.model.ids import DeviceId

DEFAULT_STOP_S = 10
"""Docker's own stop time-out, also the longest a move waits for the old container."""


@dataclass(slots=True, kw_only=True)
class Move:
    """One move. ``raw`` is the old container as inspected just now."""

    door: DockerDoor
    raw: Mapping[str, Any]
    device: DeviceId
    index: int
    _undo: list[tuple[str, Callable[[Client], object]]] = field(default_factory=list)

    def carry_out(self) -> str:
        """The replacement's id. ``Unavailable`` says what failed and whether all was put back."""
        if table(self.raw, "State").get("Paused") is True:
            raise Unsupported("it is paused: somebody holds it on purpose")
        body = body_of(self.raw, self.device, self.index)
        try:
            with self.door.call(extra_s=self._stop_s() + 2 * self.door.timeout_s) as client:
                return self._finished(client) or self._replace(client, body)
        except GpuwardenError as error:
            if not self._undo:
                raise
            raise Unavailable(f"move failed ({error}); {self._put_back()}") from error

    def _replace(self, client: Client, body: dict[str, Any]) -> str:
        old_id = text(self.raw, "Id") or ""
        name, kept_name, new_name = temporary_names(self.raw)
        new_id = client.create_container_from_config(body, name=new_name)["Id"]
        self._note("replacement removed", lambda c: c.remove_container(new_id, force=True))
        for network, endpoint in further_networks(self.raw).items():
            client.connect_container_to_network(new_id, network, aliases=endpoint["Aliases"])
        if table(self.raw, "State").get("Running") is True:
            self._note("old one started", lambda c: c.start(old_id))
        policy = dict(table(self.raw, "HostConfig", "RestartPolicy"))
        if policy.get("Name") not in (None, "", "no"):
            self._note(
                "restart policy", lambda c: c.update_container(old_id, restart_policy=policy)
            )
            client.update_container(old_id, restart_policy={"Name": "no"})
        client.stop(old_id, timeout=self._stop_s())
        if name_of(self.raw) != kept_name:
            self._note("name", lambda c: c.rename(old_id, name))
            client.rename(old_id, kept_name)
        client.rename(new_id, name)
        client.start(new_id)
        if table(client.inspect_container(new_id), "State").get("Running") is not True:
            raise Unavailable("the replacement does not stay up")
        return str(new_id)

    def _finished(self, client: Client) -> str | None:
        """The replacement an interrupted move left running; one that does not run is removed."""
        old_id = text(self.raw, "Id") or ""
        is_old_up = table(self.raw, "State").get("Running") is True
        for one in client.containers(all=True, filters={"label": f"{REPLACES}={old_id}"}):
            if one.get("State") == "running" and not is_old_up:
                return str(one["Id"])
            client.remove_container(one["Id"], force=True)
        return None

    def _note(self, what: str, undo: Callable[[Client], object]) -> None:
        self._undo.append((what, undo))

    def _put_back(self) -> str:
        """Undo in an order that works: replacement away, name, policy, then start the old one."""
        failed = []
        order = {"replacement removed": 0, "name": 1, "restart policy": 2, "old one started": 3}
        for what, undo in sorted(self._undo, key=lambda step: order[step[0]]):
            try:
                with self.door.call() as client:
                    undo(client)
            except GpuwardenError as error:
                failed.append(f"{what}: {error}")
        return "put back as it was" if not failed else f"NOT put back: {'; '.join(failed)}"

    def _stop_s(self) -> int:
        wanted = table(self.raw, "Config").get("StopTimeout")
        if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 0:
            return min(wanted, DEFAULT_STOP_S)
        return DEFAULT_STOP_S
