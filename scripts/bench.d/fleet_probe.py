"""Single figures of a running aggregator: leave for one action, many nodes asked at once, all coming back at once."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from fleet_disk import Disk
from fleet_doors import doors
from fleet_floor import WISH

from gpuwarden.adapters.pki.names import read_credentials
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceStub

METHOD = "/gpuwarden.wire.v1.FleetService/Attend"
WAIT_S = 30.0
PERMIT_EVERY_S = 0.05
QUERIES = 50


def channel(address: str, folder: Path) -> grpc.aio.Channel:
    own = read_credentials(folder)
    return grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(own.authorities_pem, own.key_pem, own.certificate_pem),
        options=(
            ("grpc.ssl_target_name_override", "gpuwarden-aggregator"),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", 32 * 2**20),
        ),
    )


class Stream:
    """A node's, with its first sample told."""

    def __init__(self, address: str, folder: Path, name: str, listens: str = "") -> None:
        self.name = name
        self._channel = channel(address, folder / name)
        self._listens = listens
        self._call: Any = None

    async def open(self) -> None:
        """Until the first acknowledgement."""
        self._call = self._channel.stream_stream(METHOD)()
        log_id = secrets.token_hex(4)
        hello = pb.Hello(
            schema_version=1,
            node=self.name,
            boot_id="b",
            log_id=log_id,
            api_address=self._listens,
            wall=time.time(),
        )
        await self.send(pb.AttendRequest(hello=hello))
        device = pb.DeviceSample(id="GPU-0", sight=node.SIGHT_OK, total_bytes=2**35)
        sample = pb.Sample(sequence=1, wall=time.time(), mode="enforce", devices=[device])
        await self.send(pb.AttendRequest(batch=pb.Batch(samples=[sample])))
        while not (await self.next()).HasField("ack"):
            pass

    async def leave(self, number: int) -> float | None:
        """How long one wish took; None: it was refused."""
        ask = pb.PermitAsk(id=f"ask-{number}", kind="cordon", subject="GPU-0", age_s=1.0)
        begun = time.monotonic()
        await self.send(pb.AttendRequest(batch=pb.Batch(asks=[ask])))
        while True:
            directive = (await self.next()).directive
            if any(each.ask == ask.id for each in directive.permits):
                return time.monotonic() - begun
            if any(each.ask == ask.id for each in directive.refusals):
                return None

    async def send(self, message: pb.AttendRequest) -> None:
        await self._call.write(message.SerializeToString())

    async def next(self) -> pb.AttendResponse:
        data = await asyncio.wait_for(self._call.read(), WAIT_S)
        return pb.AttendResponse.FromString(data)

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close(None)


class Bare(Stream):
    """To the floor, which answers nothing but wishes."""

    async def open(self) -> None:
        self._call = self._channel.stream_stream(METHOD)()

    async def leave(self, number: int) -> float | None:
        begun = time.monotonic()
        await self._call.write(WISH + str(number).encode())
        await asyncio.wait_for(self._call.read(), WAIT_S)
        return time.monotonic() - begun


async def permits(said: argparse.Namespace, kind: type[Stream] = Stream) -> dict[str, Any]:
    """From the wish of a node until it holds the permit, on disk at the aggregator."""
    streams = [kind(said.address, said.folder, f"probe-{n}") for n in range(said.probes)]
    for stream in streams:
        await stream.open()
    await asyncio.sleep(2.0)  # the fleet has seen a sample of each
    waits: list[float] = []
    refused = 0
    syncs: list[float] = []
    disk = Disk(said.folder)
    gc.collect()
    gc.disable()  # a collection here takes up to 70 ms, and is none of the aggregator's
    for number in range(said.count):
        wait_s = await streams[number % len(streams)].leave(number)
        waits += [] if wait_s is None else [wait_s]
        refused += wait_s is None
        await asyncio.sleep(PERMIT_EVERY_S / 2)
        syncs.append(
            await asyncio.to_thread(disk.sync)
        )  # by turns: beside, each would wait for the other
        await asyncio.sleep(PERMIT_EVERY_S / 2)
    gc.enable()
    disk.close()
    for stream in streams:
        await stream.close()
    spread = {**_spread("permit", waits), **_spread("disk_sync", syncs)}
    return {"permits": len(waits), "refused": refused, **spread}


async def bare(said: argparse.Namespace) -> dict[str, Any]:
    """The same way to the floor and back: no fleet is judged, nothing but a page is kept."""
    return await permits(said, Bare)


async def storm(said: argparse.Namespace) -> dict[str, Any]:
    """All nodes at once, without the jitter that agents have: until the last is acknowledged."""
    streams = [Stream(said.address, said.folder, f"load-{n}") for n in range(said.count)]
    begun = time.monotonic()
    results = await asyncio.gather(*(s.open() for s in streams), return_exceptions=True)
    took_s = time.monotonic() - begun
    failures = [repr(each) for each in results if each is not None]
    for stream in streams:
        await stream.close()
    return {"reconnect_s": round(took_s, 2), "failed": len(failures), "failures": failures[:3]}


async def query(said: argparse.Namespace) -> dict[str, Any]:
    """So many nodes asked for a picture in one call, each through the door of a real agent."""
    names = [f"probe-{number}" for number in range(said.probes)]
    with doors(said.folder, names, said.address) as addresses:
        return await _asked(said, names, addresses)


async def _asked(
    said: argparse.Namespace, names: list[str], addresses: list[str]
) -> dict[str, Any]:
    streams = [
        Stream(said.address, said.folder, name, listens)
        for name, listens in zip(names, addresses, strict=True)
    ]
    for stream in streams:
        await stream.open()
    await asyncio.sleep(2.0)
    waits: list[float] = []
    unanswered = size = 0
    async with channel(said.address, said.admin) as line:
        stub: Any = FleetQueryServiceStub(line)  # the stubs are of the synchronous kind
        for _ in range(QUERIES):
            begun = time.monotonic()
            request = pb.QueryRequest(question=pb.QUESTION_SNAPSHOT, nodes=names, deadline_s=10.0)
            answer = await stub.Query(request, timeout=WAIT_S)
            waits.append(time.monotonic() - begun)
            unanswered += len(answer.unanswered)
            size = answer.ByteSize()
    for stream in streams:
        await stream.close()
    first = {"query_first_ms": round(waits[0] * 1000, 2)}
    return {
        "query_nodes": said.probes,
        "answer_bytes": size,
        "unanswered": unanswered,
        **first,
        **_spread("query", waits[1:]),
    }


def _spread(name: str, waits_s: list[float]) -> dict[str, float]:
    ordered = sorted(waits_s) or [0.0]
    return {
        f"{name}_median_ms": round(ordered[len(ordered) // 2] * 1000, 2),
        f"{name}_p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 2),
        f"{name}_max_ms": round(ordered[-1] * 1000, 2),
    }


KINDS: dict[str, Callable[[argparse.Namespace], Coroutine[Any, Any, dict[str, Any]]]] = {
    "permits": permits,
    "bare": bare,
    "storm": storm,
    "query": query,
}

if __name__ == "__main__":
    with contextlib.suppress(
        OSError
    ):  # a node does not share its core with five hundred others, as this does
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--admin", type=Path)
    parser.add_argument("--probes", type=int, default=1)
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(KINDS[options.kind](options))), flush=True)
