"""What the command line asks an aggregator of rollouts, experiments and shares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.model.ramp import ArmShare, Campaign, Experiment, Freeze, Ramp, Shares
from gpuwarden.wire.convert_rollout import from_message, to_message
from gpuwarden.wire.v1 import rollout_pb2 as pb
from gpuwarden.wire.v1.rollout_pb2_grpc import RolloutServiceStub


class RolloutClient(FleetClient):
    """The same connection and the same errors, for ``RolloutService``."""

    def __init__(self, address: str, folder: Path, *, timeout_s: float = 10.0) -> None:
        super().__init__(address, folder, timeout_s=timeout_s)
        self._rollouts = RolloutServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def roll_back(
        self, service: str, version: str, reason: str, *, is_anyway: bool, ident: str = ""
    ) -> Campaign:
        request = pb.RollBackRequest(
            service=service, version=version, reason=reason, is_anyway=is_anyway, id=ident
        )
        return from_message(Campaign, self._said(self._rollouts.RollBack, request).campaign)

    def rollouts(
        self, service: str = ""
    ) -> tuple[tuple[Ramp, ...], tuple[Campaign, ...], tuple[Freeze, ...]]:
        """Rollouts, rollbacks over nodes, and freezes that hold."""
        said = self._said(self._rollouts.Rollouts, pb.RolloutsRequest(service=service))
        return (
            tuple(from_message(Ramp, each) for each in said.ramps),
            tuple(from_message(Campaign, each) for each in said.campaigns),
            tuple(from_message(Freeze, each) for each in said.freezes),
        )

    def start(self, service: str, version: str, base: str, way: str, may_undo: bool | None) -> Ramp:
        request = pb.StartRolloutRequest(
            service=service, version=version, base=base, way=way, may_undo=may_undo
        )
        return from_message(Ramp, self._said(self._rollouts.StartRollout, request).ramp)

    def steer(self, service: str, verb: str, reason: str) -> Ramp:
        request = pb.SteerRampRequest(service=service, verb=verb, reason=reason)
        return from_message(Ramp, self._said(self._rollouts.SteerRamp, request).ramp)

    def create(self, service: str, ident: str, arms: Sequence[ArmShare]) -> Experiment:
        request = pb.CreateExperimentRequest(
            service=service, id=ident, arms=[to_message(each) for each in arms]
        )
        said = self._said(self._rollouts.CreateExperiment, request)
        return from_message(Experiment, said.experiment)

    def experiments(self, service: str = "") -> tuple[Experiment, ...]:
        said = self._said(self._rollouts.Experiments, pb.ExperimentsRequest(service=service))
        return tuple(from_message(Experiment, each) for each in said.experiments)

    def freeze(self, service: str, reason: str, *, is_on: bool, for_s: float = 0.0) -> Freeze:
        request = pb.FreezeSharesRequest(service=service, reason=reason, is_on=is_on, for_s=for_s)
        return from_message(Freeze, self._said(self._rollouts.FreezeShares, request).freeze)

    def release(self, service: str, reason: str) -> Experiment:
        request = pb.ReleaseExperimentRequest(service=service, reason=reason)
        said = self._said(self._rollouts.ReleaseExperiment, request)
        return from_message(Experiment, said.experiment)

    def shares(self, service: str) -> tuple[Shares, int, float, str]:
        """What was told last, its revision, when, and by whom."""
        said = self._said(self._rollouts.TrafficShares, pb.TrafficSharesRequest(service=service))
        return from_message(Shares, said.shares), said.revision, said.wall, said.who

    def set_shares(self, service: str, arms: Sequence[ArmShare], reason: str) -> Shares:
        request = pb.SetSharesRequest(
            service=service, arms=[to_message(each) for each in arms], reason=reason
        )
        return from_message(Shares, self._said(self._rollouts.SetShares, request).shares)
