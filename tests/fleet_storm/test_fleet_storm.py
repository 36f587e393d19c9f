"""Reliability cases 4 and 39: every node comes back at once, without the jitter that agents have."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME, Credentials
from gpuwarden.clock import SystemClock
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.incident.daemon import free_port, with_our_code
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceStub
from tests.aggregator.centre import event, incident, sample

BACK_S = 60.0
"""Within this all have to be back."""
RECOVERY_S = 600.0
"""Within this all have to have told what they kept: ten minutes, for 5,000 nodes."""
KEPT = 30
"""Events of one node's four hours alone: ten incidents that opened, advanced and came to rest."""
METHOD = "/gpuwarden.wire.v1.FleetService/Attend"
OPTIONS = (
    ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A store's folder, where its aggregator listens, and everybody's certificate."""

    folder: Path
    address: str
    nodes: dict[str, Credentials]
    admin: Credentials

    def channel(self, own: Credentials) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        return grpc.aio.secure_channel(self.address, credentials, OPTIONS)


def fleet(folder: Path, count: int) -> Fleet:
    wall = SystemClock().wall()
    authority = Authority.open(folder / "state" / "pki", "gpuwarden", wall)

    def own(role: Role, name: str) -> Credentials:
        return authority.credentials(Identity(role=role, name=name), ttl_s=3600.0, wall=wall)

    return Fleet(
        folder=folder,
        address=f"127.0.0.1:{free_port()}",
        nodes={name: own(Role.NODE, name) for name in (f"n{k}" for k in range(count))},
        admin=own(Role.ADMIN, "somebody"),
    )


@contextmanager
def aggregator(them: Fleet) -> Iterator[int]:
    """One life of it, by its pid; it ends by SIGKILL."""
    config = them.folder / "aggregator.toml"
    config.write_text(
        f'[aggregator]\nlisten = "{them.address}"\nenrol_listen = "none"\nmetrics_listen = "none"\n'
        f'state_dir = "{them.folder / "state"}"\n'
    )
    log = them.folder / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "gpuwarden", "aggregator", "-c", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=with_our_code(os.environ))
    clock = SystemClock()
    end = clock.now() + BACK_S
    try:
        while b"aggregator_started" not in log.read_bytes():
            assert process.poll() is None, log.read_text()[-2000:]
            assert clock.now() < end, "the aggregator did not start"
            clock.sleep(0.05)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def cpu_s(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def comes(them: Fleet, name: str) -> Any:
    """A stream that has said hello and a sample, from the moment of its first acknowledgement."""
    channel: Any = them.channel(them.nodes[name])  # the stubs are of the synchronous kind
    call = channel.stream_stream(METHOD)()
    hello = pb.Hello(schema_version=1, node=name, boot_id="b", log_id="l")
    await call.write(pb.AttendRequest(hello=hello).SerializeToString())
    batch = pb.Batch(samples=[sample()])
    await call.write(pb.AttendRequest(batch=batch).SerializeToString())
    while not pb.AttendResponse.FromString(await call.read()).HasField("ack"):
        pass
    return channel, call


async def states(them: Fleet) -> dict[Any, int]:
    async with them.channel(them.admin) as channel:
        stub: Any = FleetQueryServiceStub(channel)
        said = await stub.Status(pb.StatusRequest(), timeout=BACK_S)
    return {each.state: each.count for each in said.states}


async def before_any_comes(them: Fleet) -> dict[Any, int]:
    """As the fleet is judged by an aggregator that has heard nobody yet."""
    clock = SystemClock()
    end = clock.now() + BACK_S
    while not (found := await states(them)):
        assert clock.now() < end, "the fleet was not judged"
        await asyncio.sleep(0.2)
    return found


async def all_back(them: Fleet, count: int) -> dict[Any, int]:
    """How the fleet is judged once all have come at once; nobody may be missing."""
    coming = [comes(them, name) for name in them.nodes]
    lines = await asyncio.wait_for(asyncio.gather(*coming), BACK_S)
    clock = SystemClock()
    end = clock.now() + BACK_S
    while (found := await states(them)) != {pb.NODE_STATE_HEALTHY: count}:
        assert pb.NODE_STATE_SILENT not in found
        assert clock.now() < end, found
        await asyncio.sleep(0.2)
    for channel, call in lines:
        call.cancel()
        await channel.close(None)
    return found


@pytest.mark.serial
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_case_39_all_come_back_at_once_and_nobody_is_lost(tmp_path: Path, count: int) -> None:
    them = fleet(tmp_path, count)
    with aggregator(them):
        asyncio.run(all_back(them, count))
    with aggregator(them) as pid:
        assert asyncio.run(before_any_comes(them)) == {pb.NODE_STATE_UNKNOWN: count}
        before_s = cpu_s(pid)
        assert asyncio.run(all_back(them, count)) == {pb.NODE_STATE_HEALTHY: count}
        used_s = cpu_s(pid) - before_s
        sys.stdout.write(f"{count} nodes back for {used_s:.1f} CPU-s of the aggregator\n")


async def tells(them: Fleet, name: str) -> None:
    """A node that comes back with what it has kept, and stays until all of it is acknowledged."""
    channel: Any = them.channel(them.nodes[name])  # the stubs are of the synchronous kind
    call = channel.stream_stream(METHOD)()
    hello = pb.Hello(schema_version=1, node=name, boot_id="b", log_id="l")
    await call.write(pb.AttendRequest(hello=hello).SerializeToString())
    kept = [event(n + 1, incident(f"inc-{n // 3}", summary=f"word {n % 3}")) for n in range(KEPT)]
    for first in range(0, KEPT, 10):
        batch = pb.Batch(events=kept[first : first + 10])
        await call.write(pb.AttendRequest(batch=batch).SerializeToString())
    newest = pb.Batch(samples=[sample()])  # of four hours of samples one is left
    await call.write(pb.AttendRequest(batch=newest).SerializeToString())
    while pb.AttendResponse.FromString(await call.read()).ack.events_upto < KEPT:
        pass
    call.cancel()
    await channel.close(None)


async def all_told(them: Fleet) -> int:
    """How many incidents are open at the centre once everybody was acknowledged."""
    await asyncio.wait_for(asyncio.gather(*(tells(them, name) for name in them.nodes)), RECOVERY_S)
    async with them.channel(them.admin) as channel:
        stub: Any = FleetQueryServiceStub(channel)
        return int((await stub.Status(pb.StatusRequest(), timeout=BACK_S)).incidents_open)


@pytest.mark.serial
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_case_4_all_come_back_with_what_four_hours_left(tmp_path: Path, count: int) -> None:
    them = fleet(tmp_path, count)
    clock = SystemClock()
    with aggregator(them):
        asyncio.run(asyncio.wait_for(all_back(them, count), RECOVERY_S))
    begun = clock.now()
    with aggregator(them) as pid:
        assert asyncio.run(all_told(them)) == count * KEPT // 3
        took_s = clock.now() - begun
        sys.stdout.write(f"{count * KEPT} events in {took_s:.0f} s, {cpu_s(pid):.1f} CPU-s\n")
    with aggregator(them):  # what was acknowledged is there in its next life, and nothing twice
        assert asyncio.run(asyncio.wait_for(open_ones(them), BACK_S)) == count * KEPT // 3


async def open_ones(them: Fleet) -> int:
    async with them.channel(them.admin) as channel:
        stub: Any = FleetQueryServiceStub(channel)
        while not (said := await stub.Status(pb.StatusRequest(), timeout=BACK_S)).incidents_open:
            await asyncio.sleep(0.2)
        return int(said.incidents_open)
