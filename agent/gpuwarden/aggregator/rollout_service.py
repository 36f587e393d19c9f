"""RolloutService: people roll back, start and steer rollouts, make experiments, freeze and set shares."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.rollouts import Rollouts
from gpuwarden.aggregator.store import Store
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.fleet import Identity
from gpuwarden.model.ramp import ArmShare, Way
from gpuwarden.policy.rollback import How
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.convert_rollout import from_message, to_message
from gpuwarden.wire.v1 import rollout_pb2 as pb
from gpuwarden.wire.v1.rollout_pb2_grpc import RolloutServiceServicer

NAME_MAX = 128
REASON_MAX = 400
ARMS_MAX = 16
YEAR_S = 365 * 86_400.0
COMMIT_S = 10.0
Answer = TypeVar("Answer")


class RolloutDesk(RolloutServiceServicer):
    """What is changed is in the audit, under the name of the caller's certificate, before it is done."""

    def __init__(
        self,
        rollouts: Rollouts,
        committer: Committer,
        clock: Clock,
        identity_of: Callable[[Any], Identity],
    ) -> None:
        self._rollouts = rollouts
        self._committer = committer
        self._clock = clock
        self._identity_of = identity_of

    async def RollBack(self, request: pb.RollBackRequest, context: Any) -> pb.RollBackResponse:
        how = How.ANYWAY if request.is_anyway else How.ASKED

        def do(who: str) -> pb.RollBackResponse:
            found = self._rollouts.campaigns.begin(
                _name("service", request.service),
                check.text("version", request.version, NAME_MAX),
                how,
                who,
                check.text("reason", request.reason, REASON_MAX),
                check.identifier("id", request.id) if request.id else "",
            )
            return pb.RollBackResponse(schema_version=SCHEMA_VERSION, campaign=to_message(found))

        what = (
            f"{request.service} to {request.version or 'the last good version'}: {request.reason}"
        )
        return await self._done(context, "rollback", what, do)

    async def Rollouts(self, request: pb.RolloutsRequest, context: Any) -> pb.RolloutsResponse:
        def look() -> pb.RolloutsResponse:
            campaigns = self._rollouts.campaigns.every()
            wanted = [c for c in campaigns if request.service in ("", c.service)]
            freezes = self._rollouts.desk.freezes().values()
            return pb.RolloutsResponse(
                schema_version=SCHEMA_VERSION,
                ramps=[to_message(each) for each in self._rollouts.ramps(request.service)],
                campaigns=[to_message(each) for each in wanted],
                freezes=[to_message(each) for each in freezes if each.is_on],
            )

        return await self._looked(context, look)

    async def StartRollout(
        self, request: pb.StartRolloutRequest, context: Any
    ) -> pb.StartRolloutResponse:
        may = request.may_undo if request.HasField("may_undo") else None

        def do(who: str) -> pb.StartRolloutResponse:
            made = self._rollouts.start(
                _name("service", request.service),
                _name("version", request.version),
                _name("base", request.base),
                _way(request.way),
                may,
                who,
            )
            return pb.StartRolloutResponse(schema_version=SCHEMA_VERSION, ramp=to_message(made))

        what = f"{request.service} {request.version} after {request.base}"
        return await self._done(context, "rollout start", what, do)

    async def SteerRamp(self, request: pb.SteerRampRequest, context: Any) -> pb.SteerRampResponse:
        def do(who: str) -> pb.SteerRampResponse:
            reason = check.text("reason", request.reason, REASON_MAX)
            now = self._rollouts.steer(_name("service", request.service), request.verb, who, reason)
            return pb.SteerRampResponse(schema_version=SCHEMA_VERSION, ramp=to_message(now))

        what = f"{request.service}: {request.reason}"
        return await self._done(context, f"rollout {request.verb[:16]}", what, do)

    async def CreateExperiment(
        self, request: pb.CreateExperimentRequest, context: Any
    ) -> pb.CreateExperimentResponse:
        def do(who: str) -> pb.CreateExperimentResponse:
            ident = check.identifier("id", request.id)
            arms = _arms(request.arms)
            made = self._rollouts.experiment(_name("service", request.service), ident, arms, who)
            return pb.CreateExperimentResponse(
                schema_version=SCHEMA_VERSION, experiment=to_message(made)
            )

        what = f"{request.service} {request.id}"
        return await self._done(context, "experiment create", what, do)

    async def Experiments(
        self, request: pb.ExperimentsRequest, context: Any
    ) -> pb.ExperimentsResponse:
        def look() -> pb.ExperimentsResponse:
            found = self._rollouts.experiments.every(request.service)
            return pb.ExperimentsResponse(
                schema_version=SCHEMA_VERSION, experiments=[to_message(each) for each in found]
            )

        return await self._looked(context, look)

    async def FreezeShares(
        self, request: pb.FreezeSharesRequest, context: Any
    ) -> pb.FreezeSharesResponse:
        def do(who: str) -> pb.FreezeSharesResponse:
            service = check.text("service", request.service, NAME_MAX)
            for_s = check.number("for_s", request.for_s, 0.0, YEAR_S)
            reason = check.text("reason", request.reason, REASON_MAX)
            if not reason:
                raise Refused("reason: missing")
            made = self._rollouts.freeze(service, request.is_on, for_s, who, reason)
            return pb.FreezeSharesResponse(schema_version=SCHEMA_VERSION, freeze=to_message(made))

        what = f"{request.service or 'every service'}: {request.reason}"
        return await self._done(context, "freeze" if request.is_on else "unfreeze", what, do)

    async def ReleaseExperiment(
        self, request: pb.ReleaseExperimentRequest, context: Any
    ) -> pb.ReleaseExperimentResponse:
        def do(who: str) -> pb.ReleaseExperimentResponse:
            reason = check.text("reason", request.reason, REASON_MAX)
            made = self._rollouts.experiments.release(
                _name("service", request.service), who, reason
            )
            return pb.ReleaseExperimentResponse(
                schema_version=SCHEMA_VERSION, experiment=to_message(made)
            )

        what = f"{request.service}: {request.reason}"
        return await self._done(context, "experiment release", what, do)

    async def TrafficShares(
        self, request: pb.TrafficSharesRequest, context: Any
    ) -> pb.TrafficSharesResponse:
        def look() -> pb.TrafficSharesResponse:
            known = self._rollouts.desk.now(request.service)
            if known is None:
                raise Refused(f"no shares of {request.service[:80]} were ever told")
            told, document = known
            return pb.TrafficSharesResponse(
                schema_version=SCHEMA_VERSION,
                shares=to_message(told),
                revision=document.revision,
                wall=document.wall,
                who=document.who,
            )

        return await self._looked(context, look)

    async def SetShares(self, request: pb.SetSharesRequest, context: Any) -> pb.SetSharesResponse:
        def do(who: str) -> pb.SetSharesResponse:
            reason = check.text("reason", request.reason, REASON_MAX)
            if not reason:
                raise Refused("reason: missing")
            told = self._rollouts.set_shares(
                _name("service", request.service), _arms(request.arms), who, reason
            )
            return pb.SetSharesResponse(schema_version=SCHEMA_VERSION, shares=to_message(told))

        what = f"{request.service}: {request.reason}"
        return await self._done(context, "shares set", what, do)

    async def _done(
        self, context: Any, verb: str, what: str, do: Callable[[str], Answer]
    ) -> Answer:
        """On record first, then done."""
        identity = self._identity_of(context)
        who, wall = f"{identity.name} ({identity.role})", self._clock.wall()
        line = "".join(c if c.isprintable() else "?" for c in what[:600])

        def deed(store: Store) -> None:
            store.audit(wall, who, verb, line)

        try:
            await asyncio.wait_for(asyncio.wrap_future(self._committer.do(deed)), COMMIT_S)
            return await asyncio.to_thread(do, who)
        except (GpuwardenError, TimeoutError) as error:
            await _end(context, error)

    async def _looked(self, context: Any, look: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.to_thread(look)
        except (GpuwardenError, TimeoutError) as error:
            await _end(context, error)


def _name(field: str, value: str) -> str:
    check.text(field, value, NAME_MAX)
    if not value or not value.isprintable():
        raise Refused(f"{field}: expected printable text of 1 to {NAME_MAX} characters")
    return value


def _way(value: str) -> Way:
    try:
        return Way(value or Way.CANARY.value)
    except ValueError as error:
        raise Refused(f"way: expected canary or gatekeeper, got {value[:40]}") from error


def _arms(messages: Any) -> tuple[ArmShare, ...]:
    check.length("arms", messages, ARMS_MAX)
    arms = tuple(from_message(ArmShare, each) for each in messages)
    for each in arms:
        check.identifier("arm", each.arm)
        _name("version", each.version)
    return arms


async def _end(context: Any, error: GpuwardenError | TimeoutError) -> NoReturn:
    """The call ends with what the error means to the caller."""
    is_away = isinstance(error, Unavailable | TimeoutError)
    code = grpc.StatusCode.UNAVAILABLE if is_away else grpc.StatusCode.FAILED_PRECONDITION
    await context.abort(code, (str(error) or "the store is slow")[:4000])
    raise AssertionError("abort() returned")
