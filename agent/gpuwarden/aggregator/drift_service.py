"""DriftService: what people ask of drift, and the profiles they push."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import grpc

from gpuwarden.aggregator import anomaly_messages
from gpuwarden.aggregator import drift_messages as messages
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.drift_points import points as points_of
from gpuwarden.aggregator.on_services import on_services
from gpuwarden.aggregator.profiles import of_service
from gpuwarden.aggregator.services_wiring import Evaluation
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.evaluation import Cohort
from gpuwarden.model.fleet import Identity
from gpuwarden.policy.fleet.fitness import named
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.v1 import drift_pb2 as pb
from gpuwarden.wire.v1 import evaluation_pb2
from gpuwarden.wire.v1.drift_pb2_grpc import DriftServiceServicer
from gpuwarden.wire.window_check import from_cohort

WAIT_S = 5.0


class DriftDesk(DriftServiceServicer):
    """Answers from the newest view; profiles are read and written off the event loop."""

    def __init__(
        self,
        evaluation: Evaluation,
        committer: Committer,
        clock: Clock,
        identity_of: Callable[[Any], Identity],
    ) -> None:
        self._drifts = evaluation.drifts
        self._services = evaluation.services
        self._anomalies = evaluation.anomalies
        self._committer = committer
        self._clock = clock
        self._identity_of = identity_of

    async def ServiceDrift(
        self, request: pb.ServiceDriftRequest, context: Any
    ) -> pb.ServiceDriftResponse:
        view, known = self._drifts.view, self._services.view
        found = view.of(request.service)
        try:
            kept = await asyncio.to_thread(self._drifts.profiles.every)
        except GpuwardenError as error:
            await _end(context, error)
        profiles = of_service(kept.values(), request.service)
        if not found and not profiles and request.service not in known.services:
            why = f"nothing was ever told of service {request.service[:128]!r}"
            await context.abort(grpc.StatusCode.NOT_FOUND, why)
        points, silent = await self._points([each.cohort for each in found if each.streams])
        notes = [note for note in (self._drifts.fault, known.note) if note]
        notes += [*silent, *messages.unseen(profiles, found)]
        return pb.ServiceDriftResponse(
            schema_version=SCHEMA_VERSION,
            reports=messages.to_reports(found, points),
            wall=self._clock.wall(),
            notes=notes,
        )

    async def Anomalies(self, request: pb.AnomaliesRequest, context: Any) -> pb.AnomaliesResponse:
        view, known = self._anomalies.view, self._services.view
        name = request.service
        found = [each for service, each in sorted(view.services.items()) if name in ("", service)]
        if name and not found and name not in known.services:
            why = f"nothing was ever told of service {name[:128]!r}"
            await context.abort(grpc.StatusCode.NOT_FOUND, why)
        return pb.AnomaliesResponse(
            schema_version=SCHEMA_VERSION,
            services=[anomaly_messages.to_service(each) for each in found],
            devices=[] if name else [anomaly_messages.to_device(each) for each in view.devices],
            devices_compared=view.devices_compared,
            wall=self._clock.wall(),
            notes=[note for note in (self._anomalies.fault,) if note],
        )

    async def _points(
        self, cohorts: Sequence[Cohort]
    ) -> tuple[dict[Cohort, list[pb.StreamPoint]], list[str]]:
        """The errors of the last day, or why they are not there: an answer without them is one, too."""
        if not cohorts:
            return {}, []
        picture, wall = self._services.picture, self._clock.wall()
        job = on_services(self._services, lambda: points_of(picture, cohorts, wall))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), WAIT_S), []
        except TimeoutError:
            return {}, ["the services are busy: errors over time are not told"]

    async def PutProfile(
        self, request: pb.PutProfileRequest, context: Any
    ) -> pb.PutProfileResponse:
        try:
            cohort = _cohort(request)
            who, wall = self._identity_of(context).name, self._clock.wall()
            kept = await asyncio.to_thread(
                self._drifts.profiles.put, cohort, request.profile, who=who, wall=wall
            )
            await self._audit(wall, who, f"{_named(cohort)}: {len(kept.profile.features)} features")
        except GpuwardenError as error:
            await _end(context, error)
        self._drifts.wake()
        return pb.PutProfileResponse(schema_version=SCHEMA_VERSION, profile=messages.to_line(kept))

    async def Profiles(self, request: pb.ProfilesRequest, context: Any) -> pb.ProfilesResponse:
        try:
            kept = await asyncio.to_thread(self._drifts.profiles.every)
        except GpuwardenError as error:
            await _end(context, error)
        found = of_service(kept.values(), request.service)
        return pb.ProfilesResponse(
            schema_version=SCHEMA_VERSION, profiles=[messages.to_line(each) for each in found]
        )

    async def DropProfile(
        self, request: pb.DropProfileRequest, context: Any
    ) -> pb.DropProfileResponse:
        try:
            cohort = _cohort(request)
            who, wall = self._identity_of(context).name, self._clock.wall()
            was = await asyncio.to_thread(self._drifts.profiles.drop, cohort, who=who, wall=wall)
            if was:
                await self._audit(wall, who, f"{_named(cohort)}: dropped")
        except GpuwardenError as error:
            await _end(context, error)
        if not was:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no profile of {_named(cohort)}")
        self._drifts.wake()
        return pb.DropProfileResponse(schema_version=SCHEMA_VERSION)

    async def _audit(self, wall: float, who: str, detail: str) -> None:
        deed = self._committer.do(lambda store: store.audit(wall, who, "profile", detail))
        try:
            await asyncio.wait_for(asyncio.wrap_future(deed), WAIT_S)
        except TimeoutError as error:
            raise Unavailable("the store is slow") from error


def _cohort(request: pb.PutProfileRequest | pb.DropProfileRequest) -> Cohort:
    """``Refused`` names the field."""
    said = evaluation_pb2.Cohort(
        service=request.service, version=request.version, segment=request.segment
    )
    return from_cohort(said)


def _named(cohort: Cohort) -> str:
    part = named(cohort)
    return f"service {cohort.service}{f' {part}' if part else ''}"


async def _end(context: Any, error: GpuwardenError) -> NoReturn:
    code = (
        grpc.StatusCode.INVALID_ARGUMENT
        if isinstance(error, Refused)
        else grpc.StatusCode.UNAVAILABLE
    )
    await context.abort(code, str(error))
    raise AssertionError("abort() returned")
