"""Who may call what, method by method, against a real server; what is not in the table fails here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor

from gpuwarden.model.fleet import Identity, Role
from gpuwarden.policy.fleet.rights import AT_A_NODE, AT_THE_AGGREGATOR, may
from gpuwarden.wire.v1 import (
    drift_pb2,
    evaluation_pb2,
    fleet_pb2,
    node_pb2,
    policy_pb2,
    rollout_pb2,
)
from tests.aggregator.centre import Centre

LOOK, ACT = {"viewer", "operator", "admin"}, {"operator", "admin"}
EXPECTED: dict[str, set[str]] = {
    "FleetService/Attend": {"node"},
    "FleetService/Renew": {"node"},
    "FleetQueryService/Status": LOOK,
    "FleetQueryService/Nodes": LOOK,
    "FleetQueryService/FleetIncidents": LOOK,
    "FleetQueryService/FleetExplain": LOOK,
    "FleetQueryService/Query": LOOK,
    "FleetQueryService/WatchFleet": LOOK,
    "FleetQueryService/Order": ACT,
    "FleetQueryService/Invite": {"admin"},
    "PolicyService/Policies": LOOK,
    "PolicyService/PolicyText": LOOK,
    "PolicyService/PreviewPolicy": ACT,
    "PolicyService/PublishPolicy": {"admin"},
    "PolicyService/RollBackPolicy": ACT,
    "PolicyService/SteerRollout": ACT,
    "RolloutService/RollBack": ACT,
    "RolloutService/Rollouts": LOOK,
    "RolloutService/StartRollout": ACT,
    "RolloutService/SteerRamp": ACT,
    "RolloutService/CreateExperiment": ACT,
    "RolloutService/Experiments": LOOK,
    "RolloutService/FreezeShares": ACT,
    "RolloutService/ReleaseExperiment": {"admin"},
    "RolloutService/TrafficShares": LOOK,
    "RolloutService/SetShares": ACT,
    "EvaluationService/Services": LOOK,
    "EvaluationService/ServiceStatus": LOOK,
    "EvaluationService/ServiceReport": LOOK,
    "EvaluationService/Gate": LOOK,
    "EvaluationService/WatchServices": LOOK,
    "EvaluationService/SubmitLabels": ACT,
    "DriftService/ServiceDrift": LOOK,
    "DriftService/Profiles": LOOK,
    "DriftService/Anomalies": LOOK,
    "DriftService/PutProfile": ACT,
    "DriftService/DropProfile": ACT,
}
"""Written out once more, by hand: a slip in the table is seen."""
PREFIX = "/gpuwarden.wire.v1."


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with Centre(Path(tmp_path_factory.mktemp("centre"))) as serving:
        yield serving


def methods(*services: ServiceDescriptor) -> set[str]:
    return {f"/{s.full_name}/{m.name}" for s in services for m in s.methods}


def test_every_method_has_its_row() -> None:
    services = fleet_pb2.DESCRIPTOR.services_by_name
    policies = policy_pb2.DESCRIPTOR.services_by_name["PolicyService"]
    evaluation = evaluation_pb2.DESCRIPTOR.services_by_name["EvaluationService"]
    rollouts = rollout_pb2.DESCRIPTOR.services_by_name["RolloutService"]
    fleet = (services["FleetService"], services["FleetQueryService"])
    drift = drift_pb2.DESCRIPTOR.services_by_name["DriftService"]
    served = methods(*fleet, policies, rollouts, evaluation, drift)
    assert {name for name in AT_THE_AGGREGATOR if name.startswith(PREFIX)} == served
    own = methods(node_pb2.DESCRIPTOR.services_by_name["NodeService"])
    assert own - AT_A_NODE.keys() == {f"{PREFIX}NodeService/Command"}


@pytest.mark.parametrize(("method", "role"), list(itertools.product(EXPECTED, Role)))
def test_the_table_is_the_one_that_was_meant(method: str, role: Role) -> None:
    who = Identity(role=role, name="x")
    assert may(AT_THE_AGGREGATOR, PREFIX + method, who) is (role.value in EXPECTED[method])


def test_nobody_and_the_unknown_method_are_denied() -> None:
    assert not any(may(AT_THE_AGGREGATOR, method, None) for method in AT_THE_AGGREGATOR)
    assert not any(
        may(AT_THE_AGGREGATOR, f"{PREFIX}FleetService/New", Identity(role=r, name="x"))
        for r in Role
    )


@pytest.mark.parametrize("role", Role)
def test_the_server_does_as_the_table_says(centre: Centre, role: Role) -> None:
    channel = centre.channel(centre.credentials(role, "somebody"))
    for method, allowed in EXPECTED.items():
        code = _code(channel, PREFIX + method)
        assert (code is not grpc.StatusCode.PERMISSION_DENIED) is (role.value in allowed), method
    channel.close()


def _code(channel: grpc.Channel, method: str) -> grpc.StatusCode:
    """How a call with an empty request ends; a stream is left after its first answer."""
    is_stream = method.endswith(("Attend", "WatchFleet", "WatchServices"))
    make: Any = channel.stream_stream if method.endswith("Attend") else channel.unary_stream
    try:
        if not is_stream:
            channel.unary_unary(method, bytes, bytes)(b"", timeout=10)
            return grpc.StatusCode.OK
        call = make(method)(iter([b""]) if method.endswith("Attend") else b"", timeout=10)
        next(call)
        call.cancel()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_without_a_certificate_there_is_no_connection(centre: Centre) -> None:
    roots = centre.parts.authority.root_pem
    options = (("grpc.ssl_target_name_override", "gpuwarden-aggregator"),)
    with grpc.secure_channel(
        centre.address, grpc.ssl_channel_credentials(roots), options
    ) as channel:
        assert _code(channel, f"{PREFIX}FleetQueryService/Status") is grpc.StatusCode.UNAVAILABLE


def test_health_answers_whoever_has_a_certificate(centre: Centre) -> None:
    with centre.channel(centre.credentials(Role.NODE, "n1")) as channel:
        assert _code(channel, "/grpc.health.v1.Health/Check") is grpc.StatusCode.OK
