"""Nodes without end: one mutual TLS connection each, reports at a rate, and what was acknowledged when."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node

METHOD = "/gpuwarden.wire.v1.FleetService/Attend"
EVENT_EVERY = 50  # messages: events are rare


@dataclass(slots=True)
class Counts:
    """Of the window alone."""

    reports: int = 0
    events: int = 0
    event_waits_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def report(number: int) -> pb.Sample:
    """About 2 KB: eight devices, eight tenants, a finding."""
    sample = pb.Sample(sequence=1, at=float(number), wall=time.time(), mode="enforce")
    for index in range(8):
        sample.devices.add(
            id=f"GPU-{number:08x}-0000-0000-0000-{index:012x}",
            index=index,
            name="NVIDIA H100 80GB HBM3",
            sight=node.SIGHT_OK,
            total_bytes=80 * 2**30,
            used_bytes=index * 2**30,
            utilization_ratio=0.5,
            temperature_c=55.0,
            power_w=400.0,
        )
        sample.tenants.add(
            tenant=f"docker:{number:032x}{index:032x}",
            name=f"team-{index}/training-job-{number}",
            tenant_class=node.TENANT_CLASS_NORMAL,
            device=index,
            used_bytes=index * 2**30,
            hard_bytes=16 * 2**30,
        )
    sample.findings.add(
        rule="throttle",
        key=f"throttle GPU-{number}",
        severity=node.SEVERITY_WARNING,
        summary="GPU 3 is held down by heat for 30 % of the last minute " + "x" * 160,
        device=sample.devices[3].id,
    )
    return sample


class Node:
    """One node of the load."""

    def __init__(self, number: int, said: argparse.Namespace, credentials: list[bytes]) -> None:
        self.name = f"load-{number}"
        self._said = said
        self._sample = report(number)
        self._sequence = 0
        self._events = 0
        self._sent_at: dict[int, float] = {}
        key, certificate, roots = credentials
        self._channel = grpc.aio.secure_channel(
            said.address,
            grpc.ssl_channel_credentials(roots, key, certificate),
            options=(
                ("grpc.ssl_target_name_override", "gpuwarden-aggregator"),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )

    async def run(self, counts: Counts, begin: float, end: float) -> None:
        call = self._channel.stream_stream(METHOD)()
        hello = pb.Hello(schema_version=1, node=self.name, boot_id="b", log_id=str(begin))
        try:
            await call.write(pb.AttendRequest(hello=hello).SerializeToString())
            reader = asyncio.create_task(self._read(call, counts, begin))
            await self._write(call, counts, begin, end)
            reader.cancel()
        except grpc.RpcError as error:
            counts.failures.append(f"{self.name}: {error.code()} {error.details()}")
        call.cancel()
        await self._channel.close(None)

    async def _write(self, call, counts: Counts, begin: float, end: float) -> None:  # type: ignore[no-untyped-def]
        period_s = self._said.batch / self._said.rate
        number = int(self.name.rpartition("-")[2])
        due = time.monotonic() + period_s * (number % 97) / 97
        messages = number
        while (now := time.monotonic()) < end:
            if due > now:
                await asyncio.sleep(due - now)
            due += period_s
            message = pb.AttendRequest()
            for _ in range(self._said.batch):
                self._sequence += 1
                self._sample.sequence = self._sequence
                message.batch.samples.append(self._sample)
            messages += 1
            if messages % EVENT_EVERY == 0:
                self._put_event(message)
            await call.write(message.SerializeToString())
            if begin <= time.monotonic() < end:
                counts.reports += self._said.batch

    def _put_event(self, message: pb.AttendRequest) -> None:
        self._events += 1
        event = message.batch.events.add(sequence=self._events, wall=time.time())
        event.incident.id, event.incident.rule = f"inc-{self._events}", "quota"
        self._sent_at[self._events] = time.monotonic()

    async def _read(self, call, counts: Counts, begin: float) -> None:  # type: ignore[no-untyped-def]
        while True:
            data = await call.read()
            if not isinstance(data, bytes):
                return
            upto, now = pb.AttendResponse.FromString(data).ack.events_upto, time.monotonic()
            for sequence in [each for each in self._sent_at if each <= upto]:
                sent_at = self._sent_at.pop(sequence)
                if sent_at >= begin:
                    counts.events += 1
                    counts.event_waits_s.append(now - sent_at)


async def main(said: argparse.Namespace) -> None:
    folder = Path(said.credentials)
    nodes = []
    for number in range(said.nodes):
        names = ("key.pem", "certificate.pem", "authorities.pem")
        own = [(folder / f"load-{number}" / name).read_bytes() for name in names]
        nodes.append(Node(number, said, own))
    begin = time.monotonic() + said.warm_up
    counts = Counts()
    tasks = []
    for number, each in enumerate(nodes):
        tasks.append(asyncio.create_task(each.run(counts, begin, begin + said.seconds)))
        if number % 20 == 19:
            await asyncio.sleep(0.02)
    await asyncio.sleep(max(0.0, begin - time.monotonic()))
    print("begin", flush=True)
    await asyncio.sleep(max(0.0, begin + said.seconds - time.monotonic()))
    print("end", flush=True)
    await asyncio.wait(tasks, timeout=20)
    waits = sorted(counts.event_waits_s) or [0.0]
    print(
        json.dumps(
            {
                "reports": counts.reports,
                "events": counts.events,
                "event_wait_p99_s": waits[int(len(waits) * 0.99)],
                "event_wait_max_s": waits[-1],
                "message_bytes": report(1).ByteSize(),
                "failures": counts.failures[:5],
                "failed": len(counts.failures),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("credentials")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="reports a second and node")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=12.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    asyncio.run(main(parser.parse_args()))
