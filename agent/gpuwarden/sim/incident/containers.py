"""The scene in Docker containers, and Docker's own word on what was done to them."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from docker.models.containers import Container

from gpuwarden.errors import Unavailable
from gpuwarden.sim.control import Control
from gpuwarden.sim.host import SimHost
from gpuwarden.sim.incident.cast import Member, Role
from gpuwarden.sim.incident.proc import cgroup_folders, life_of
from gpuwarden.sim.incident.stage import READY_WITHIN_S, Fate, Player
from gpuwarden.sim.incident.touches import Touches

CALL_TIMEOUT_S = 20
DEFAULT_DOCKER = "unix:///var/run/docker.sock"
POLL_S = 0.02
MARK = "simulated-by"
"""Label of every container of a run; one that the agent makes in its place inherits it."""
# What Docker's event stream reports when somebody lays a hand on a container.
HANDS = frozenset({"kill", "stop", "pause", "unpause", "restart", "update", "oom", "rename"})
# ... and what else befalls one that is not about to end by itself.
ENDS = frozenset({"die", "start", "destroy"})


def docker_answers(address: str) -> str | None:
    """Why Docker at ``address`` cannot be used, or ``None``."""
    try:
        with contextlib.closing(docker.DockerClient(base_url=address, timeout=3)) as client:
            client.ping()
    except (DockerException, OSError) as error:
        return f"{address}: {str(error).splitlines()[0][:200]}"
    return None


def docker_at(*, is_wanted: bool) -> tuple[str | None, str]:
    """Docker's address, or why there is none to use."""
    if not is_wanted:
        return None, "--no-docker"
    if os.geteuid() != 0:
        return None, "not root: the agent could not act on containers"
    address = os.environ.get("DOCKER_HOST") or DEFAULT_DOCKER
    if not address.startswith("unix:///"):
        return None, f"DOCKER_HOST={address} is not a socket of this host"
    reason = docker_answers(address)
    return (None, f"no Docker: {reason}") if reason else (address, "")


