"""EvaluationService: what people, load balancers and pipelines ask of services by their own numbers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NoReturn, TypeVar

import grpc

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.evaluation_messages import to_report, to_standing
from gpuwarden.aggregator.label_desk import ENTRIES_MAX, from_entry
from gpuwarden.aggregator.on_services import on_services
from gpuwarden.aggregator.review_calls import ReviewCalls
from gpuwarden.aggregator.services_wiring import Evaluation
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.evaluation import Cohort, Verdict
from gpuwarden.model.fitness import Standing
from gpuwarden.model.fleet import Identity
from gpuwarden.policy.fleet import fitness
from gpuwarden.policy.fleet.fitness import Gate
from gpuwarden.policy.fleet.labels import Answer, Joined
from gpuwarden.wire import convert_fleet_query as convert
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.convert_window import to_verdict
from gpuwarden.wire.v1 import evaluation_pb2 as pb
from gpuwarden.wire.v1.evaluation_pb2_grpc import EvaluationServiceServicer

WATCHERS_MAX = 64
WAIT_S = 5.0
GATE_S = 3600.0
"""Requests of so long a gate counts."""
MIN_REQUESTS = 100
COLOURS = frozenset({"green", "red", "unknown"})
Result = TypeVar("Result")


class EvaluationDesk(ReviewCalls, EvaluationServiceServicer):
    """Answers from the newest picture; what needs the windows themselves is done on the services' thread."""

    def __init__(
        self,
        evaluation: Evaluation,
        committer: Committer,
        clock: Clock,
        identity_of: Callable[[Any], Identity],
    ) -> None:
        self._services = evaluation.services
        self._causes = evaluation.causes
        self._labels = evaluation.labels
        self._reviews = evaluation.reviews
        self._notes = evaluation.notes
        self._committer = committer
        self._clock = clock
        self._identity_of = identity_of
        self._watchers = 0

    async def Services(self, request: pb.ServicesRequest, context: Any) -> pb.ServicesResponse:
        try:
            place = convert.page_place(request.page_token, str)
            size = convert.page_size(request.page_size)
            unknown = set(request.colours) - COLOURS
            if unknown:
                raise Refused(f"colours: {min(unknown)[:32]!r}, expected green, red, unknown")
        except GpuwardenError as error:
            await _end(context, error)
        after = "" if place is None else str(place[0])
        view = self._services.view
        found = [
            standing
            for name, standing in sorted(view.services.items())
            if name.startswith(request.prefix)
            and (not request.colours or standing.colour.value in request.colours)
        ]
        page = [each for each in found if each.service > after]
        more = len(page) > size
        return pb.ServicesResponse(
            schema_version=SCHEMA_VERSION,
            services=[to_standing(each) for each in page[:size]],
            next_page_token=convert.page_token(page[size - 1].service) if more else "",
            total=len(found),
            wall=view.wall,
        )

    async def ServiceStatus(
        self, request: pb.ServiceStatusRequest, context: Any
    ) -> pb.ServiceStatusResponse:
        standing = await self._standing(request.service, context)
        return pb.ServiceStatusResponse(
            schema_version=SCHEMA_VERSION,
            standing=to_standing(standing),
            verdicts=[to_verdict(each) for each in standing.verdicts],
            wall=self._services.view.wall,
        )

    async def ServiceReport(
        self, request: pb.ServiceReportRequest, context: Any
    ) -> pb.ServiceReportResponse:
        standing = await self._standing(request.service, context)
        verdicts = _of_version(standing.verdicts, request.version)
        try:
            reports = await self._on_thread(
                lambda: [to_report(self._causes.explain(each)) for each in verdicts]
            )
            numbers = await self._on_thread(lambda: self._services.worth(standing.service))
        except GpuwardenError as error:
            await _end(context, error)
        view = self._services.view
        notes = [view.note] if view.note else []
        if not view.is_leader:
            notes.append("another aggregator leads: it wakes people; the verdicts are the same")
        notes += [note for told in self._notes for note in told(standing.service)]
        return pb.ServiceReportResponse(
            schema_version=SCHEMA_VERSION,
            standing=to_standing(standing),
            verdicts=reports,
            wall=view.wall,
            notes=notes,
            numbers=numbers,
        )

    async def Gate(self, request: pb.GateRequest, context: Any) -> pb.GateResponse:
        """Of a version that was never told there is not enough data, and neither of a service."""
        view = self._services.view
        standing = view.services.get(request.service)
        verdicts = (
            [] if standing is None else _of_version(standing.verdicts, request.version, standing)
        )
        try:
            requests = await self._on_thread(
                lambda: self._requests(request.service, request.version)
            )
        except GpuwardenError as error:
            await _end(context, error)
        least = request.min_requests or MIN_REQUESTS
        result, reasons = fitness.gated(verdicts, requests, least)
        if standing is None:
            reasons = [f"nothing was ever told of service {request.service[:128]!r}"]
        elif view.note:
            result, reasons = Gate.NOT_ENOUGH, [view.note]
        elif request.version and request.version not in standing.versions:
            reasons = [f"nothing was told of version {request.version[:128]!r} lately"]
        return pb.GateResponse(
            schema_version=SCHEMA_VERSION,
            result=result.value,
            reasons=reasons,
            verdicts=[to_verdict(each) for each in verdicts],
            requests=requests,
            wall=view.wall,
        )

    def _requests(self, service: str, version: str) -> float:
        picture = self._services.picture
        mine = [
            cohort
            for cohort in picture.cohorts()
            if cohort.service == service and version in ("", cohort.version)
        ]
        windows = picture.over(mine, self._clock.wall() - GATE_S, {"requests", "predictions"})
        return sum(
            max(w.counts.get("requests", 0.0), w.counts.get("predictions", 0.0)) for w in windows
        )

    async def WatchServices(
        self, request: pb.WatchServicesRequest, context: Any
    ) -> AsyncIterator[pb.WatchServicesResponse]:
        if self._watchers >= WATCHERS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many are watching already")
        self._watchers += 1
        try:
            known: dict[str, tuple[object, ...]] = {}
            serial = -1
            while True:
                view = self._services.view
                if view.serial > serial:
                    serial = view.serial
                    now = {name: _mark(each) for name, each in view.services.items()}
                    changed = [e for n, e in view.services.items() if known.get(n) != now[n]]
                    yield pb.WatchServicesResponse(
                        schema_version=SCHEMA_VERSION,
                        wall=view.wall,
                        services=[to_standing(each) for each in changed],
                        gone=sorted(known.keys() - now.keys()),
                    )
                    known = now
                await asyncio.sleep(1.0)
        finally:
            self._watchers -= 1

    async def SubmitLabels(
        self, request: pb.SubmitLabelsRequest, context: Any
    ) -> pb.SubmitLabelsResponse:
        view = self._services.view
        if not view.is_leader:
            why = "another aggregator leads: send labels there, so that each counts once"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)
        try:
            check.length("entries", request.entries, ENTRIES_MAX)
            answers, refused = _answers(request)
            wall, who = self._clock.wall(), self._identity_of(context).name
            found = await self._joined(request.service, answers, wall)
            counted = sum(each is Joined.COUNTED for each in found)
            detail = f"service {request.service[:128]}: {len(answers)} entries, {counted} counted"
            deed = await self._on_thread(lambda: self._labels.keep(answers, wall, detail, who))
            await asyncio.wait_for(asyncio.wrap_future(deed), WAIT_S)
        except TimeoutError:
            await _end(context, Unavailable("the store is slow"))
        except GpuwardenError as error:
            await _end(context, error)
        return pb.SubmitLabelsResponse(
            schema_version=SCHEMA_VERSION,
            counted=counted,
            waiting=sum(each is Joined.WAITING for each in found),
            known=sum(each is Joined.KNOWN for each in found),
            refused=refused,
        )

    async def _joined(self, service: str, answers: Sequence[Answer], wall: float) -> list[Joined]:
        """What became of each; of those that are not known here the store is asked first, as whoever led before, and
        this aggregator before it was started, left it."""
        unknown = await self._on_thread(lambda: self._labels.unknown(answers))
        asked = asyncio.to_thread(self._labels.recalled, service, unknown)
        recalled = await asyncio.wait_for(asked, WAIT_S)
        return await self._on_thread(lambda: self._labels.take(answers, wall, recalled))

    async def _standing(self, service: str, context: Any) -> Standing:
        standing = self._services.view.services.get(service)
        if standing is None:
            why = f"nothing was ever told of service {service[:128]!r}"
            await context.abort(grpc.StatusCode.NOT_FOUND, why)
            raise AssertionError("abort() returned")
        return standing

    async def _on_thread(self, job: Callable[[], Result]) -> Result:
        """On the services' thread; ``Unavailable`` when it does not come to it in time."""
        try:
            return await asyncio.wait_for(
                asyncio.wrap_future(on_services(self._services, job)), WAIT_S
            )
        except TimeoutError as error:
            raise Unavailable("the services are busy") from error


