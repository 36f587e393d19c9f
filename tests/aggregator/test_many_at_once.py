"""Thousands of nodes come back at once while the aggregator is busy: each waits for its turn, none is sent away."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceStub
from tests.aggregator.centre import CHANNEL, Centre

CHANNELS, CALLS = 100, 15
"""Beyond its thousandth call that waits gRPC drops some at random, by default."""
BUSY_S = 120.0


@pytest.mark.timeout(180)
def test_calls_that_wait_are_not_dropped(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        own = centre.credentials(Role.ADMIN, "somebody")
        credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        options = (*CHANNEL, ("grpc.use_local_subchannel_pool", 1))
        channels = [
            grpc.secure_channel(centre.address, credentials, options) for _ in range(CHANNELS)
        ]
        for channel in channels:
            grpc.channel_ready_future(channel).result(BUSY_S)
        busy, free = threading.Event(), threading.Event()

        def stand() -> None:
            busy.set()
            free.wait(BUSY_S)

        assert centre._loop is not None
        centre._loop.call_soon_threadsafe(stand)
        assert busy.wait(BUSY_S)
        try:
            calls: list[Any] = [
                FleetQueryServiceStub(channel).Nodes.future(pb.NodesRequest(), timeout=BUSY_S)
                for channel in channels
                for _ in range(CALLS)
            ]
            arrived = threading.Event()
            arrived.wait(5.0)  # for all of them to be on the other side: dropped ones end at once
        finally:
            free.set()
        codes = [call.code() for call in calls]
        assert {code: codes.count(code) for code in set(codes)} == {grpc.StatusCode.OK: len(calls)}
        for channel in channels:
            channel.close()
