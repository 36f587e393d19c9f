"""Puts the aggregator together: settings, authority, store, fleet, services; then lives until told to stop."""

import asyncio
import gc
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gpuwarden
from gpuwarden.adapters.metrics_http import HttpServer
from gpuwarden.adapters.pki.authority import Authority, Issued
from gpuwarden.adapters.pki.names import (
    AGGREGATOR_NAME,
)
from gpuwarden.adapters.pki.signing import verified
from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.adapters.secrets import Secrets
from gpuwarden.aggregator import doors, pulse
from gpuwarden.aggregator.asking import Asking
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.company import Company, join_company
from gpuwarden.aggregator.denials import Denials
from gpuwarden.aggregator.enrolment import Enrolment
from gpuwarden.aggregator.expiry import Expiry
from gpuwarden.aggregator.guard import Guard, may_of
from gpuwarden.aggregator.handed import Handed
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.loop import Answers, Fleet
from gpuwarden.aggregator.orders import Orders
from gpuwarden.aggregator.own import Own
from gpuwarden.aggregator.paging import Paging, make_paging
from gpuwarden.aggregator.policies import Policies
from gpuwarden.aggregator.service import FleetQuery
from gpuwarden.aggregator.store import AuditLine, KeptPermit, Store
from gpuwarden.aggregator.store_sqlite import SqliteStore, audit_of
from gpuwarden.aggregator.thaws import Thaws
from gpuwarden.clock import Clock, SystemClock
from gpuwarden.config_aggregator import AGGREGATOR_PATH, AggregatorConfig
from gpuwarden.config_files import load_as
from gpuwarden.errors import ConfigError, GpuwardenError, Unavailable
from gpuwarden.log import configure_log, get_log
from gpuwarden.model.fleet import FleetClaim, Identity, Permit, Role
from gpuwarden.policy.fleet.fold import FleetMemory, NodeMemory
from gpuwarden.policy.fleet.permits import counted_s
from gpuwarden.policy.fleet.rights import AT_THE_AGGREGATOR
from gpuwarden.ports import Watchdog

EXIT_OK, EXIT_PROBLEM = 0, 1
STOP_S = 3.0
AUDIT_PAGE = 1000
GC_AFTER = 20_000
"""Each message makes some tens of objects and no cycle: looked for less often than by default."""
SWITCH_S = 0.001
"""A wish for leave passes three threads: none of them waits for another's whole turn."""
PRUNE_EVERY_S = 3600.0


def load(path: Path | None, flags: Mapping[str, object] | None = None) -> AggregatorConfig:
    """The settings; ``ConfigError`` lists every mistake."""
    main = AGGREGATOR_PATH if path is None else path
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
    paging: Paging
    handed: Handed
    expiry: Expiry
    ingest: Ingest
    enrolment: Enrolment
    asking: Asking
    query: FleetQuery
    policies: Policies
    guard: Guard
    denials: Denials
    own: Own
    company: Company
    pages: HttpServer | None = None

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
            "fleet_pages": self.paging.oncall.pages,
            "arrivals_dropped": self.fleet.dropped,
            "calls_denied": self.guard.denied,
            "nodes_denied": len(self.denials.every()),
            "enrolments_refused": self.enrolment.refused,
            "token_alarms": self.enrolment.alarms,
            "nodes_asked": self.asking.asked,
            "nodes_unanswered": self.asking.unanswered,
            **self.handed.counters(),
            **self.company.counters(),
            "policies_delivered": self.policies.delivered,
            "policy_failures": self.policies.failures,
        }


async def _until_told(cfg: AggregatorConfig, clock: Clock) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gc.set_threshold(GC_AFTER)
    sys.setswitchinterval(SWITCH_S)
    notify = SdNotify(os.environ)
    notify.starting("opening the store")
    try:
        await serve(build(cfg, clock), stop, watchdog=notify)
    finally:
        notify.stopping()
        notify.close()


async def serve(
    parts: Parts,
    stop: asyncio.Event,
    started: Callable[[list[int]], None] = lambda ports: None,
    watchdog: Watchdog | None = None,
) -> None:
    """Serve until ``stop``; ``started`` is told the ports that were bound, ``watchdog`` that it lives."""
    loop = asyncio.get_running_loop()
    parts.ingest.attach(loop)
    await asyncio.to_thread(parts.company.start)
    parts.fleet.start()
    parts.handed.start()
    servers, ports = doors.servers(parts)
    for server in servers:
        await server.start()
    if parts.pages is not None:
        parts.pages.start()
    chores = [
        loop.create_task(parts.ingest.reap()),
        loop.create_task(_prune(parts)),
        loop.create_task(parts.own.keep()),
        loop.create_task(parts.denials.keep()),
        loop.create_task(parts.expiry.keep()),
        loop.create_task(parts.policies.keep()),
    ]
    if watchdog is not None:
        alive = pulse.keep(parts.committer, lambda: parts.fleet.view, watchdog)
        chores.append(loop.create_task(alive))
    lead = parts.company.lead()
    listen = parts.cfg.aggregator.listen
    get_log().info("aggregator_started", listen=listen, epoch=lead.epoch, leads=lead.is_ours)
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
        if parts.pages is not None:
            parts.pages.stop()
        await parts.asking.close()
        parts.handed.stop()
        parts.fleet.stop()
        parts.paging.reign.close()
        parts.committer.stop()
        parts.company.stop()
        parts.store.close()


