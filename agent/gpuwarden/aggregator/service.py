"""FleetQueryService: what people and programs ask of the fleet."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

import grpc

from gpuwarden.aggregator import asking
from gpuwarden.aggregator.asking import Asking
from gpuwarden.aggregator.denials import Denials
from gpuwarden.aggregator.enrolment import Enrolment
from gpuwarden.aggregator.forgetting import Forgetting
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.lead import Others
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.orders import Orders
from gpuwarden.aggregator.store import KeptIncident, Store
from gpuwarden.aggregator.thaws import Thaws
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.fleet import FleetView, Identity, NodeStanding, NodeState
from gpuwarden.wire import convert_fleet_query as convert
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceServicer

WATCHERS_MAX = 64
ASKED_MAX = 256
"""A picture of a node takes up to 100 KB, and an answer holds 32 MiB."""
NEWEST = (1e12, "\U0010ffff", "\U0010ffff")
"""Before every incident there is."""


class FleetQuery(FleetQueryServiceServicer):
    """Answers from the newest picture, the store, and the nodes themselves."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        store: Store,
        ingest: Ingest,
        asking: Asking,
        orders: Orders,
        enrolment: Enrolment,
        denials: Denials,
        forgetting: Forgetting,
        thaws: Thaws,
        clock: Clock,
        identity_of: Callable[[Any], Identity],
        version: str,
        counters: Callable[[], Mapping[str, int]],
        others: Others,
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._ingest = ingest
        self._asking = asking
        self.orders = orders
        self._enrolment = enrolment
        self._denials = denials
        self.forgetting = forgetting
        self._thaws = thaws
        self._clock = clock
        self._identity_of = identity_of
        self._version = version
        self._counters = counters
        self._others = others
        self._started_wall = clock.wall()
        self._watchers = 0

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        return await self._status(self._fleet.view)

    async def _status(self, view: FleetView) -> pb.StatusResponse:
        incidents_open, fault = None, ""
        try:
            incidents_open = await asyncio.to_thread(self._store.incidents_open)
        except GpuwardenError as error:
            fault = str(error)
        held = self._others.permits_held()
        if held is not None:
            view = replace(view, permits_held=held)
        return convert.to_status(
            view,
            version=self._version,
            started_wall=self._started_wall,
            incidents_open=incidents_open,
            store_fault=fault,
            counters=self._counters(),
            others=sorted(self._others.others().values()),
        )

    async def Nodes(self, request: pb.NodesRequest, context: Any) -> pb.NodesResponse:
        try:
            return self._nodes(request)
        except GpuwardenError as error:
            await _end(context, error)

    def _nodes(self, request: pb.NodesRequest) -> pb.NodesResponse:
        place = convert.page_place(request.page_token, str)
        after = "" if place is None else str(place[0])
        wanted = {convert.from_state(state) for state in request.states}
        found = [
            each
            for each in self._fleet.view.nodes
            if each.greeting.node.startswith(request.prefix)
            and (not wanted or each.state in wanted)
            and (not request.group or each.greeting.group == request.group)
        ]
        size = convert.page_size(request.page_size)
        page = [each for each in found if each.greeting.node > after][: size + 1]
        more = len(page) > size
        return pb.NodesResponse(
            schema_version=SCHEMA_VERSION,
            nodes=[self._node(each, with_sample=request.with_sample) for each in page[:size]],
            next_page_token=convert.page_token(page[size - 1].greeting.node) if more else "",
            total=len(found),
        )

    def _node(self, standing: NodeStanding, *, with_sample: bool) -> pb.FleetNode:
        sample = self._ingest.shown(standing.greeting.node) if with_sample else None
        return convert.to_node(standing, self._clock.now(), sample)

    async def FleetIncidents(
        self, request: pb.FleetIncidentsRequest, context: Any
    ) -> pb.FleetIncidentsResponse:
        try:
            place = convert.page_place(request.page_token, float, str, str)
            size = convert.page_size(request.page_size, usual=50)
            after = (
                NEWEST if place is None else (float(str(place[0])), str(place[1]), str(place[2]))
            )
            found = await asyncio.to_thread(
                self._store.incidents,
                is_open_only=request.is_open_only,
                node=request.node,
                rule=request.rule,
                limit=size + 1,
                after=after,
            )
        except GpuwardenError as error:
            await _end(context, error)
        last = found[size - 1] if len(found) > size else None
        token = "" if last is None else convert.page_token(last.opened_wall, last.node, last.id)
        return pb.FleetIncidentsResponse(
            schema_version=SCHEMA_VERSION,
            incidents=[
                pb.FleetIncident(node=each.node, incident=node.Incident.FromString(each.payload))
                for each in found[:size]
            ],
            next_page_token=token,
        )

    async def FleetExplain(
        self, request: pb.FleetExplainRequest, context: Any
    ) -> pb.FleetExplainResponse:
        try:
            kept = await asyncio.to_thread(self._named, request.node, request.incident)
        except GpuwardenError as error:
            code = grpc.StatusCode.NOT_FOUND if isinstance(error, Refused) else None
            await _end(context, error, code)
        standing = self._standing(kept.node)
        why = "the node is not known any more"
        if standing is not None:
            (answer,) = await self._asking.ask(
                [standing],
                lambda stub, within_s: _explain(stub, kept.id, within_s),
                request.deadline_s,
            )
            if not answer.error:
                return pb.FleetExplainResponse(
                    schema_version=SCHEMA_VERSION, node=kept.node, explained=answer.message
                )
            why = answer.error
        told = node.ExplainResponse(
            schema_version=SCHEMA_VERSION, incident=node.Incident.FromString(kept.payload)
        )
        return pb.FleetExplainResponse(
            schema_version=SCHEMA_VERSION, node=kept.node, explained=told, not_fresh=why
        )

    def _named(self, name: str, wanted: str) -> KeptIncident:
        """The one incident that is meant; ``Refused`` when there is none or it could be several."""
        if wanted == "last":
            found = self._store.incidents(
                is_open_only=False, node=name, rule="", limit=1, after=NEWEST
            )
        else:
            found = self._store.incidents_named(name, wanted, 6) if wanted else []
            exact = [each for each in found if each.id == wanted]
            found = exact or found
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(f"{each.node} {each.id}" for each in found[:5])
            raise Refused(f"{wanted[:80]} fits several: {some}")
        raise Refused(f"no incident {wanted[:80]}")

    async def Query(self, request: pb.QueryRequest, context: Any) -> pb.QueryResponse:
        named = set(request.nodes)
        chosen = [
            each
            for each in self._fleet.view.nodes
            if (each.greeting.node in named if named else each.is_connected)
            and (not request.group or each.greeting.group == request.group)
        ]
        question = {
            pb.QUESTION_SNAPSHOT: asking.snapshot,
            pb.QUESTION_INCIDENTS: asking.incidents,
        }.get(request.question)
        if question is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "question: not one of ours")
            raise AssertionError("abort() returned")
        if len(chosen) > ASKED_MAX:
            text = f"{len(chosen)} nodes are too many for one answer: name them, or a group, of {ASKED_MAX}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        answered = await self._asking.ask(chosen, question, request.deadline_s)
        answers = [_answer(each) for each in answered]
        absent = named - {each.greeting.node for each in chosen}
        answers += [pb.QueryAnswer(node=n, error="no such node") for n in sorted(absent)]
        return pb.QueryResponse(
            schema_version=SCHEMA_VERSION,
            answers=answers,
            unanswered=[each.node for each in answers if each.error],
        )

    async def WatchFleet(
        self, request: pb.WatchFleetRequest, context: Any
    ) -> AsyncIterator[pb.WatchFleetResponse]:
        if self._watchers >= WATCHERS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many are watching already")
        self._watchers += 1
        try:
            known: dict[str, tuple[object, ...]] = {}
            serial = 0
            while True:
                view = self._fleet.view
                if view.serial > serial:
                    serial = view.serial
                    now = {each.greeting.node: _mark(each) for each in view.nodes}
                    changed = [e for e in view.nodes if known.get(e.greeting.node) != _mark(e)]
                    gone = sorted(known.keys() - now.keys())
                    yield pb.WatchFleetResponse(
                        status=await self._status(view),
                        changed=[self._node(each, with_sample=False) for each in changed],
                        gone=gone,
                    )
                    known = now
                await asyncio.sleep(1.0)
        finally:
            self._watchers -= 1

    async def Order(self, request: pb.OrderRequest, context: Any) -> pb.OrderResponse:
        standing = self._standing(request.node)
        if standing is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no node {request.node[:64]}")
            raise AssertionError("abort() returned")
        try:
            kept = await self.orders.give(request, standing, self._identity_of(context))
        except GpuwardenError as error:
            await _end(context, error)
        if not kept.is_done:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, kept.text)
        return pb.OrderResponse(schema_version=SCHEMA_VERSION, text=kept.text)

    async def Invite(self, request: pb.InviteRequest, context: Any) -> pb.InviteResponse:
        by = self._identity_of(context).name
        try:
            join = await self._enrolment.invite(request.node, request.ttl_s, by)
        except GpuwardenError as error:
            await _end(context, error)
        return pb.InviteResponse(schema_version=SCHEMA_VERSION, join=join)

    async def Deny(self, request: pb.DenyRequest, context: Any) -> pb.DenyResponse:
        by = self._identity_of(context).name
        try:
            await self._denials.deny(request.node, request.reason, by)
        except GpuwardenError as error:
            await _end(context, error)
        return pb.DenyResponse(schema_version=SCHEMA_VERSION)

    async def Allow(self, request: pb.AllowRequest, context: Any) -> pb.AllowResponse:
        try:
            await self._denials.allow(request.node, self._identity_of(context).name)
        except GpuwardenError as error:
            await _end(context, error)
        return pb.AllowResponse(schema_version=SCHEMA_VERSION)

    async def Forget(self, request: pb.ForgetRequest, context: Any) -> pb.ForgetResponse:
        try:
            by = self._identity_of(context).name
            await self.forgetting.forget(request.node, request.reason, by)
        except GpuwardenError as error:
            code = grpc.StatusCode.FAILED_PRECONDITION if isinstance(error, Refused) else None
            await _end(context, error, code)
        return pb.ForgetResponse(schema_version=SCHEMA_VERSION)

    async def Thaw(self, request: pb.ThawRequest, context: Any) -> pb.ThawResponse:
        try:
            by = self._identity_of(context).name
            for_s = await self._thaws.give(request, by, self._fleet.view)
        except GpuwardenError as error:
            code = grpc.StatusCode.FAILED_PRECONDITION if isinstance(error, Refused) else None
            await _end(context, error, code)
        return pb.ThawResponse(schema_version=SCHEMA_VERSION, for_s=for_s)

    def _standing(self, name: str) -> NodeStanding | None:
        return next((e for e in self._fleet.view.nodes if e.greeting.node == name), None)


