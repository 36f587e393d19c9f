"""The aggregator's doors: for everybody with a certificate, for those who want one, for Prometheus, and its own way
to the nodes. A part of wiring."""

from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

import gpuwarden
from gpuwarden.adapters import service_pages
from gpuwarden.adapters.fleet_pages import FleetPages
from gpuwarden.adapters.metrics_http import HttpServer
from gpuwarden.adapters.pki.names import Credentials, identity_of
from gpuwarden.adapters.share_pages import Documents
from gpuwarden.aggregator.asking import ANSWER_MAX_BYTES
from gpuwarden.aggregator.drift_service import DriftDesk
from gpuwarden.aggregator.evaluation_service import EvaluationDesk
from gpuwarden.aggregator.frames import add_to_server
from gpuwarden.aggregator.policy_service import PolicyDesk
from gpuwarden.aggregator.rollout_service import RolloutDesk
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.fleet import Identity
from gpuwarden.wire.fleet_check import MESSAGE_MAX_BYTES
from gpuwarden.wire.v1 import drift_pb2, evaluation_pb2, fleet_pb2, policy_pb2, rollout_pb2
from gpuwarden.wire.v1.drift_pb2_grpc import add_DriftServiceServicer_to_server
from gpuwarden.wire.v1.evaluation_pb2_grpc import add_EvaluationServiceServicer_to_server
from gpuwarden.wire.v1.fleet_pb2_grpc import (
    add_EnrolmentServiceServicer_to_server,
    add_FleetQueryServiceServicer_to_server,
)
from gpuwarden.wire.v1.policy_pb2_grpc import add_PolicyServiceServicer_to_server
from gpuwarden.wire.v1.rollout_pb2_grpc import add_RolloutServiceServicer_to_server

if TYPE_CHECKING:
    from gpuwarden.aggregator.wiring import Parts

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", ANSWER_MAX_BYTES),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.so_reuseport", 0),
    # Thousands of nodes may come back at once, and each only waits for its turn: by default calls beyond the
    # thousandth that waits are cancelled at random.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    # By default gRPC answers each message with a ping of its own, to learn how wide the line is, and gets one back:
    # a sixth of what a report costs (scripts/bench fleet). Without, the line is as wide as one message may be long.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", MESSAGE_MAX_BYTES),
    # Who is at the other end is looked at in the handshake alone: so a certificate that has run out, or an
    # authority that is no longer trusted, is out within this time. gRPC spreads it by a tenth.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
)


def options(cfg: AggregatorConfig) -> tuple[tuple[str, int], ...]:
    """Of a server: as often as it pings, nodes may three times, for clocks jitter."""
    every_ms = round(cfg.ingest.keepalive_s * 1000)
    return (
        *SERVER_OPTIONS,
        ("grpc.keepalive_time_ms", every_ms),
        ("grpc.keepalive_timeout_ms", round(cfg.ingest.keepalive_timeout_s * 1000)),
        # Also of gRPC's own pings: while one is under way there are no others.
        ("grpc.http2.ping_timeout_ms", round(cfg.ingest.keepalive_timeout_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", every_ms // 3),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", every_ms // 3),
    )


def caller(domain: str, context: Any) -> Identity:
    """Who a call's certificate is for."""
    return identity_of(context.auth_context(), domain)


def to_node(own: Credentials, name: str, address: str) -> grpc.aio.Channel:
    """The way to one node, which shows a certificate for its name."""
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


def servers(parts: "Parts") -> tuple[list[Any], list[int]]:
    """The one for everybody with a certificate, and the one for those who want one."""
    from grpc_health.v1 import health, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    centre, own = parts.cfg.aggregator, parts.own
    server = grpc.aio.server(interceptors=[parts.guard], options=options(parts.cfg))
    add_to_server(parts.ingest, server)
    add_FleetQueryServiceServicer_to_server(parts.query, server)
    who = partial(caller, parts.cfg.aggregator.trust_domain)
    service = PolicyDesk(parts.policies, parts.ingest, parts.clock, who)
    add_PolicyServiceServicer_to_server(service, server)
    ramps = RolloutDesk(parts.rollouts.rollouts, parts.committer, parts.clock, who)
    add_RolloutServiceServicer_to_server(ramps, server)
    evaluation = EvaluationDesk(parts.evaluation, parts.committer, parts.clock, who)
    add_EvaluationServiceServicer_to_server(evaluation, server)
    drift = DriftDesk(parts.evaluation, parts.committer, parts.clock, who)
    add_DriftServiceServicer_to_server(drift, server)
    well = health.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc-stubs leave it out
    health_pb2_grpc.add_HealthServicer_to_server(well, server)
    services = fleet_pb2.DESCRIPTOR.services_by_name.values()
    names = [each.full_name for each in services if each.name != "EnrolmentService"]
    for module in (policy_pb2, evaluation_pb2, rollout_pb2, drift_pb2):
        names += [each.full_name for each in module.DESCRIPTOR.services_by_name.values()]
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    port = _bind(server, centre.listen, own.serving(is_mutual=True))
    if centre.enrol_listen is None:
        return [server], [port]
    enrol = grpc.aio.server(options=options(parts.cfg), maximum_concurrent_rpcs=32)
    add_EnrolmentServiceServicer_to_server(parts.enrolment, enrol)
    door = _bind(enrol, centre.enrol_listen, own.serving(is_mutual=False))
    return [server, enrol], [port, door]


def pages(parts: "Parts") -> HttpServer | None:
    """For Prometheus: /metrics and /sd; for load balancers: /fit/SERVICE."""
    listen = parts.cfg.aggregator.metrics_listen
    if listen is None:
        return None
    made = FleetPages(
        lambda: parts.fleet.view,
        parts.counters,
        parts.clock.now,
        gpuwarden.__version__,
        lambda: parts.evaluation.services.view,
    )
    documents = Documents({"/sd": made.targets}, parts.rollouts.pages.document)
    return HttpServer(
        listen,
        made,
        clock=parts.clock,
        documents=documents,
        fit=lambda name: service_pages.fit(parts.evaluation.services.view, name),
        setting="aggregator.metrics_listen",
    )


def _bind(server: Any, address: str, credentials: grpc.ServerCredentials) -> int:
    try:
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise Unavailable(f"{address}: {error}") from error