def build(cfg: AggregatorConfig, clock: Clock) -> Parts:
    """Every part, made but not serving; the committer runs, for the epoch has to be on disk first."""
    centre = cfg.aggregator
    pki = centre.state_dir / "pki"
    authority = Authority.open(pki, centre.trust_domain, clock.wall())
    own = Own(cfg, authority, clock)
    own.renew()
    name = secrets.token_hex(8)
    store = open_store(cfg, os.environ, name)
    late: dict[str, Any] = {}
    committer = Committer(
        store,
        clock,
        linger_s=cfg.ingest.commit_s,
        queue_max=cfg.ingest.queue_max,
        on_committed=lambda entries: late["ingest"].committed(entries),
        on_failed=lambda entries, why: late["ingest"].failed(entries, why),
    )
    orders = Orders(cfg.ask, committer, store, clock)
    committer.start()
    own_mark, *other_marks = authority.fingerprints
    committer.do(lambda s: s.vouch(own_mark, other_marks)).result(10.0)
    company = join_company(cfg, committer, clock, name, os.environ)
    paging = make_paging(cfg, clock, store, committer, company.lead)
    memory = _remembered(store, clock)

    who = partial(doors.caller, centre.trust_domain)

    def issue(request_der: bytes, identity: Identity, wall: float) -> Issued:
        names = (identity.name,) if identity.role is Role.NODE else ()
        return authority.issue(
            request_der, identity, ttl_s=centre.certificate_s, wall=wall, names=names
        )

    denials = Denials(store, committer, clock)
    enrolment = Enrolment(
        committer,
        clock,
        issue,
        root_der=authority.root_der,
        authorities_pem=authority.authorities_pem,
        own_name=AGGREGATOR_NAME,
        denied=denials.why,
    )

    def tell(answers: Answers) -> None:
        late["ingest"].tell(answers)
        company.answer(answers)

    def recall(now: float, wall: float) -> tuple[Permit, ...]:
        return tuple(on_this_clock(kept, now) for kept in store.ledger(wall, counted_s(cfg.permit)))

    policies = Policies(
        cfg.policy,
        centre.trust_domain,
        store,
        committer,
        clock,
        lambda bundle: verified(bundle, cfg.policy.keys),
    )
    expiry = Expiry(
        store,
        clock,
        lasts_s=centre.certificate_s,
        root_der=authority.root_der,
        is_denied=denials.why,
    )

    def claims() -> tuple[FleetClaim, ...]:
        return (*policies.claims(), *expiry.claims())

    fleet = policies.fleet = Fleet(
        cfg, committer, clock, memory, company, recall, tell, paging.oncall, claims
    )
    ingest = late["ingest"] = policies.ingest = Ingest(
        cfg,
        committer,
        clock,
        hear=company.listen(fleet.hear),
        identity_of=who,
        enrolment=enrolment,
        leadership=company,
        order_done=orders.done,
    )
    orders.ingest = ingest
    handed = Handed(
        cfg.sight,
        store,
        committer,
        clock,
        paging.reign,
        company.lead,
        lambda: fleet.view,
        ingest,
    )
    ingest.takes_pages = handed.takes
    company.attach(ingest)
    asking = Asking(cfg.ask, lambda name, address: doors.to_node(own.now, name, address))
    guard = Guard(who, may_of(AT_THE_AGGREGATOR), denials.why)
    parts: dict[str, Parts] = {}
    denials.end = ingest.streams.send_away
    query = FleetQuery(
        fleet=fleet,
        store=store,
        ingest=ingest,
        asking=asking,
        orders=orders,
        enrolment=enrolment,
        denials=denials,
        thaws=Thaws(fleet, committer, clock),
        clock=clock,
        identity_of=who,
        version=gpuwarden.__version__,
        counters=lambda: parts["it"].counters(),
        others=company,
    )
    parts["it"] = Parts(
        cfg=cfg,
        clock=clock,
        authority=authority,
        store=store,
        committer=committer,
        fleet=fleet,
        paging=paging,
        handed=handed,
        expiry=expiry,
        ingest=ingest,
        enrolment=enrolment,
        asking=asking,
        query=query,
        policies=policies,
        guard=guard,
        denials=denials,
        own=own,
        company=company,
    )
    parts["it"].pages = doors.pages(parts["it"])
    return parts["it"]


def open_store(cfg: AggregatorConfig, environ: Mapping[str, str], name: str = "") -> Store:
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
    return PostgresStore(Secrets(environ).resolve(address), name, cfg.aggregator.state_dir)


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


def _remembered(store: Store, clock: Clock) -> FleetMemory:
    """Nodes of earlier lives; nobody has been heard yet. Permits are recalled by whoever leads."""
    now = clock.now()
    out = store.out_of_use()
    nodes = {g.node: NodeMemory(greeting=g, is_out=g.node in out) for g in store.greetings()}
    get_log().info("fleet_remembered", nodes=len(nodes))
    return FleetMemory(started_at=now, decided_at=now, resumed_at=now, nodes=nodes)


def on_this_clock(kept: KeptPermit, now: float) -> Permit:
    """An earlier life's permit, or another leader's: counted, and as long as it holds its node may use it."""
    permit = replace(kept.permit, granted_at=now - kept.age_s, expires_at=0.0)
    return permit if kept.left_s <= 0 else replace(permit, expires_at=now + kept.left_s)


async def _prune(parts: Parts) -> None:
    """For ever: let go of what is old."""
    while True:
        before = parts.clock.wall() - parts.cfg.ingest.keep_events_s
        parts.committer.do(lambda store, before=before: store.prune(before))  # type: ignore[misc]
        await asyncio.sleep(PRUNE_EVERY_S)
