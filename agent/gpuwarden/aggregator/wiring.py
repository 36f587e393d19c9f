"""Puts the aggregator together: settings, authority, store, fleet, services; then lives until told to stop."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

import gpuwarden
from gpuwarden.adapters.pki.authority import Authority, Issued
from gpuwarden.adapters.pki.names import (
    AGGREGATOR_NAME,
    Credentials,
    identity_of,
)
from gpuwarden.adapters.pki.signing import verified
from gpuwarden.adapters.secrets import Secrets
from gpuwarden.aggregator.asking import ANSWER_MAX_BYTES, Asking
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.enrolment import Enrolment
from gpuwarden.aggregator.guard import Guard, may_of
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.orders import Orders
from gpuwarden.aggregator.own import Own
from gpuwarden.aggregator.policies import Policies
from gpuwarden.aggregator.policy_service import PolicyDesk
from gpuwarden.aggregator.service import FleetQuery
from gpuwarden.aggregator.store import AuditLine, Store
from gpuwarden.aggregator.store_sqlite import SqliteStore, audit_of
from gpuwarden.clock import Clock, SystemClock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.config_files import load_as
from gpuwarden.errors import ConfigError, GpuwardenError, Unavailable
from gpuwarden.log import configure_log, get_log
from gpuwarden.model.fleet import Identity, Permit, Role
from gpuwarden.policy.fleet.fold import FleetMemory, NodeMemory
from gpuwarden.policy.fleet.permits import DAY_S
from gpuwarden.policy.fleet.rights import AT_THE_AGGREGATOR
from gpuwarden.wire.fleet_check import MESSAGE_MAX_BYTES
from gpuwarden.wire.v1 import fleet_pb2, policy_pb2
from gpuwarden.wire.v1.fleet_pb2_grpc import (
    add_EnrolmentServiceServicer_to_server,
    add_FleetQueryServiceServicer_to_server,
    add_FleetServiceServicer_to_server,
)
from gpuwarden.wire.v1.policy_pb2_grpc import add_PolicyServiceServicer_to_server

DEFAULT_PATH = Path("/etc/gpuwarden/aggregator.toml")
EXIT_OK, EXIT_PROBLEM = 0, 1
STOP_S = 3.0
AUDIT_PAGE = 1000
GC_AFTER = 20_000
"""Each message makes some tens of objects and no cycle: looked for less often than by default."""
PRUNE_EVERY_S = 3600.0
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", ANSWER_MAX_BYTES),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.so_reuseport", 0),
    # Nodes ping every 30 s; the least that is allowed is far below that, for clocks jitter.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Who is at the other end is looked at in the handshake alone: so a certificate that has run out, or an
    # authority that is no longer trusted, is out within this time. gRPC spreads it by a tenth.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
)


def load(path: Path | None, flags: Mapping[str, object] | None = None) -> AggregatorConfig:
    """The settings; ``ConfigError`` lists every mistake."""
    main = DEFAULT_PATH if path is None else path
    return load_as(AggregatorConfig, main, "aggregator.d", path is not None, {}, flags).config


def run_aggregator(path: Path | None, flags: Mapping[str, object] | None = None) -> int:
    """The daemon: its exit status (0 after TERM, 1 when it could not start)."""
    try:
        cfg = load(path, flags)
    except ConfigError as error:
        configure_log("console")
        for fault in error.faults:
            get_log().error("config_wrong", fault=fault)
        return EXIT_PROBLEM
    configure_log(cfg.aggregator.log_format)
    try:
        asyncio.run(_until_told(cfg, SystemClock()))
    except GpuwardenError as error:
        get_log().error("aggregator_cannot_start", reason=str(error))
        return EXIT_PROBLEM
    return EXIT_OK


@dataclass(slots=True)
class Parts:
    """Everything that has to be let go of again."""

    cfg: AggregatorConfig
    clock: Clock
    authority: Authority
    store: Store
    committer: Committer
    fleet: Fleet
    ingest: Ingest
    enrolment: Enrolment
    asking: Asking
    query: FleetQuery
    policies: Policies
    guard: Guard
    own: Own

    def counters(self) -> dict[str, int]:
        streams = self.ingest.streams
        return {
            "messages": self.ingest.messages,
            "messages_limited": self.ingest.limited,
            "streams": len(streams.by_node),
            "streams_replaced": streams.replaced,
            "malformed": streams.malformed,
            "quarantines": streams.quarantines,
            "commits": self.committer.commits,
            "commit_failures": self.committer.failures,
            "fleet_failures": self.fleet.failures,
            "arrivals_dropped": self.fleet.dropped,
            "calls_denied": self.guard.denied,
            "enrolments_refused": self.enrolment.refused,
            "token_alarms": self.enrolment.alarms,
            "nodes_asked": self.asking.asked,
            "nodes_unanswered": self.asking.unanswered,
            "policies_delivered": self.policies.delivered,
            "policy_failures": self.policies.failures,
        }


async def _until_told(cfg: AggregatorConfig, clock: Clock) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gc.set_threshold(GC_AFTER)
    await serve(build(cfg, clock), stop)


async def serve(
    parts: Parts, stop: asyncio.Event, started: Callable[[list[int]], None] = lambda ports: None
) -> None:
    """Serve until ``stop``; ``started`` is told the ports that were bound."""
    loop = asyncio.get_running_loop()
    parts.ingest.attach(loop)
    parts.fleet.start()
    servers, ports = _servers(parts)
    for server in servers:
        await server.start()
    chores = [
        loop.create_task(parts.ingest.reap()),
        loop.create_task(_prune(parts)),
        loop.create_task(parts.own.keep()),
        loop.create_task(parts.policies.keep()),
    ]
    epoch = parts.fleet.view.epoch
    get_log().info("aggregator_started", listen=parts.cfg.aggregator.listen, epoch=epoch)
    started(ports)
    gc.collect()
    gc.freeze()  # what lives as long as the aggregator is not looked at again
    try:
        await stop.wait()
    finally:
        get_log().info("aggregator_stopping")
        for chore in chores:
            chore.cancel()
        parts.ingest.end_all()
        for server in servers:
            await server.stop(STOP_S)
        await parts.asking.close()
        parts.fleet.stop()
        parts.committer.stop()
        parts.store.close()


def build(cfg: AggregatorConfig, clock: Clock) -> Parts:
    """Every part, made but not serving; the committer runs, for the epoch has to be on disk first."""
    centre = cfg.aggregator
    pki = centre.state_dir / "pki"
    authority = Authority.open(pki, centre.trust_domain, clock.wall())
    own = Own(cfg, authority, clock)
    own.renew()
    store = open_store(cfg, os.environ)
    late: dict[str, Any] = {}
    committer = Committer(
        store,
        clock,
        linger_s=cfg.ingest.commit_s,
        queue_max=cfg.ingest.queue_max,
        on_committed=lambda entries: late["ingest"].committed(entries),
        on_failed=lambda entries, why: late["ingest"].failed(entries, why),
    )
    orders = Orders(cfg.ask, committer, clock)
    committer.start()
    epoch = committer.do(lambda s: s.next_epoch()).result(10.0)
    memory = _remembered(store, clock, epoch)
    who = partial(_caller, centre.trust_domain)

    def issue(request_der: bytes, identity: Identity, wall: float) -> Issued:
        names = (identity.name,) if identity.role is Role.NODE else ()
        return authority.issue(
            request_der, identity, ttl_s=centre.certificate_s, wall=wall, names=names
        )

    enrolment = Enrolment(
        committer,
        clock,
        issue,
        root_der=authority.root_der,
        authorities_pem=authority.root_pem,
        own_name=AGGREGATOR_NAME,
    )
    policies = Policies(
        cfg.policy,
        centre.trust_domain,
        store,
        committer,
        clock,
        lambda bundle: verified(bundle, cfg.policy.keys),
    )
    fleet = policies.fleet = Fleet(
        cfg,
        committer,
        clock,
        memory,
        epoch,
        lambda answers: late["ingest"].tell(answers),
        policies.claims,
    )
    ingest = late["ingest"] = policies.ingest = Ingest(
        cfg,
        committer,
        clock,
        hear=fleet.hear,
        identity_of=who,
        enrolment=enrolment,
        epoch=epoch,
        order_done=orders.done,
    )
    orders.ingest = ingest
    asking = Asking(cfg.ask, lambda name, address: _channel(own.now, name, address))
    guard = Guard(who, may_of(AT_THE_AGGREGATOR))
    parts: dict[str, Parts] = {}
    query = FleetQuery(
        fleet=fleet,
        store=store,
        ingest=ingest,
        asking=asking,
        orders=orders,
        enrolment=enrolment,
        clock=clock,
        identity_of=who,
        version=gpuwarden.__version__,
        counters=lambda: parts["it"].counters(),
    )
    parts["it"] = Parts(
        cfg=cfg,
        clock=clock,
        authority=authority,
        store=store,
        committer=committer,
        fleet=fleet,
        ingest=ingest,
        enrolment=enrolment,
        asking=asking,
        query=query,
        policies=policies,
        guard=guard,
        own=own,
    )
    return parts["it"]


def _caller(domain: str, context: Any) -> Identity:
    """Who a call's certificate is for."""
    return identity_of(context.auth_context(), domain)


