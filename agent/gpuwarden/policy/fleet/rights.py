"""Who may call what: one table. What is not in it is denied."""

from gpuwarden.model.fleet import Identity, Role

_LOOK = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
_ACT = frozenset({Role.OPERATOR, Role.ADMIN})
_NODE = frozenset({Role.NODE})
_CENTRE = frozenset({Role.AGGREGATOR})
_ANYBODY = frozenset(Role)

_FLEET = "/gpuwarden.wire.v1.FleetService"
_QUERY = "/gpuwarden.wire.v1.FleetQueryService"
_POLICY = "/gpuwarden.wire.v1.PolicyService"
_ROLLOUT = "/gpuwarden.wire.v1.RolloutService"
_EVALUATION = "/gpuwarden.wire.v1.EvaluationService"
_DRIFT = "/gpuwarden.wire.v1.DriftService"
_NODES_OWN = "/gpuwarden.wire.v1.NodeService"
_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection"

AT_THE_AGGREGATOR = {
    f"{_FLEET}/Attend": _NODE,
    f"{_FLEET}/Renew": _NODE,
    f"{_QUERY}/Status": _LOOK,
    f"{_QUERY}/Nodes": _LOOK,
    f"{_QUERY}/FleetIncidents": _LOOK,
    f"{_QUERY}/FleetExplain": _LOOK,
    f"{_QUERY}/Query": _LOOK,
    f"{_QUERY}/WatchFleet": _LOOK,
    f"{_QUERY}/Order": _ACT,
    f"{_QUERY}/Invite": frozenset({Role.ADMIN}),
    f"{_QUERY}/Deny": frozenset({Role.ADMIN}),
    f"{_QUERY}/Allow": frozenset({Role.ADMIN}),
    f"{_QUERY}/Forget": frozenset({Role.ADMIN}),
    f"{_QUERY}/Thaw": _ACT,
    f"{_POLICY}/Policies": _LOOK,
    f"{_POLICY}/PolicyText": _LOOK,
    f"{_POLICY}/PreviewPolicy": _ACT,
    f"{_POLICY}/PublishPolicy": frozenset({Role.ADMIN}),
    f"{_POLICY}/RollBackPolicy": _ACT,
    f"{_POLICY}/SteerRollout": _ACT,
    f"{_ROLLOUT}/RollBack": _ACT,
    f"{_ROLLOUT}/Rollouts": _LOOK,
    f"{_ROLLOUT}/StartRollout": _ACT,
    f"{_ROLLOUT}/SteerRamp": _ACT,
    f"{_ROLLOUT}/CreateExperiment": _ACT,
    f"{_ROLLOUT}/Experiments": _LOOK,
    f"{_ROLLOUT}/FreezeShares": _ACT,
    f"{_ROLLOUT}/ReleaseExperiment": frozenset({Role.ADMIN}),
    f"{_ROLLOUT}/TrafficShares": _LOOK,
    f"{_ROLLOUT}/SetShares": _ACT,
    f"{_EVALUATION}/Services": _LOOK,
    f"{_EVALUATION}/ServiceStatus": _LOOK,
    f"{_EVALUATION}/ServiceReport": _LOOK,
    f"{_EVALUATION}/Gate": _LOOK,
    f"{_EVALUATION}/WatchServices": _LOOK,
    f"{_EVALUATION}/SubmitLabels": _ACT,
    f"{_EVALUATION}/ReviewQueue": _ACT,
    f"{_EVALUATION}/ImportReviews": _ACT,
    f"{_DRIFT}/ServiceDrift": _LOOK,
    f"{_DRIFT}/Profiles": _LOOK,
    f"{_DRIFT}/Anomalies": _LOOK,
    f"{_DRIFT}/PutProfile": _ACT,
    f"{_DRIFT}/DropProfile": _ACT,
    "/grpc.health.v1.Health/Check": _ANYBODY,
    "/grpc.health.v1.Health/Watch": _ANYBODY,
    f"{_REFLECTION}/ServerReflectionInfo": _LOOK,
}
"""Calls over mutual TLS. Enrolment has a port of its own, where nobody has a certificate yet."""

AT_A_NODE = {
    f"{_NODES_OWN}/Snapshot": _CENTRE,
    f"{_NODES_OWN}/Watch": _CENTRE,
    f"{_NODES_OWN}/Incidents": _CENTRE,
    f"{_NODES_OWN}/Explain": _CENTRE,
    f"{_NODES_OWN}/Ready": _CENTRE,
}
"""Over the network a node is asked by its aggregator alone, and obeys only orders on the stream it opened."""


def may(table: dict[str, frozenset[Role]], method: str, identity: Identity | None) -> bool:
    """Whether this call is allowed; without an identity nothing is."""
    return identity is not None and identity.role in table.get(method, frozenset())