async def _explain(stub: Any, incident: str, within_s: float) -> Any:
    return await stub.Explain(node.ExplainRequest(incident=incident), timeout=within_s)


def _answer(each: asking.Answered) -> pb.QueryAnswer:
    answer = pb.QueryAnswer(node=each.node, error=each.error)
    if isinstance(each.message, node.SnapshotResponse):
        answer.view.CopyFrom(each.message.view)
    elif isinstance(each.message, node.IncidentsResponse):
        answer.incidents.CopyFrom(each.message)
    return answer


def _mark(standing: NodeStanding) -> tuple[object, ...]:
    """What a watcher is to hear of when it changes."""
    report = standing.report
    opened = 0 if report is None else report.incidents_open
    is_silent = standing.state is NodeState.SILENT
    return (standing.state, "" if is_silent else standing.why, standing.is_connected, opened)


async def _end(
    context: Any, error: GpuwardenError, code: grpc.StatusCode | None = None
) -> NoReturn:
    """The call ends with what the error means to the caller."""
    if code is None:
        code = (
            grpc.StatusCode.UNAVAILABLE
            if isinstance(error, Unavailable)
            else grpc.StatusCode.INVALID_ARGUMENT
        )
    await context.abort(code, str(error))
    raise AssertionError("abort() returned")