def _answers(request: pb.SubmitLabelsRequest) -> tuple[list[Answer], list[pb.LabelRefusal]]:
    """Entries that are what they must be, and those that are not."""
    answers, refused = [], []
    for index, entry in enumerate(request.entries):
        try:
            answers.append(from_entry(request.service, entry))
        except Refused as error:
            refused.append(pb.LabelRefusal(index=index, why=str(error)))
    return answers, refused


def _of_version(
    verdicts: tuple[Verdict, ...], version: str, standing: Standing | None = None
) -> list[Verdict]:
    """Those on a version; where there is only this one, those on the whole service are on it."""
    if not version:
        return list(verdicts)
    mine = [v for v in verdicts if v.cohort.version == version]
    if mine or standing is None or standing.versions != (version,):
        return mine
    whole = Cohort(service=standing.service)
    return [v for v in verdicts if v.cohort == whole or v.cohort.segment]


def _mark(standing: Standing) -> tuple[object, ...]:
    """What a watcher is to hear of when it changes."""
    verdicts = tuple((v.guardrail, v.cohort, v.colour) for v in standing.verdicts)
    return (standing.colour, standing.since_wall, standing.versions, standing.nodes, verdicts)


async def _end(context: Any, error: GpuwardenError) -> NoReturn:
    code = (
        grpc.StatusCode.UNAVAILABLE
        if isinstance(error, Unavailable)
        else grpc.StatusCode.INVALID_ARGUMENT
    )
    await context.abort(code, str(error))
    raise AssertionError("abort() returned")
