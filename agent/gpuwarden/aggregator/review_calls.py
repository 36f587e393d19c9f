"""What people ask of the queue of predictions: that part of EvaluationService. Both calls stand in the audit."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.reviews import FIRST, Import, Reviews
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.evaluate.quality.corrections import Judged
from gpuwarden.model.fleet import Identity
from gpuwarden.wire import convert_fleet_query as convert
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import evaluation_pb2 as pb

LINES_MAX = 1000
PAGE = 100
PAGE_MAX_BYTES = 1 << 20
LABELS_MAX = 1000
NAME_MAX = 128
WAIT_S = 10.0


class ReviewCalls:
    """For ``EvaluationDesk``."""

    _reviews: Reviews
    _committer: Committer
    _clock: Clock
    _identity_of: Callable[[Any], Identity]

    async def ReviewQueue(
        self, request: pb.ReviewQueueRequest, context: Any
    ) -> pb.ReviewQueueResponse:
        try:
            service = _service(request.service)
            segment = None
            if request.HasField("segment"):
                segment = check.text("segment", request.segment, NAME_MAX)
            place = convert.page_place(request.page_token, float, str)
            after = FIRST if place is None else (float(str(place[0])), str(place[1]))
            limit = min(LINES_MAX, request.limit or PAGE)
            if place is None:
                await self._audit(context, "review export", f"service {service}")
            found = await asyncio.to_thread(self._reviews.page, service, segment, after, limit)
            waiting, size = await asyncio.to_thread(self._reviews.sizes, service)
        except GpuwardenError as error:
            await _end(context, error)
        lines: list[str] = []
        token, left = "", PAGE_MAX_BYTES
        for each in found:
            left -= len(each.body)
            if lines and left < 0:
                break
            lines.append(each.body.decode("utf-8", "replace"))
            token = convert.page_token(each.weight, each.id)
        is_end = len(found) < limit and len(lines) == len(found)
        return pb.ReviewQueueResponse(
            schema_version=SCHEMA_VERSION,
            lines=lines,
            next_page_token="" if is_end else token,
            waiting=waiting,
            waiting_bytes=size,
            dropped=self._reviews.dropped,
        )

    async def ImportReviews(
        self, request: pb.ImportReviewsRequest, context: Any
    ) -> pb.ImportReviewsResponse:
        try:
            check.length("lines", request.lines, LINES_MAX)
            check.length("labels", request.labels, LABELS_MAX)
            labels = frozenset(request.labels) or None
            who = self._identity_of(context).name
            found = await asyncio.to_thread(
                self._reviews.take,
                list(request.lines),
                labels,
                who,
                is_dry_run=request.is_dry_run,
            )
        except GpuwardenError as error:
            await _end(context, error)
        return _to_response(found)

    async def _audit(self, context: Any, what: str, detail: str) -> None:
        wall, who = self._clock.wall(), self._identity_of(context).name
        deed = self._committer.do(lambda store: store.audit(wall, who, what, detail))
        try:
            await asyncio.wait_for(asyncio.wrap_future(deed), WAIT_S)
        except TimeoutError as error:
            raise Unavailable("the store is slow") from error


def _service(name: str) -> str:
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise Refused("service: expected the name of one")
    return name


def _to_response(found: Import) -> pb.ImportReviewsResponse:
    return pb.ImportReviewsResponse(
        schema_version=SCHEMA_VERSION,
        corrections=found.corrections,
        unlabelled=found.unlabelled,
        faults=[pb.ReviewFault(index=index, why=why.value) for index, why in found.faults],
        tallies=[_to_tally(each) for each in found.judged],
    )


def _to_tally(judged: Judged) -> pb.ReviewTally:
    return pb.ReviewTally(
        service=text(judged.service),
        segment=text(judged.segment),
        decided=len(judged.decided),
        right=judged.right,
        undecided=judged.undecided,
        counted=judged.counted,
        gold=len(judged.gold),
        gold_answers=judged.gold_answers,
        gold_right=judged.gold_right,
        kappa=judged.kappa,
    )


async def _end(context: Any, error: GpuwardenError) -> NoReturn:
    code = (
        grpc.StatusCode.UNAVAILABLE
        if isinstance(error, Unavailable)
        else grpc.StatusCode.INVALID_ARGUMENT
    )
    await context.abort(code, str(error))
    raise AssertionError("abort() returned")
