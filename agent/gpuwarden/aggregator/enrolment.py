"""Who joins: a token is good once, for one node, for a short time; a certificate is renewed by its holder."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.join import invitation
from gpuwarden.aggregator.store import Spent, Store
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import EnrolmentServiceServicer

TOKEN_TTL_S = 600.0
TOKEN_TTL_MAX_S = 86_400.0
COMMIT_S = 10.0
TRIES_PER_S = 5.0
TRIES_BURST = 50.0
DENIED = "this token is not good for this node"
"""All that is said: which of the reasons it is helps only a guesser."""


class Issued(Protocol):
    """A certificate as the authority gives it."""

    @property
    def certificate_pem(self) -> bytes: ...
    @property
    def serial(self) -> int: ...
    @property
    def not_after_wall(self) -> float: ...


Issue = Callable[[bytes, Identity, float], Issued]
"""A certificate for the key of a request, for somebody, from a wall time on."""


class Enrolment(EnrolmentServiceServicer):
    """Gives certificates to nodes."""

    def __init__(
        self,
        committer: Committer,
        clock: Clock,
        issue: Issue,
        *,
        root_der: bytes,
        authorities_pem: bytes,
        own_name: str,
        denied: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        """``own_name``: what aggregators are called; no node may be. ``denied``: why a node is kept out."""
        self._committer = committer
        self._clock = clock
        self._issue = issue
        self._root_der = root_der
        self._own_name = own_name
        self._denied = denied
        self._tokens = TRIES_BURST
        self._tried_at = clock.now()
        self.authorities_pem = authorities_pem
        self.refused = 0
        self.alarms = 0
        """Tokens that were used a second time, or for another node."""

    async def invite(self, node: str, ttl_s: float, by: str) -> str:
        """What a node needs to join: shown once, kept as a digest."""
        if check.node_name(node) == self._own_name:
            raise Refused(f"no node may be called {node}")
        if (why := self._denied(node)) is not None:
            raise Refused(f"{node} is denied ({why}): gpuwarden fleet allow {node} comes first")
        ttl_s = check.number("ttl_s", ttl_s or TOKEN_TTL_S, 1.0, TOKEN_TTL_MAX_S)
        token, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        wall = self._clock.wall()

        def deed(store: Store) -> None:
            store.add_token(token, _digest(secret), node, wall + ttl_s)
            store.audit(wall, by, "invite", f"{node} token {token} for {ttl_s:g} s")

        await self._kept(deed)
        return invitation(token, secret, self._root_der)

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        try:
            issued = await self._enrol(request.token, request.node, request.request_der)
        except Refused as refused:
            self.refused += 1
            get_log().warning("enrolment_refused", node=request.node[:64], reason=str(refused))
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, DENIED)
        except GpuwardenError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return pb.EnrolResponse(
            schema_version=SCHEMA_VERSION,
            certificate_pem=issued.certificate_pem,
            authorities_pem=self.authorities_pem,
        )

    async def _enrol(self, said: str, node: str, request_der: bytes) -> Issued:
        self._spend_a_try()
        if self._denied(check.node_name(node)) is not None:
            raise Refused("this node is denied")
        token, mark, secret = said.partition(".")
        if not mark or len(said) > 256:
            raise Refused("not a token")
        wall = self._clock.wall()
        identity = Identity(role=Role.NODE, name=node)
        # Made first: a request that cannot be read must not use the token up.
        issued = self._issue(request_der, identity, wall)
        digest = _digest(secret)

        def deed(store: Store) -> Spent:
            spent = store.spend_token(token[:64], digest, node, wall)
            detail = f"{node} token {token[:64]}: {spent}"
            if spent is Spent.OK:
                store.add_certificate(f"{issued.serial:x}", node, issued.not_after_wall)
                detail += f" serial {issued.serial:x}"
            store.audit(wall, node, "enrol", detail)
            return spent

        spent = await self._kept(deed)
        if spent in (Spent.AGAIN, Spent.OTHER_NODE):
            self.alarms += 1
            get_log().error("token_used_again", node=node, token=token[:64], what=spent.value)
        if spent is not Spent.OK:
            raise Refused(f"token {token[:64]}: {spent}")
        return issued

    async def renew(self, identity: Identity, request_der: bytes) -> Issued:
        """A fresh certificate for the node that asks, under the name of the one it shows."""
        wall = self._clock.wall()
        issued = self._issue(request_der, identity, wall)

        def deed(store: Store) -> None:
            store.add_certificate(f"{issued.serial:x}", identity.name, issued.not_after_wall)
            store.audit(wall, identity.name, "renew", f"serial {issued.serial:x}")

        await self._kept(deed)
        return issued

    def _spend_a_try(self) -> None:
        """Guessing is slow, whoever guesses."""
        now = self._clock.now()
        self._tokens = min(TRIES_BURST, self._tokens + (now - self._tried_at) * TRIES_PER_S)
        self._tried_at = now
        if self._tokens < 1.0:
            raise Unavailable("too many try to join: again in a moment")
        self._tokens -= 1.0

    async def _kept(self, deed: Callable[[Store], Any]) -> Any:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._committer.do(deed)), COMMIT_S)
        except TimeoutError as error:
            raise Unavailable("the store is slow") from error


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
