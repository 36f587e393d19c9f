"""What the command line asks an aggregator of drift."""

from pathlib import Path
from typing import Self

from gpuwarden.adapters.evaluation_client import EvaluationClient
from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.wire.v1 import drift_pb2 as pb
from gpuwarden.wire.v1.drift_pb2_grpc import DriftServiceStub


class DriftClient(FleetClient):
    """The same connection and the same errors, for ``DriftService``."""

    def __init__(self, address: str, folder: Path, *, timeout_s: float = 10.0) -> None:
        super().__init__(address, folder, timeout_s=timeout_s)
        self._drift = DriftServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def drift(self, service: str) -> pb.ServiceDriftResponse:
        """Every version and segment, with each feature."""
        request = pb.ServiceDriftRequest(service=service)
        answer: pb.ServiceDriftResponse = self._said(self._drift.ServiceDrift, request)
        return answer

    def anomalies(self, service: str = "") -> pb.AnomaliesResponse:
        """Of every service, and of the GPUs, without a name."""
        request = pb.AnomaliesRequest(service=service)
        answer: pb.AnomaliesResponse = self._said(self._drift.Anomalies, request)
        return answer

    def put(self, service: str, version: str, segment: str, profile: str) -> pb.ProfileLine:
        """``profile``: JSON; in the place of the one before."""
        request = pb.PutProfileRequest(
            service=service, version=version, segment=segment, profile=profile
        )
        answer: pb.PutProfileResponse = self._said(self._drift.PutProfile, request)
        return answer.profile

    def profiles(self, service: str = "") -> list[pb.ProfileLine]:
        answer: pb.ProfilesResponse = self._said(
            self._drift.Profiles, pb.ProfilesRequest(service=service)
        )
        return list(answer.profiles)

    def drop(self, service: str, version: str, segment: str) -> None:
        request = pb.DropProfileRequest(service=service, version=version, segment=segment)
        self._said(self._drift.DropProfile, request)


class ReportClient(EvaluationClient, DriftClient):
    """Both over one connection: all that a service's report is made of."""