class ContainerStage:
    """Implements ``Stage``. Everything it makes carries ``token`` and goes again with ``close``."""

    has_containers = True

    def __init__(
        self,
        host: SimHost,
        control: Control,
        members: Sequence[Member],
        address: str,
        token: str,
        *,
        slowness: float = 1.0,
    ) -> None:
        """``members``: everybody who may be started. ``slowness``: so many times longer Docker may take."""
        self._ready_s = READY_WITHIN_S * slowness
        self._host = host
        self._control = control
        self._token = token
        self._touches = Touches()
        self._opened_wall = time.time()
        self._images: list[str] = []
        self._made: dict[str, Container] = {}
        self._docker = docker.DockerClient(
            base_url=address, timeout=round(CALL_TIMEOUT_S * slowness)
        )
        try:
            self._import(members)
        except BaseException:
            self.close()
            raise

    def _import(self, members: Sequence[Member]) -> None:
        """One image of one static program, under every name and tag of the scene."""
        with self._translated("the image"):
            name = f"gpuwarden-incident:{self._token}"
            self._docker.api.import_image_from_data(
                archive(self._host.built.workload, [m.name for m in members]),
                *name.split(":"),
            )
            self._images.append(name)
            image = self._docker.images.get(name)
            for member in members:
                repository, _, tag = member.image.rpartition(":")
                image.tag(repository, f"{tag}-{self._token}")
                self._images.append(f"{member.image}-{self._token}")
        for member in members:
            self._make(member)

    def _make(self, member: Member) -> None:
        folder = str(self._host.folder)
        restart: Any = {"Name": member.restart}
        with self._translated(member.name):
            self._made[member.name] = self._docker.containers.create(
                f"{member.image}-{self._token}",
                [f"/app/{member.name}", *member.arguments],
                name=f"{member.name}-{self._token}",
                labels={**dict(member.labels), MARK: self._token},
                environment={
                    "GPUWARDEN_SIM_DIR": folder,
                    "NVIDIA_VISIBLE_DEVICES": str(member.device),
                },
                volumes={folder: {"bind": folder, "mode": "ro"}},
                network_mode="host" if member.role is Role.SERVICE else "none",
                restart_policy=restart,
            )

    def start(self, member: Member) -> Player:
        """Start a container and wait until the driver shows all of its memory."""
        container = self._made[member.name]
        with self._translated(member.name):
            container.start()
            container.reload()
        pid = int(container.attrs["State"]["Pid"])
        end = time.monotonic() + self._ready_s
        while time.monotonic() < end:
            held = self._held(str(container.id), member.device)
            life = life_of(pid)
            if life is None:
                said = container.logs(tail=3).decode(errors="replace").strip()
                raise Unavailable(f"{member.name} ended at once: {said}")
            if sum(held.values()) >= member.held_bytes - len(held):
                return Player(
                    member=member,
                    place=str(container.id),
                    pid=pid,
                    start=life.start,
                    pids=frozenset({pid, *held}),
                )
            time.sleep(POLL_S)
        raise Unavailable(f"{member.name} did not get its memory within {self._ready_s:g} s")

    def launch(self, member: Member) -> None:
        """Start a container and do not wait."""
        with self._translated(member.name):
            self._made[member.name].start()

    def opened(self, players: tuple[Player, ...]) -> None:
        """Watch the cgroup files of these, and take Docker's events from now."""
        for player in players:
            self._touches.watch(player.place, cgroup_folders(player.pid))
        self._opened_wall = time.time()

    def fate(self, player: Player) -> Fate:
        """By Docker's state and events, the process itself, and its cgroup files."""
        container = self._made[player.member.name]
        with self._translated(player.member.name):
            container.reload()
            state = container.attrs["State"]
            restarts = int(container.attrs.get("RestartCount", 0))
            policy = container.attrs["HostConfig"]["RestartPolicy"]["Name"] or "no"
            events = self._events(player.place, HANDS | ENDS)
        marks = [f"Docker: {event}" for event in events]
        life = life_of(player.pid)
        if not state["Running"] or life is None or life.start != player.start:
            marks.append("its first process is gone")
        elif state["Paused"] or life.state in "Tt":
            marks.append("it is stopped or paused")
        if restarts:
            marks.append(f"it was restarted {restarts} times")
        if policy != player.member.restart:
            marks.append(f"its restart policy is {policy}, it was {player.member.restart}")
        marks += self._touches.marks(player.place)
        return Fate(
            is_running=bool(state["Running"]),
            exit_status=state["ExitCode"],
            restarts=restarts,
            marks=tuple(marks),
        )

    def fate_of_launched(self, member: Member) -> Fate:
        """An end by itself has status 0 and no hand in Docker's events."""
        container = self._made[member.name]
        with self._translated(member.name):
            container.reload()
            events = self._events(str(container.id), HANDS)
        state = container.attrs["State"]
        marks = [f"Docker: {event}" for event in events]
        if not state["Running"] and state["ExitCode"] != 0:
            marks.append(f"it ended with status {state['ExitCode']}")
        return Fate(
            is_running=bool(state["Running"]), exit_status=state["ExitCode"], marks=tuple(marks)
        )

    def is_successor(self, player: Player, pid: int) -> bool:
        """Whether ``pid`` is in another container that has the player's name, or image, now."""
        with self._translated("containers"):
            found = self._docker.containers.list(filters={"label": f"{MARK}={self._token}"})
        return any(
            str(container.id) != player.place
            and str(container.id) in _cgroup_text(pid)
            and container.attrs["Config"]["Image"] == f"{player.member.image}-{self._token}"
            for container in found
        )

    def dismiss(self, player: Player) -> None:
        """``docker stop``."""
        with self._translated(player.member.name):
            self._made[player.member.name].stop(timeout=5)

    def close(self) -> None:
        """Remove containers and images; a frozen one is thawed first, or it could not die."""
        self._touches.close()
        with contextlib.suppress(DockerException, OSError):
            mine = self._docker.containers.list(
                all=True, ignore_removed=True, filters={"label": f"{MARK}={self._token}"}
            )
            for container in mine:
                _thaw(container)
                with contextlib.suppress(DockerException, OSError):
                    container.remove(force=True, v=True)
        for name in reversed(self._images):
            with contextlib.suppress(DockerException, OSError):
                self._docker.images.remove(name, force=True)
        self._images.clear()
        self._docker.close()

    def _held(self, container_id: str, device: int) -> dict[int, int]:
        """Bytes on a device by process of one container, as the driver says."""
        listed = self._control.request("processes", device=device)["processes"]
        return {
            entry["pid"]: entry["bytes"]
            for entry in listed
            if container_id in _cgroup_text(entry["pid"])
        }

    def _events(self, container_id: str, kinds: frozenset[str]) -> list[str]:
        """Docker's events of one container since the scene was opened."""
        stream = self._docker.api.events(  # type: ignore[call-overload]  # fractions pass as text only
            since=f"{self._opened_wall:.6f}",
            until=f"{time.time():.6f}",
            filters={"container": container_id, "type": "container"},
            decode=True,
        )
        return [event["Action"] for event in stream if event.get("Action") in kinds]

    @staticmethod
    @contextlib.contextmanager
    def _translated(what: str) -> Iterator[None]:
        try:
            yield
        except (DockerException, OSError) as error:
            raise Unavailable(f"Docker, {what}: {error}") from error


def _cgroup_text(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _thaw(container: Container) -> None:
    pid = int(container.attrs.get("State", {}).get("Pid") or 0)
    if not pid:
        return
    with contextlib.suppress(OSError):
        for folder in cgroup_folders(pid):
            for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (folder / name).exists():
                    (folder / name).write_text(word)


def archive(program: Path, names: list[str]) -> bytes:
    """A root file system: one static program under several names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("app", "tmp", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        first = tarfile.TarInfo(f"app/{names[0]}")
        first.size, first.mode = program.stat().st_size, 0o755
        with program.open("rb") as file:
            tar.addfile(first, file)
        for name in names[1:]:
            link = tarfile.TarInfo(f"app/{name}")
            link.type, link.linkname, link.mode = tarfile.LNKTYPE, f"app/{names[0]}", 0o755
            tar.addfile(link)
    return out.getvalue()