def open_store(cfg: AggregatorConfig, environ: Mapping[str, str]) -> Store:
    """Where everything is kept; ``Unavailable`` when it cannot be had."""
    address = cfg.aggregator.store
    if address is None:
        return SqliteStore(cfg.aggregator.state_dir / "fleet.sqlite")
    try:
        from gpuwarden.aggregator.store_postgres import PostgresStore
    except ImportError as error:
        raise Unavailable(
            f"aggregator.store needs psycopg, which is not installed: {error}"
        ) from error
    return PostgresStore(Secrets(environ).resolve(address))


def audit_lines(cfg: AggregatorConfig) -> Iterator[AuditLine]:
    """The whole record, read beside a running aggregator."""
    if cfg.aggregator.store is None:
        yield from audit_of(cfg.aggregator.state_dir / "fleet.sqlite")
        return
    store, after = open_store(cfg, os.environ), 0
    try:
        while lines := store.audit_lines(after, AUDIT_PAGE):
            yield from lines
            after = lines[-1].number
    finally:
        store.close()


def _remembered(store: Store, clock: Clock, epoch: int) -> FleetMemory:
    """Nodes and permits of earlier lives; nobody has been heard yet."""
    now, wall = clock.now(), clock.wall()
    nodes = {g.node: NodeMemory(greeting=g) for g in store.greetings()}
    ledger = [_aged(p, now, wall) for p in store.permits_since(wall - DAY_S)]
    get_log().info("fleet_remembered", nodes=len(nodes), permits=len(ledger), epoch=epoch)
    return FleetMemory(
        started_at=now, decided_at=now, resumed_at=now, nodes=nodes, ledger=tuple(ledger)
    )


