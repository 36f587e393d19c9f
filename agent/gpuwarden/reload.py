"""HUP: the configuration is read again; a bad one is reported, and the old one stays in force."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuwarden import config_files
from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.clock import Clock
from gpuwarden.config import Config, waits_for_restart
from gpuwarden.errors import ConfigError, Unavailable
from gpuwarden.log import get_log
from gpuwarden.node.journal import FileJournal


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

    def __call__(self) -> Config | None:
        self.notify.reloading()
        log = get_log()
        try:
            fresh = config_files.load(
                self.path, environ=self.environ, flags=dict(self.flags)
            ).config
        except ConfigError as error:
            self.rejected += 1
            self.is_ok, self.error = False, "; ".join(error.faults)[:1000]
            log.error("config_rejected", faults=error.faults)
            self.notify.reloaded(f"config rejected, the old one stays: {error.faults[0]}")
            return None
        self.accepted += 1
        self.is_ok, self.error = True, ""
        self.waiting = waits_for_restart(self.started_with, fresh)
        self.loaded_wall = self.clock.wall()
        self.oncall(fresh)
        try:
            self.journal.reconfigure(fresh.model_dump_json(by_alias=True))
        except Unavailable as error:
            log.error("journal_failed", detail=str(error))
        log.info("config_reloaded", mode=fresh.agent.mode)
        if self.waiting:
            log.warning("config_waits_for_restart", settings=self.waiting)
        restart = f"; waits for a restart: {', '.join(self.waiting)}" if self.waiting else ""
        self.notify.reloaded(f"config reloaded: {fresh.agent.mode}{restart}")
        return fresh
