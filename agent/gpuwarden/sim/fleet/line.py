"""A simulated node's stream: the agent's uplink without its two threads, on the event loop of many."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio

from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.uplink import CHANNEL_OPTIONS, FIRST_ACK_S, Uplink
from gpuwarden.adapters.uplink_session import Session
from gpuwarden.clock import Clock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.status import View
from gpuwarden.ports_fleet import FleetDesk
from gpuwarden.sim.fleet.spool import HeapSpool
from gpuwarden.sim.node.clock import SimClock
from gpuwarden.wire import convert_fleet_node as convert
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetServiceStub

OPTIONS = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
"""So that each node has a connection of its own, as under a certificate of its own it must."""
PAUSE_S = 1.0


class NoSource:
    """Pictures are handed in (``look``); nobody waits for them."""

    def view(self) -> View:
        raise Unavailable("pictures of a simulated node are handed in")

    def fitness(self, name: str, now: float) -> None:
        return None

    def wait_newer(self, serial: int, timeout_s: float) -> View | None:
        return None


class Line(Uplink):
    """What is sent when, what an answer means and what is remembered is the agent's own code."""

    def __init__(
        self,
        cfg: FleetConfig,
        desk: FleetDesk,
        spool: HeapSpool,
        certificate: OwnCertificate,
        clock: SimClock | Clock,
    ) -> None:
        super().__init__(cfg, NoSource(), desk, spool, certificate, clock)
        self.spool = spool
        self._due = asyncio.Event()
        self.reports = 0
        self.batches = 0
        self.asked: dict[str, str] = {}
        """By wish, the kind of action it is for."""
        self.granted: dict[str, str] = {}
        """By permit, the kind of action it is for."""
        self.refused: dict[str, str] = {}
        """By wish, the budget that stopped it last."""
        self.is_up = asyncio.Event()

    def look(self, view: View) -> None:
        """A new picture."""
        self._take_in(view)
        self._write_down_answers()
        with self._wake:
            if len(self._samples) >= self._cfg.batch_samples:
                self._due.set()

    def stir(self) -> None:
        super().stir()
        self._due.set()

    async def attend(self) -> None:
        """One stream from its hello to its end; raises what ended it."""
        own = self._certificate.read()
        (address,) = self._cfg.aggregator
        credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        async with grpc.aio.secure_channel(address, credentials, OPTIONS) as channel:
            session = self._session = Session(address)
            attend: Any = FleetServiceStub(channel).Attend  # the stubs are of the synchronous kind
            call = attend()
            greeting = self._desk.greeting(self._spool.log_id, self._spool.epoch())
            await call.write(pb.AttendRequest(hello=convert.to_hello(greeting)))
            writer = asyncio.create_task(self._send(session, call))
            try:
                async for response in call:
                    self._note(response)
                    self._take(session, response)
                    self._write_down_answers()
                    if session.is_acked:
                        self.is_up.set()
            finally:
                session.is_over = True
                self.is_up.clear()
                self._desk.linked(False)
                writer.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                    await writer
                call.cancel()

    async def _send(self, session: Session, call: Any) -> None:
        async with asyncio.timeout(FIRST_ACK_S * 6):
            await self.is_up.wait()
        session.batched_at = self._clock.now()
        while not session.is_over:
            self._due.clear()
            batch = self._next_batch(session)
            if batch is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), PAUSE_S)
                continue
            self.asked.update((ask.id, ask.kind) for ask in batch.asks)
            self.reports += len(batch.samples)
            self.batches += 1
            await call.write(pb.AttendRequest(batch=batch))

    def _note(self, response: pb.AttendResponse) -> None:
        for permit in response.directive.permits:
            self.granted[permit.id] = permit.kind
            self.refused.pop(permit.ask, None)
        for refusal in response.directive.refusals:
            self.refused[refusal.ask] = refusal.budget
