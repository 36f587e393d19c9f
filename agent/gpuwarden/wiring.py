"""Puts the agent together: configuration, ports, API, metrics; then lives until told to stop."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import gpuwarden
from gpuwarden import config_files
from gpuwarden.adapters.announce import AnnouncedStatus
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.cordon.make import make_cordons
from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.host import PsutilHost
from gpuwarden.adapters.kmsg.choose import kernel_log
from gpuwarden.adapters.limiter import choose_limiter
from gpuwarden.adapters.limiter_audit import AuditedLimiter
from gpuwarden.adapters.metrics_page import PageOptions
from gpuwarden.adapters.metrics_server import MetricsServer
from gpuwarden.adapters.node_api import NodeApi
from gpuwarden.adapters.own_cost import give_back_start_up_memory
from gpuwarden.adapters.probe.parent import NvmlProbe
from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.remedies import HostRemedies
from gpuwarden.adapters.run_claim import RunClaim, StateClaim
from gpuwarden.adapters.runtimes import HostRuntimes
from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.services import ServiceWatch
from gpuwarden.adapters.sinks.make import make_heartbeat, make_sinks
from gpuwarden.adapters.surroundings import HostSenses
from gpuwarden.adapters.tenancy import tenant_id
from gpuwarden.adapters.version_keeper import VersionKeeper
from gpuwarden.adapters.wakeups import Wakeups
from gpuwarden.clock import Clock, SystemClock
from gpuwarden.config import Config
from gpuwarden.errors import ConfigError, GpuwardenError, Unavailable
from gpuwarden.fleet_entry import fleet_parts, under_policy
from gpuwarden.log import configure_log, get_log
from gpuwarden.model.fleet import no_fleet
from gpuwarden.node.journal import FileJournal, Reading, read
from gpuwarden.node.life import live
from gpuwarden.node.loop import Node
from gpuwarden.node.notifier import Notifier, Outfit
from gpuwarden.node.oncall_desk import OncallDesk
from gpuwarden.node.recover import Recovered, recover, resume
from gpuwarden.node.sent_log import SentLog
from gpuwarden.node.status import Board
from gpuwarden.node.steps import NoSteps
from gpuwarden.node.workers import ThreadWorkers
from gpuwarden.ports import KernelLog, Ports, Steps
from gpuwarden.reload import Reloader
from gpuwarden.wiring_disk import evidence_room, make_versions
from gpuwarden.wiring_sources import no_sources, sources_of

if TYPE_CHECKING:
    from gpuwarden.adapters.policy_keeper import PolicyKeeper
    from gpuwarden.fleet_wiring import FleetParts
    from gpuwarden.services_wiring import ServiceParts

EXIT_OK, EXIT_PROBLEM = 0, 1


@dataclass(slots=True)
class Parts:
    """Everything that has to be let go of again, in the order it was made."""

    cfg: Config
    clock: Clock
    notify: SdNotify
    claim: RunClaim
    state_claim: StateClaim
    journal: FileJournal
    probe: NvmlProbe
    runtimes: HostRuntimes
    services: ServiceWatch
    versions: VersionKeeper | None
    senses: HostSenses
    kernel_log: KernelLog
    workers: ThreadWorkers
    notifier: Notifier
    board: Board
    commands: CommandQueue
    api: NodeApi
    metrics: MetricsServer
    node: Node
    fleet: "FleetParts | None"
    evaluation: "ServiceParts | None" = None

    def evaluate(self) -> None:
        """From now on what services say of themselves is gathered and judged."""
        from gpuwarden.services_wiring import build_services

        uplink = None if self.fleet is None else self.fleet.uplink
        self.evaluation = build_services(self.cfg, self.board, self.services, self.clock, uplink)

    def close(self) -> None:
        """Readers first, then the journal, then the probe (politely)."""
        if self.evaluation is not None:
            self.evaluation.close()
        if self.fleet is not None:
            self.fleet.close()
        self.api.stop()
        self.commands.close()
        self.metrics.stop()
        self.services.close()
        if self.versions is not None:
            self.versions.close()
        self.senses.close()
        self.runtimes.close()
        self.kernel_log.close()
        self.workers.close()
        self.notifier.close()
        try:
            self.journal.remember(self.node.memory)
        except Unavailable as error:
            get_log().error("journal_failed", detail=str(error))
        self.journal.close()
        self.probe.close()
        self.state_claim.release()
        self.claim.release()


NO_THREADS = "no thread can be started: TasksMax of the unit, pids.max of its group or threads-max is too low"


def run_agent(
    config_path: Path | None,
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    steps: Steps | None = None,
) -> int:
    """The daemon: returns its exit status (0 after TERM, 1 when it could not start). ``steps`` is told
    of every step of every action; by default nobody is."""
    environ = os.environ if environ is None else environ
    clock = SystemClock()
    load = partial(config_files.load, config_path, environ=environ, flags=dict(flags or {}))
    try:
        cfg = load().config
    except ConfigError as error:
        configure_log("json" if (flags or {}).get("agent.log_format") == "json" else "console")
        for fault in error.faults:
            get_log().error("config_wrong", fault=fault)
        return EXIT_PROBLEM
    configure_log(cfg.agent.log_format)
    try:
        cfg, policy = under_policy(cfg, load, clock)
        parts = build(cfg, clock, environ, steps, policy)
    except GpuwardenError as error:
        get_log().error("agent_cannot_start", reason=str(error))
        return EXIT_PROBLEM
    except RuntimeError as error:
        if "new thread" not in str(error):
            raise
        get_log().error("agent_cannot_start", reason=NO_THREADS)
        return EXIT_PROBLEM
    reloader = Reloader(
        path=config_path,
        environ=environ,
        flags=dict(flags or {}),
        clock=clock,
        journal=parts.journal,
        notify=parts.notify,
        oncall=lambda fresh: parts.notifier.adopt(_outfit(fresh, clock, environ)),
        started_with=cfg,
        loaded_wall=clock.wall(),
        policy=policy,
    )
    parts.board.sources = sources_of(parts, reloader)
    wakeups = Wakeups(
        (
            parts.probe.filenos,
            parts.node.ports.processes.filenos,
            parts.runtimes.filenos,
            parts.services.filenos,
            parts.kernel_log.filenos,
            parts.workers.filenos,
            parts.commands.filenos,
            *(() if parts.fleet is None else (parts.fleet.desk.filenos,)),
        )
    )
    wakeups.catch_signals()
    if cfg.service:
        parts.evaluate()
    else:
        parts.services.on_carried = parts.evaluate
    parts.metrics.start()
    parts.api.start()
    if parts.fleet is not None:
        parts.notifier.hand_over(parts.fleet.pages)
    parts.notifier.start()
    if parts.fleet is not None:
        parts.fleet.start()
    get_log().info("agent_started", mode=cfg.agent.mode, version=gpuwarden.__version__)
    parts.notify.starting(f"{cfg.agent.mode}: the first look")
    give_back_start_up_memory()
    try:
        live(parts.node, clock, wakeups, reloader)
    finally:
        parts.notify.stopping()
        get_log().info("agent_stopping")
        parts.close()
        wakeups.close()
    return EXIT_OK


def build(
    cfg: Config,
    clock: Clock,
    environ: Mapping[str, str],
    steps: Steps | None = None,
    policy: "PolicyKeeper | None" = None,
) -> Parts:
    """Every part, made but not started; what was made is let go of when a later one fails."""
    notify = SdNotify(environ)
    claim = RunClaim(cfg.agent.run_dir)
    state_claim = StateClaim(cfg.agent.state_dir)
    journal = FileJournal(cfg.agent.state_dir / "journal", cfg.agent.journal_max_bytes)
    recovered = _recover(cfg)
    cgroups = CgroupFs()
    probe = NvmlProbe(
        cfg.nvml,
        cfg.sampling,
        clock.now(),
        process_top=cfg.agent.metrics_processes,
        has_clock_events=cfg.health.clock_events,
    )
    runtimes = HostRuntimes(cfg, clock)
    services = ServiceWatch(
        cfg.service, clock, DockerDoor(cfg.docker.host, cfg.docker.timeout_s, clock)
    )
    versions = make_versions(cfg, clock)
    host = PsutilHost(cfg.sampling.host_every_s, cfg.agent.state_dir)
    senses = HostSenses(
        str(cfg.health.root),
        cfg.health.surroundings_every_s,
        clock,
        library=cfg.nvml.library,
    )
    before = recovered.memory
    heard = -1 if before.kernel_heard is None else before.kernel_heard[0]
    kernel = kernel_log(cfg, host, clock, (before.boot_id, heard))
    workers = ThreadWorkers()
    notifier = Notifier(
        _outfit(cfg, clock, environ),
        SentLog(cfg.agent.state_dir / "oncall"),
        clock,
        socket.gethostname(),
    )
    board = Board(sources=no_sources())
    commands = CommandQueue(journal, clock)
    fleet = fleet_parts(cfg, board, commands, clock, policy)
    ports = Ports(
        probe=probe,
        processes=ProcFs(cgroups),
        cgroups=cgroups,
        runtimes=runtimes,
        limiter=AuditedLimiter(choose_limiter(cfg, probe)),
        host=host,
        senses=senses,
        services=services,
        kernel_log=kernel,
        journal=journal,
        pager=notifier,
        remedies=HostRemedies(cfg.repair, clock, cfg.agent.state_dir, evidence_room(cfg, clock)),
        cordons=make_cordons(cfg.cordon, clock, environ),
        commands=commands,
        status=AnnouncedStatus(board, get_log()),
        watchdog=notify,
        workers=workers,
        steps=steps or NoSteps(),
        tenant_of=tenant_id,
        leave=no_fleet if fleet is None else fleet.desk.leave,
        versions=versions,
    )
    node = resume(
        cfg,
        ports,
        clock,
        recovered,
        lambda memory: journal.begin(cfg.model_dump_json(by_alias=True), memory),
    )
    if node.journal_fault:
        # A full disk stops harm, not the watch: the loop withholds and keeps trying.
        get_log().error("journal_failed", detail=node.journal_fault)
    metrics = MetricsServer(
        cfg.agent.metrics_listen,
        board,
        clock=clock,
        options=PageOptions(process_top=cfg.agent.metrics_processes),
    )
    # Last: its socket is a file that stays where something after it cannot be had.
    api = NodeApi(
        claim,
        board,
        clock=clock,
        operator_gids=cfg.agent.operator_gids,
        commands=commands,
        oncall=OncallDesk(notifier, journal, clock, socket.gethostname()),
    )
    return Parts(
        cfg=cfg,
        clock=clock,
        notify=notify,
        claim=claim,
        state_claim=state_claim,
        journal=journal,
        probe=probe,
        runtimes=runtimes,
        services=services,
        versions=versions,
        senses=senses,
        kernel_log=kernel,
        workers=workers,
        notifier=notifier,
        board=board,
        commands=commands,
        api=api,
        metrics=metrics,
        node=node,
        fleet=fleet,
    )


def _outfit(cfg: Config, clock: Clock, environ: Mapping[str, str]) -> Outfit:
    """The sinks of a configuration; what their secrets are is read when a message is sent."""
    secrets, host = Secrets(environ), socket.gethostname()
    return Outfit(
        cfg=cfg.oncall,
        sinks=make_sinks(cfg.oncall, secrets, clock, host),
        heartbeat=make_heartbeat(cfg.oncall, secrets, clock, host),
    )


def _recover(cfg: Config) -> Recovered:
    reading = Reading()
    recovered = recover(read(cfg.agent.state_dir / "journal", reading))
    if reading.newer_schema:
        raise Unavailable(
            f"{cfg.agent.state_dir}/journal was written by a newer gpuwarden: upgrade this one, or "
            "move the journal away"
        )
    if reading.gaps:
        get_log().warning("journal_gaps", gaps=reading.gaps, records=reading.records)
    return recovered
