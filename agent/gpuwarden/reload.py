"""HUP: the configuration is read again; a bad one is reported, and the old one stays in force."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwarden import config_files
from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.clock import Clock
from gpuwarden.config import Config, waits_for_restart
from gpuwarden.config_policy import observing
from gpuwarden.errors import ConfigError, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.policy import PolicyLayer
from gpuwarden.model.status import AgentInfo
from gpuwarden.node.journal import FileJournal

if TYPE_CHECKING:
    from gpuwarden.adapters.policy_keeper import PolicyKeeper

NOTE_MAX_CHARS = 150
"""Of the one line that the service manager shows: the rest is for what the agent sees."""


@dataclass(slots=True)
class Reloader:
    """Reads the configuration again on HUP; a bad one is reported and the old one stays."""

    path: Path | None
    environ: Mapping[str, str]
    flags: Mapping[str, object]
    clock: Clock
    journal: FileJournal
    notify: SdNotify
    oncall: Callable[[Config], None]
    """Hands on-call its new settings."""
    started_with: Config
    waiting: tuple[str, ...] = ()
    """Settings of the newest configuration that only a restart puts in force."""
    is_ok: bool = True
    error: str = ""
    loaded_wall: float = 0.0
    accepted: int = 0
    rejected: int = 0
    policy: "PolicyKeeper | None" = None
    """The fleet's, where this node is in one."""
    in_force: Config | None = None
    """The newest that was handed out; None: ``started_with``."""

    def told(self, agent: AgentInfo) -> AgentInfo:
        """With what is in force of the fleet's policy; what was refused of it stands in ``degraded``."""
        if self.policy is None:
            return agent
        report = self.policy.report()
        return replace(
            agent,
            policy_version=report.version,
            policy_not_after_wall=report.not_after_wall,
            policy_expired=report.is_expired,
        )

    def __call__(self) -> Config | None:
        self.notify.reloading()
        log = get_log()
        layer = None if self.policy is None else self.policy.layer()
        try:
            fresh = config_files.load(
                self.path, environ=self.environ, flags=dict(self.flags), policy=layer
            ).config
        except ConfigError as error:
            return self._keep_the_old(layer, error)
        self.accepted += 1
        if self.policy is not None:
            self.policy.adopted(layer)
        self.is_ok, self.error = True, ""
        self.waiting = waits_for_restart(self.started_with, fresh)
        self.loaded_wall = self.clock.wall()
        self.oncall(fresh)
        self._put_in_force(fresh)
        log.info("config_reloaded", mode=fresh.agent.mode)
        if self.waiting:
            log.warning("config_waits_for_restart", settings=self.waiting)
        restart = f"waits for a restart: {', '.join(self.waiting)}" if self.waiting else ""
        self.notify.reloaded(restart)
        return fresh

    def _keep_the_old(self, layer: PolicyLayer | None, error: ConfigError) -> Config | None:
        """What is wrong is told. Where nobody stands behind the old one any more, it stays, and nothing acts."""
        self.rejected += 1
        self.is_ok, self.error = False, "; ".join(error.faults)[:1000]
        get_log().error("config_rejected", faults=error.faults)
        self.notify.reloaded(
            f"config rejected, the old one stays: {error.faults[0]}"[:NOTE_MAX_CHARS]
        )
        if self.policy is None or layer is None:
            return None
        if not layer.is_safe_set:
            self.policy.rejected(layer, error.faults[0])
            return None
        self.policy.adopted(layer)
        safe = observing(self.in_force or self.started_with)
        self._put_in_force(safe)
        return safe

    def _put_in_force(self, fresh: Config) -> None:
        """From here on decisions are made by it, and replayed by it."""
        self.in_force = fresh
        try:
            self.journal.reconfigure(fresh.model_dump_json(by_alias=True))
        except Unavailable as error:
            get_log().error("journal_failed", detail=str(error))
