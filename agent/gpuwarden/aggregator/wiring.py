"""Puts the aggregator together: settings, authority, store, fleet, services; then lives until told to stop."""

import asyncio
import gc
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

import gpuwarden
from gpuwarden.adapters.metrics_http import HttpServer
from gpuwarden.adapters.pki.authority import Authority, Issued
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME
from gpuwarden.adapters.pki.signing import verified
from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.aggregator import doors, pruning, pulse
from gpuwarden.aggregator.asking import Asking
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.company import Company, join_company
from gpuwarden.aggregator.denials import Denials
from gpuwarden.aggregator.drift_follow import DriftFollow, make_follow
from gpuwarden.aggregator.enrolment import Enrolment
from gpuwarden.aggregator.expiry import Expiry
from gpuwarden.aggregator.forgetting import Forgetting
from gpuwarden.aggregator.guard import Guard, may_of
from gpuwarden.aggregator.handed import Handed
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.loop import Answers, Fleet
from gpuwarden.aggregator.opening import open_store
from gpuwarden.aggregator.orders import Orders
from gpuwarden.aggregator.own import Own
from gpuwarden.aggregator.paging import Paging, make_paging
from gpuwarden.aggregator.policies import Policies
from gpuwarden.aggregator.recall import recalled, remembered
from gpuwarden.aggregator.reloading import reload
from gpuwarden.aggregator.rollout_parts import RolloutParts, make_rollouts
from gpuwarden.aggregator.service import FleetQuery
from gpuwarden.aggregator.services_wiring import Evaluation, make_evaluation
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.thaws import Thaws
from gpuwarden.clock import Clock, SystemClock
from gpuwarden.config_aggregator import AGGREGATOR_PATH, AggregatorConfig
from gpuwarden.config_files import load_as
from gpuwarden.errors import ConfigError, GpuwardenError
from gpuwarden.log import configure_log, get_log
from gpuwarden.model.fleet import FleetClaim, Identity, Permit, Role
from gpuwarden.policy.fleet.permits import counted_s
from gpuwarden.policy.fleet.rights import AT_THE_AGGREGATOR
from gpuwarden.ports import Watchdog

EXIT_OK, EXIT_PROBLEM = 0, 1
STOP_S = 3.0
GC_AFTER = 20_000
"""Each message makes some tens of objects and no cycle: looked for less often than by default."""
SWITCH_S = 0.001
"""A wish for leave passes three threads: none of them waits for another's whole turn."""


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
        uvloop.run(_until_told(cfg, SystemClock(), lambda: load(path, flags)))
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
    rollouts: RolloutParts
    evaluation: Evaluation
    follow: DriftFollow
    pages: HttpServer | None = None
    reloads: int = 0
    reloads_refused: int = 0

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
            **self.rollouts.counters(),
            **self.evaluation.counters(),
            **self.follow.counters(),
            "policies_delivered": self.policies.delivered,
            "policy_failures": self.policies.failures,
            "config_reloads": self.reloads,
            "config_reloads_refused": self.reloads_refused,
        }


async def _until_told(
    cfg: AggregatorConfig, clock: Clock, read: Callable[[], AggregatorConfig]
) -> None:
    stop, loop, notify = asyncio.Event(), asyncio.get_running_loop(), SdNotify(os.environ)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # nothing to renew while it starts
    gc.set_threshold(GC_AFTER)
    sys.setswitchinterval(SWITCH_S)
    notify.starting("opening the store")
    try:
        parts = build(cfg, clock)
        loop.add_signal_handler(signal.SIGHUP, partial(reload, parts, read, notify))
        await serve(parts, stop, watchdog=notify)
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
    parts.evaluation.start()
    parts.fleet.start()
    parts.handed.start()
    servers, ports = doors.servers(parts)
    for server in servers:
        await server.start()
    if parts.pages is not None:
        parts.pages.start()
    chores = [
        loop.create_task(parts.ingest.reap()),
        loop.create_task(pruning.keep(parts.committer, parts.clock, lambda: parts.fleet.cfg)),
        loop.create_task(parts.own.keep()),
        loop.create_task(parts.denials.keep()),
        loop.create_task(parts.query.forgetting.keep()),
        loop.create_task(parts.expiry.keep()),
        loop.create_task(parts.policies.keep()),
        loop.create_task(parts.rollouts.keep()),
        loop.create_task(parts.follow.keep()),
        loop.create_task(parts.evaluation.keep(parts.ingest)),
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
        parts.evaluation.stop()
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
    memory = remembered(store, clock)

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

    def recall(wall: float) -> tuple[Permit, ...]:
        return recalled(store, clock, wall, counted_s(fleet.cfg.permit))

    policies = Policies(
        cfg.policy,
        centre.trust_domain,
        store,
        committer,
        clock,
        lambda bundle: verified(bundle, policies.cfg.keys),
    )
    expiry = Expiry(
        store,
        clock,
        lasts_s=centre.certificate_s,
        root_der=authority.root_der,
        is_denied=denials.why,
    )

    evaluation = make_evaluation(cfg, clock, store, committer, name, company, lambda: fleet.view)

    def claims() -> tuple[FleetClaim, ...]:
        told = late["follow"].retrains.claims()
        return (*policies.claims(), *expiry.claims(), *evaluation.claims(), *told)

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
    evaluation.attach(ingest)
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
    forgetting = Forgetting(fleet, store, committer, clock, ingest.streams.by_node)
    query = FleetQuery(
        fleet=fleet,
        store=store,
        ingest=ingest,
        asking=asking,
        orders=orders,
        enrolment=enrolment,
        denials=denials,
        forgetting=forgetting,
        thaws=Thaws(fleet, committer, clock),
        clock=clock,
        identity_of=who,
        version=gpuwarden.__version__,
        counters=lambda: parts["it"].counters(),
        others=company,
    )
    rollouts = make_rollouts(
        cfg, store, committer, clock, company, fleet, ingest, orders, evaluation.numbers
    )
    follow = late["follow"] = make_follow(
        cfg,
        store,
        committer,
        clock,
        company,
        ingest,
        evaluation,
        rollouts.rollouts,
        lambda: evaluation.drifts.view,
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
        rollouts=rollouts,
        evaluation=evaluation,
        follow=follow,
    )
    parts["it"].pages = doors.pages(parts["it"])
    return parts["it"]
