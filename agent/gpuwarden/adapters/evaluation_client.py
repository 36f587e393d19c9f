"""What the command line asks an aggregator of services."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from gpuwarden.adapters.fleet_client import PAGE, FleetClient
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1.evaluation_pb2_grpc import EvaluationServiceStub

REVIEWS = 500


class EvaluationClient(FleetClient):
    """The same connection and the same errors, for ``EvaluationService``."""

    def __init__(self, address: str, folder: Path, *, timeout_s: float = 10.0) -> None:
        super().__init__(address, folder, timeout_s=timeout_s)
        self._evaluation = EvaluationServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def services(
        self, prefix: str = "", colours: Sequence[str] = ()
    ) -> Iterator[pb.ServiceStanding]:
        """Every service that fits, by name, page after page."""
        token = ""
        while True:
            request = pb.ServicesRequest(
                prefix=prefix, colours=colours, page_size=PAGE, page_token=token
            )
            answer: pb.ServicesResponse = self._said(self._evaluation.Services, request)
            yield from answer.services
            token = answer.next_page_token
            if not token:
                return

    def service(self, name: str) -> pb.ServiceStatusResponse:
        request = pb.ServiceStatusRequest(service=name)
        answer: pb.ServiceStatusResponse = self._said(self._evaluation.ServiceStatus, request)
        return answer

    def report(self, name: str, version: str = "") -> pb.ServiceReportResponse:
        """Every verdict, with nodes and cause."""
        request = pb.ServiceReportRequest(service=name, version=version)
        answer: pb.ServiceReportResponse = self._said(self._evaluation.ServiceReport, request)
        return answer

    def gate(self, name: str, version: str, min_requests: int) -> pb.GateResponse:
        """Whether a version holds its guardrails."""
        request = pb.GateRequest(service=name, version=version, min_requests=min_requests)
        answer: pb.GateResponse = self._said(self._evaluation.Gate, request)
        return answer

    def review_queue(
        self, service: str, segment: str | None, limit: int
    ) -> Iterator[pb.ReviewQueueResponse]:
        """Of what waits for people so many, page after page; one page at least."""
        token = ""
        while True:
            request = pb.ReviewQueueRequest(
                service=service, segment=segment, limit=min(limit, REVIEWS), page_token=token
            )
            answer: pb.ReviewQueueResponse = self._said(self._evaluation.ReviewQueue, request)
            yield answer
            limit -= len(answer.lines)
            token = answer.next_page_token
            if not token or limit <= 0:
                return

    def import_reviews(
        self, lines: Sequence[str], labels: Sequence[str] = (), *, is_dry_run: bool = False
    ) -> pb.ImportReviewsResponse:
        """What people said; sent again it counts no more."""
        request = pb.ImportReviewsRequest(lines=lines, labels=labels, is_dry_run=is_dry_run)
        answer: pb.ImportReviewsResponse = self._said(self._evaluation.ImportReviews, request)
        return answer
