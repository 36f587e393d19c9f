"""A reader of the fleet: what the command line uses to ask an aggregator."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from gpuwarden.adapters.node_client import ANSWER_MAX_BYTES, Explained
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME, read_credentials
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.decision import Incident
from gpuwarden.model.fleet import NodeState
from gpuwarden.wire.convert_fleet_node import check_answer
from gpuwarden.wire.convert_fleet_query import from_state, to_state
from gpuwarden.wire.convert_node import from_tenant
from gpuwarden.wire.convert_work import from_incident, from_withheld
from gpuwarden.wire.fields import known
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceStub

_ABSENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
PAGE = 500


class FleetClient(AbstractContextManager["FleetClient"]):
    """A connection to one aggregator, under the certificate in a folder. Every method raises ``Unavailable``
    when it cannot be reached, ``Refused`` when it declines, ``Unsupported`` when it speaks a newer schema."""

    def __init__(self, address: str, folder: Path, *, timeout_s: float = 10.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        own = read_credentials(folder)
        credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        self._channel = grpc.secure_channel(
            address,
            credentials,
            options=(
                ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
                ("grpc.max_receive_message_length", ANSWER_MAX_BYTES),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
            ),
        )
        self._stub = FleetQueryServiceStub(self._channel)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def status(self) -> pb.StatusResponse:
        """The whole in one look."""
        answer: pb.StatusResponse = self._said(self._stub.Status, pb.StatusRequest())
        return answer

    def nodes(
        self,
        *,
        states: Sequence[NodeState] = (),
        group: str = "",
        prefix: str = "",
        with_sample: bool = False,
    ) -> Iterator[pb.FleetNode]:
        """Every node that fits, by name, page after page."""
        token = ""
        while True:
            request = pb.NodesRequest(
                states=[to_state(state) for state in states],
                group=group,
                prefix=prefix,
                page_size=PAGE,
                page_token=token,
                with_sample=with_sample,
            )
            answer = self._said(self._stub.Nodes, request)
            yield from answer.nodes
            token = answer.next_page_token
            if not token:
                return

    def incidents(
        self, *, is_open_only: bool, node: str, limit: int
    ) -> tuple[list[tuple[str, Incident]], bool]:
        """Newest first, each with its node; and whether there are more."""
        request = pb.FleetIncidentsRequest(is_open_only=is_open_only, node=node, page_size=limit)
        answer = self._said(self._stub.FleetIncidents, request)
        found = [(each.node, from_incident(each.incident)) for each in answer.incidents]
        return found, bool(answer.next_page_token)

    def explain(self, node: str, incident: str) -> tuple[str, Explained, str]:
        """Its node, the incident, and why it is not the node's own word of now (empty: it is)."""
        request = pb.FleetExplainRequest(node=node, incident=incident)
        answer = self._said(self._stub.FleetExplain, request)
        told = answer.explained
        tenant = known(told, "tenant")
        explained = Explained(
            incident=from_incident(told.incident),
            tenant=None if tenant is None else from_tenant(tenant),
            withheld=tuple(from_withheld(each) for each in told.withheld),
        )
        return answer.node, explained, answer.not_fresh

    def query(
        self, question: str, nodes: Sequence[str], group: str, deadline_s: float
    ) -> pb.QueryResponse:
        """What nodes themselves say now; who does not is named."""
        number = pb.Question.Value(f"QUESTION_{question.upper()}")
        request = pb.QueryRequest(
            question=number, nodes=list(nodes), group=group, deadline_s=deadline_s
        )
        answer: pb.QueryResponse = self._said(
            self._stub.Query, request, self._timeout_s + deadline_s
        )
        return answer

    def order(self, node: str, verb: str, subject: str, reason: str) -> str:
        """What the node did; ``Refused`` says why it did not."""
        request = pb.OrderRequest(node=node, verb=verb, subject=subject, reason=reason)
        text: str = self._said(self._stub.Order, request, self._timeout_s + 20.0).text
        return text

    def invite(self, node: str, ttl_s: float) -> str:
        """What the node needs to join."""
        join: str = self._said(self._stub.Invite, pb.InviteRequest(node=node, ttl_s=ttl_s)).join
        return join

    def deny(self, node: str, reason: str) -> None:
        """Keep it out."""
        self._said(self._stub.Deny, pb.DenyRequest(node=node, reason=reason))

    def allow(self, node: str) -> None:
        """Let it in again; ``Refused`` when it is not kept out."""
        self._said(self._stub.Allow, pb.AllowRequest(node=node))

    def forget(self, node: str, reason: str) -> None:
        """It is none of the fleet's any more; ``Refused`` while it is connected."""
        self._said(self._stub.Forget, pb.ForgetRequest(node=node, reason=reason))

    def thaw(self, group: str, for_s: float, reason: str) -> float:
        """For how many seconds permits are given; ``Refused`` when the group is not frozen."""
        request = pb.ThawRequest(group=group, for_s=for_s, reason=reason)
        granted: float = self._said(self._stub.Thaw, request).for_s
        return granted

    def _said(self, call: Any, request: object, timeout_s: float | None = None) -> Any:
        try:
            answer = call(request, timeout=timeout_s or self._timeout_s)
        except grpc.RpcError as error:
            said = error.details() or str(error.code())
            if error.code() in _ABSENT:
                raise Unavailable(f"the aggregator at {self._address}: {said}") from error
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise Unsupported("the aggregator is older than this command") from error
            raise Refused(said) from error
        check_answer(answer.schema_version)
        return answer


def state_word(number: int) -> str:
    """A state in a word; one that is not known here is unknown."""
    return (from_state(number) or NodeState.UNKNOWN).value