def _aged(permit: Permit, now: float, wall: float) -> Permit:
    """An earlier life's permit on this life's clock: counted, and not valid any more."""
    age_s = max(0.0, wall - permit.granted_wall)
    return replace(permit, granted_at=now - age_s, expires_at=0.0)


def _channel(own: Credentials, name: str, address: str) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        own.authorities_pem, own.key_pem, own.certificate_pem
    )
    return grpc.aio.secure_channel(
        address,
        credentials,
        options=(
            ("grpc.ssl_target_name_override", name),
            ("grpc.max_receive_message_length", ANSWER_MAX_BYTES),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
        ),
    )


def _servers(parts: Parts) -> tuple[list[Any], list[int]]:
    """The one for everybody with a certificate, and the one for those who want one."""
    from grpc_health.v1 import health, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    centre, own = parts.cfg.aggregator, parts.own
    server = grpc.aio.server(interceptors=[parts.guard], options=SERVER_OPTIONS)
    add_FleetServiceServicer_to_server(parts.ingest, server)
    add_FleetQueryServiceServicer_to_server(parts.query, server)
    who = partial(_caller, parts.cfg.aggregator.trust_domain)
    service = PolicyDesk(parts.policies, parts.ingest, parts.clock, who)
    add_PolicyServiceServicer_to_server(service, server)
    well = health.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc-stubs leave it out
    health_pb2_grpc.add_HealthServicer_to_server(well, server)
    services = fleet_pb2.DESCRIPTOR.services_by_name.values()
    names = [each.full_name for each in services if each.name != "EnrolmentService"]
    names += [each.full_name for each in policy_pb2.DESCRIPTOR.services_by_name.values()]
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    port = _bind(server, centre.listen, own.serving(is_mutual=True))
    if centre.enrol_listen is None:
        return [server], [port]
    enrol = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=32)
    add_EnrolmentServiceServicer_to_server(parts.enrolment, enrol)
    door = _bind(enrol, centre.enrol_listen, own.serving(is_mutual=False))
    return [server, enrol], [port, door]


def _bind(server: Any, address: str, credentials: grpc.ServerCredentials) -> int:
    try:
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise Unavailable(f"{address}: {error}") from error


async def _prune(parts: Parts) -> None:
    """For ever: let go of what is old."""
    while True:
        before = parts.clock.wall() - parts.cfg.ingest.keep_events_s
        parts.committer.do(lambda store, before=before: store.prune(before))  # type: ignore[misc]
        await asyncio.sleep(PRUNE_EVERY_S)
