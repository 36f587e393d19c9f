"""One run: set the stage, let the offender go, watch, and say what happened."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gpuwarden.errors import Unavailable
from gpuwarden.sim.control import Control
from gpuwarden.sim.host import SimHost, SimOptions
from gpuwarden.sim.incident.cast import SLO_LIMIT_S, Cast, Role, Trigger, Variant, draw
from gpuwarden.sim.incident.containers import ContainerStage
from gpuwarden.sim.incident.daemon import Daemon, free_port, own_environ
from gpuwarden.sim.incident.latency import LatencyWatch, red_spans
from gpuwarden.sim.incident.ledger import Change, course, read_changes, xids
from gpuwarden.sim.incident.plain import PlainStage
from gpuwarden.sim.incident.scene_config import Places, config_text
from gpuwarden.sim.incident.stage import Fate, Player, Stage
from gpuwarden.sim.incident.witness import AgentWatch, JournalWatch, PageSink
from gpuwarden.wire.v1 import node_pb2 as pb

DEVICES = 2  # the second one is where a protected service could go
AGENT_READY_S = 15.0
INCIDENT_S = 8.0
LAST_RESORT_S = 14.0
QUIET_S = 12.0  # everybody has just started, and so has grown, for quota.growth_window_s (10 s)
CALM_S = 12.0  # an agent that took the device for still locked up would have cordoned it by then
SETTLE_S = 0.8  # long enough for Docker to bring back what has a restart policy (100 ms at first)
POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a run left behind, before it is judged."""

    cast: Cast
    players: tuple[Player, ...]
    offender: Player
    service: Player
    has_containers: bool
    changes: tuple[Change, ...]
    xids: tuple[tuple[float, int], ...]
    spans: tuple[tuple[float, float | None], ...]
    red_at: float | None
    """When the agent first said that the service misses its objective."""
    verdict: str
    """Whom it named for that, in its own words; empty: nobody."""
    noticed_at: float | None
    decided_at: float | None
    cause_at: float | None
    cause: dict[str, Any]
    marks: dict[str, tuple[str, ...]]
    """Bystander (and the service) -> traces of hands laid on it."""
    blamed: dict[str, str]
    """Tenants other than the offender that the agent accused, by name."""
    pages: tuple[dict[str, Any], ...]
    incidents: tuple[pb.Incident, ...]
    device: dict[str, Any]
    """The driver's word on the device at the end."""
    moved: dict[str, int]
    """Protected members that run in a new container, and the device they are on now."""
    fate: Fate
    """What became of the offender."""


def _is_calm(view: pb.View) -> bool:
    """Whether the agent itself holds that everything is over."""
    return not view.cases and all(i.HasField("closed_at") for i in view.incidents)


def _is_protected(player: Player) -> bool:
    return player.member.tenant_class == "protected"


