"""What the command line asks an aggregator of policies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.wire.v1 import policy_pb2 as pb
from gpuwarden.wire.v1.policy_pb2_grpc import PolicyServiceStub


class PolicyClient(FleetClient):
    """The same connection and the same errors, for ``PolicyService``."""

    def __init__(self, address: str, folder: Path, *, timeout_s: float = 10.0) -> None:
        super().__init__(address, folder, timeout_s=timeout_s)
        self._policies = PolicyServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def policies(self, nodes_max: int = 100) -> pb.PoliciesResponse:
        """What was published, newest first, and who is not where he should be."""
        request = pb.PoliciesRequest(nodes_max=nodes_max)
        answer: pb.PoliciesResponse = self._said(self._policies.Policies, request)
        return answer

    def policy_text(self, version: int) -> bytes:
        """The bundle of a version, 0: the newest."""
        request = pb.PolicyTextRequest(version=version)
        bundle: bytes = self._said(self._policies.PolicyText, request).bundle
        return bundle

    def preview(
        self, *, bundle: bytes = b"", settings: bytes = b"", groups: Sequence[str] = ()
    ) -> pb.PreviewPolicyResponse:
        """What it would change, and whom it would touch."""
        request = pb.PreviewPolicyRequest(bundle=bundle, settings=settings, groups=list(groups))
        answer: pb.PreviewPolicyResponse = self._said(self._policies.PreviewPolicy, request)
        return answer

    def publish(
        self,
        bundle: bytes,
        stages: Sequence[pb.RolloutStage],
        soak_s: float,
        *,
        is_confirmed: bool,
    ) -> int:
        """Its version, once it is on disk; ``Refused`` says why it was not taken."""
        request = pb.PublishPolicyRequest(
            bundle=bundle, stages=stages, soak_s=soak_s, is_confirmed=is_confirmed
        )
        version: int = self._said(self._policies.PublishPolicy, request).version
        return version

    def roll_back(self, bundle: bytes) -> int:
        request = pb.RollBackPolicyRequest(bundle=bundle)
        version: int = self._said(self._policies.RollBackPolicy, request).version
        return version

    def steer(self, version: int, *, is_halt: bool, reason: str) -> tuple[int, str]:
        """Which roll-out, and how it is now."""
        request = pb.SteerRolloutRequest(version=version, is_halt=is_halt, reason=reason)
        answer = self._said(self._policies.SteerRollout, request)
        return answer.version, answer.state
