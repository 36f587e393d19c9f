"""A real aggregator in this process, on loopback, and clients under any certificate."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import uvloop

from gpuwarden.adapters.pki.names import AGGREGATOR_NAME, Credentials
from gpuwarden.aggregator.wiring import Parts, build, serve
from gpuwarden.clock import SystemClock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1.evaluation_pb2_grpc import EvaluationServiceStub
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceStub, FleetServiceStub

WAIT_S = 20.0
LOOPBACK = "127.0.0.1"
CHANNEL = (
    ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)


class Centre:
    """Serves from ``with`` to its end; its state stays in the folder."""

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        centre = {
            "listen": f"{LOOPBACK}:0",
            "enrol_listen": f"{LOOPBACK}:0",
            "metrics_listen": f"{LOOPBACK}:0",
            "state_dir": folder,
            **sections.pop("aggregator", {}),
        }
        self.cfg = AggregatorConfig.model_validate(
            {"ingest": {"commit_s": 0.01}, **sections, "aggregator": centre}
        )
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ports: queue.Queue[list[int] | BaseException] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="centre", daemon=True)
        self.parts: Parts

    def __enter__(self) -> Self:
        self._thread.start()
        ports = self._ports.get(timeout=WAIT_S)
        if isinstance(ports, BaseException):
            raise ports
        self.address, self.door = (f"{LOOPBACK}:{port}" for port in ports)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """As TERM would; again is nothing."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)

    def _run(self) -> None:
        try:
            uvloop.run(self._main())
        except BaseException as error:  # noqa: BLE001  the test that waits is told
            self._ports.put(error)

    async def _main(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self.parts = build(self.cfg, SystemClock())
        await serve(self.parts, self._stop, self._ports.put)

    def credentials(self, role: Role, name: str, **more: Any) -> Credentials:
        """Signed by this aggregator's own authority."""
        values = {"ttl_s": 3600.0, "wall": SystemClock().wall(), **more}
        return self.parts.authority.credentials(Identity(role=role, name=name), **values)

    def channel(self, own: Credentials) -> grpc.Channel:
        """To the aggregator, under a certificate."""
        credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        return grpc.secure_channel(self.address, credentials, CHANNEL)

    def query(self, role: Role = Role.ADMIN) -> Any:
        return FleetQueryServiceStub(self.channel(self.credentials(role, "somebody")))

    def evaluation(self, role: Role = Role.OPERATOR) -> Any:
        return EvaluationServiceStub(self.channel(self.credentials(role, "somebody")))

    def line(self, name: str, **hello: Any) -> Line:
        """A node's stream that has said hello."""
        return Line(self.channel(self.credentials(Role.NODE, name)), name, **hello)


class Line:
    """One stream of one node, by hand."""

    def __init__(self, channel: grpc.Channel, name: str, **hello: Any) -> None:
        values = {"schema_version": 1, "node": name, "boot_id": "boot-1", "log_id": "log-1"}
        self.channel = channel
        self._out: queue.Queue[pb.AttendRequest | None] = queue.Queue()
        self._in: queue.Queue[pb.AttendResponse | grpc.RpcError | None] = queue.Queue()
        self.send(pb.AttendRequest(hello=pb.Hello(**{**values, **hello})))
        self.call: Any = FleetServiceStub(channel).Attend(self._requests())
        threading.Thread(target=self._read, daemon=True).start()
        self.directives: list[pb.Directive] = []
        self.events_upto = -1
        self.windows_upto = self.reviews_upto = 0
        self.details = ""

    def _requests(self) -> Iterator[pb.AttendRequest]:
        while (request := self._out.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for response in self.call:
                self._in.put(response)
            self._in.put(None)
        except grpc.RpcError as error:
            self._in.put(error)

    def send(self, request: pb.AttendRequest) -> None:
        self._out.put(request)

    def batch(self, **values: Any) -> None:
        self.send(pb.AttendRequest(batch=pb.Batch(**values)))

    def next(self) -> pb.AttendResponse:
        """The next message from the aggregator; raises what ended the stream."""
        response = self._in.get(timeout=WAIT_S)
        if response is None:
            raise EOFError
        if isinstance(response, grpc.RpcError):
            raise response
        if response.HasField("directive"):
            self.directives.append(response.directive)
        if response.HasField("ack"):
            self.events_upto = response.ack.events_upto
            self.windows_upto = response.ack.windows_upto
            self.reviews_upto = response.ack.reviews_upto
        return response

    def until_acked(self, events_upto: int) -> None:
        while self.events_upto < events_upto:
            self.next()

    def ended(self) -> grpc.StatusCode:
        """The status with which the aggregator ends the stream."""
        while True:
            try:
                self.next()
            except EOFError:
                return grpc.StatusCode.OK
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                self.details = error.details() or ""
                return code

    def close(self) -> None:
        self._out.put(None)
        self.call.cancel()
        self.channel.close()


def sample(sequence: int = 1, **more: Any) -> pb.Sample:
    """A healthy node's."""
    device = pb.DeviceSample(id="GPU-0", sight=node.SIGHT_OK, total_bytes=2**35, used_bytes=2**30)
    values = {"mode": "enforce", "wall": 1.7e9, "devices": [device], **more}
    return pb.Sample(sequence=sequence, **values)


def incident(
    name: str = "inc-1", *, summary: str = "over quota", closed_wall: float | None = None
) -> node.Incident:
    return node.Incident(
        id=name, rule="quota", summary=summary, opened_wall=1.7e9, closed_wall=closed_wall
    )


def event(sequence: int, body: node.Incident | None = None, **more: Any) -> pb.FleetEvent:
    values = more or {"incident": body or incident()}
    return pb.FleetEvent(sequence=sequence, wall=1.7e9, **values)