class Scene:
    """Holds what one run started; ``close`` (or leaving the ``with`` block) takes it all away."""

    def __init__(
        self,
        seed: int,
        variant: Variant,
        *,
        docker: str | None,
        keep: Path | None,
        more_settings: str = "",
    ) -> None:
        """``more_settings``: further tables of the agent's configuration."""
        self._stack = contextlib.ExitStack()
        self._docker = docker
        self._slowness = variant.slowness
        self._more_settings = more_settings
        self._folder = Path(tempfile.mkdtemp(prefix="gpuwarden-incident-"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.chmod(0o755)
        if keep is not None:
            self._stack.callback(self._keep, keep, seed)
        try:
            self._set(seed, variant)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def _keep(self, keep: Path, seed: int) -> None:
        for name in ("agent.toml", "agent.log", "state"):
            source, target = self._folder / name, keep / f"seed-{seed}" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy(source, target)

    def _set(self, seed: int, variant: Variant) -> None:
        folder = self._folder
        self._go = folder / "sim" / "go"
        service_port = free_port()
        self.cast = draw(seed, variant, go_file=str(self._go), service_port=service_port)
        options = SimOptions(devices=DEVICES, profile=self.cast.profile, seed=seed)
        self._host = self._stack.enter_context(SimHost(options, folder=folder / "sim"))
        self._control = self._stack.enter_context(Control(self._host.folder))
        # A driver before r615, as most hosts have: no preventive limit stands in the way.
        self._control.request("limit_mode", mode="not-supported")
        pages = PageSink()
        self._stack.callback(pages.close)
        self._pages = pages
        places = Places(
            state_dir=folder / "state",
            run_dir=folder / "run",
            kmsg=self._host.folder / "kmsg.sock",
            metrics_port=free_port(),
            service_port=service_port,
            page_port=pages.port,
            docker=self._docker,
        )
        config = folder / "agent.toml"
        config.write_text(config_text(self.cast, places) + self._more_settings, encoding="utf-8")
        self.config = config
        self._daemon = Daemon(config, folder / "agent.log", self.environ)
        self._stage = self._make_stage()
        self._stack.callback(self._stage.close)
        self._stack.callback(self._daemon.stop)  # before the containers go
        self._daemon.start()
        self.socket = places.run_dir / "gpuwarden.sock"
        self._watch = AgentWatch(self.socket)
        self._stack.callback(self._watch.stop)
        self._watch.start()
        self._latency = LatencyWatch(service_port, SLO_LIMIT_S)
        self._stack.callback(self._latency.stop)
        self._journal = JournalWatch(places.state_dir / "journal")
        self._stack.callback(self._journal.stop)

    def _make_stage(self) -> Stage:
        if self._docker is None:
            return PlainStage(self._host, self._folder)
        token = secrets.token_hex(4)
        members = (*self.cast.members, self.cast.passing)
        return ContainerStage(
            self._host, self._control, members, self._docker, token, slowness=self._slowness
        )

    @property
    def environ(self) -> dict[str, str]:
        """For the scene's agent and its clients: nothing of the caller's own agent reaches them."""
        return own_environ(self._host)

    def play(self) -> Evidence:
        """The whole incident. ``Unavailable`` when the scene could not be set."""
        cast = self.cast
        players = tuple(self._stage.start(member) for member in cast.members)
        offender = next(p for p in players if p.member.role is Role.OFFENDER)
        service = next(p for p in players if p.member.role is Role.SERVICE)
        self._latency.start()
        names = self._await_agent(players)
        self._journal.start(names[offender.place])
        self._watch.accuse(names[offender.place])
        self._watch.service = service.member.name
        bystanders = tuple(p for p in players if p is not offender)
        self._stage.opened(bystanders)
        if cast.variant.trigger is Trigger.SLO:
            self._pause(QUIET_S)
        self._go.touch()
        self._pass_through(cast)
        self._until_over(offender)
        moved: dict[str, int] = {}
        if cast.variant.is_persistent:
            moved = self._until_resorted([p for p in players if _is_protected(p)])
        else:
            self._watch.wait_for(_is_calm, CALM_S * self._slowness)
        self._pause(SETTLE_S)
        return self._collect(players, offender, service, names, moved)

    def _await_agent(self, players: tuple[Player, ...]) -> dict[str, str]:
        """Wait until the agent knows everybody and sees the service healthy; tenant by place."""
        names: dict[str, str] = {}

        def knows(view: pb.View) -> bool:
            for tenant in view.snapshot.tenants:
                for player in players:
                    if tenant.is_described and any(p.pid == player.pid for p in tenant.pids):
                        names[player.place] = tenant.id
            healthy = any(s.health == pb.HEALTH_GREEN for s in view.snapshot.services)
            return healthy and len(names) == len(players)

        end = time.monotonic() + AGENT_READY_S * self._slowness
        while time.monotonic() < end:
            self._daemon.check()
            if self._watch.wait_for(knows, 0.5) is not None:
                return names
        missing = [p.member.name for p in players if p.place not in names] or ["a healthy service"]
        raise Unavailable(
            f"the agent did not see {', '.join(missing)} within {AGENT_READY_S * self._slowness:g} s"
            f" ({self._watch.error or 'connected'}); its log ends: {self._daemon.tail()}"
        )

    def _pass_through(self, cast: Cast) -> None:
        """Somebody comes by in the middle of it."""
        self._pause(cast.passing_after_s)
        self._stage.launch(cast.passing)

    def _until_over(self, offender: Player) -> None:
        """Wait until the offender holds nothing, the service is well and the cause is written; or
        until it is clear that this takes too long."""
        quota = self.cast.onset_bytes
        persistent = self.cast.variant.is_persistent

        def is_over() -> bool:
            changes, _ = read_changes(self._control)
            mine = course(changes, offender.pids, 0, quota)
            if mine.empty_at is None or self._journal.cause_at is None:
                return False
            spans = red_spans(self._latency.samples(), SLO_LIMIT_S)
            settled = time.monotonic() - mine.empty_at > SETTLE_S
            return settled and (persistent or not spans or spans[-1][1] is not None)

        self._poll(is_over, INCIDENT_S * self._slowness)

    def _until_resorted(self, protected: list[Player]) -> dict[str, int]:
        """Wait for what follows when the device stays locked: new places for who is protected, or a
        page; the places."""
        moves = self.cast.variant.allows_restart and self._stage.has_containers
        moved: dict[str, int] = {}

        def is_resorted() -> bool:
            for player in protected:
                if player.member.name not in moved:
                    moved.update(self._new_place(player))
            paged = any("reset" in str(p.get("summary", "")) for p in self._pages.pages())
            if not moves:
                return paged
            spans = red_spans(self._latency.samples(), SLO_LIMIT_S)
            is_well = bool(spans) and spans[-1][1] is not None
            return paged and is_well and len(moved) == len(protected)

        self._poll(is_resorted, LAST_RESORT_S * self._slowness)
        return moved

    def _new_place(self, player: Player) -> dict[str, int]:
        for device in range(1, DEVICES):
            for entry in self._control.request("processes", device=device)["processes"]:
                if self._stage.is_successor(player, entry["pid"]):
                    return {player.member.name: device}
        return {}

    def _collect(
        self,
        players: tuple[Player, ...],
        offender: Player,
        service: Player,
        names: dict[str, str],
        moved: dict[str, int],
    ) -> Evidence:
        changes, _ = read_changes(self._control)
        marks = {p.member.name: self._stage.fate(p).marks for p in players if p is not offender}
        marks[self.cast.passing.name] = self._stage.fate_of_launched(self.cast.passing).marks
        by_tenant = {tenant: place for place, tenant in names.items()}
        by_place = {p.place: p.member.name for p in players}
        blamed = {
            by_place.get(by_tenant.get(tenant, ""), tenant): why
            for tenant, why in self._watch.blamed.items()
        }
        spans = red_spans(self._latency.samples(), SLO_LIMIT_S)
        device = self._control.request("info")["devices"][0]
        return Evidence(
            cast=self.cast,
            players=players,
            offender=offender,
            service=service,
            has_containers=self._stage.has_containers,
            changes=tuple(changes),
            xids=tuple(xids(self._host.folder, self.environ)),
            spans=tuple(spans),
            red_at=self._watch.red_at,
            verdict=self._watch.verdict,
            noticed_at=self._watch.noticed_at,
            decided_at=self._watch.decided_at,
            cause_at=self._journal.cause_at,
            cause=self._journal.cause,
            marks=marks,
            blamed=blamed,
            pages=tuple(self._pages.pages()),
            incidents=tuple(self._watch.incidents()),
            device=device,
            moved=moved,
            fate=self._stage.fate(offender),
        )

    def _poll(self, is_done: Callable[[], bool], timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self._daemon.check()
            if is_done():
                return True
            time.sleep(POLL_S)
        return False

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)
