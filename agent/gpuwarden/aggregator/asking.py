"""Asking the nodes themselves, many at once, each with the same deadline: who does not answer is named."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from gpuwarden.config_aggregator import AskConfig
from gpuwarden.model.fleet import NodeStanding
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1.node_pb2_grpc import NodeServiceStub

CHANNELS_MAX = 256
ANSWER_MAX_BYTES = 32 * 2**20
QUESTION_MAX_S = 30.0

Open = Callable[[str, str], grpc.aio.Channel]
"""A channel to an address, whose other end has to be the node of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One node's answer, or why there is none."""

    node: str
    message: Any = None
    error: str = ""


class Asking:
    """Keeps a channel a node, the most recently used ones. The event loop's thread only."""

    def __init__(self, cfg: AskConfig, open_channel: Open) -> None:
        self.cfg = cfg
        self._open = open_channel
        self._channels: OrderedDict[tuple[str, str], grpc.aio.Channel] = OrderedDict()
        self._room = asyncio.Semaphore(cfg.parallel)
        self.asked = 0
        self.unanswered = 0

    async def ask(
        self,
        standings: Sequence[NodeStanding],
        question: Callable[[NodeServiceStub, float], Awaitable[Any]],
        deadline_s: float,
    ) -> list[Answered]:
        """What each says, in the order of ``standings``; all within ``deadline_s`` (0: the usual)."""
        within_s = min(QUESTION_MAX_S, deadline_s) if deadline_s > 0 else self.cfg.deadline_s
        end = asyncio.get_running_loop().time() + within_s
        return list(await asyncio.gather(*(self._one(each, question, end) for each in standings)))

    async def _one(
        self,
        standing: NodeStanding,
        question: Callable[[NodeServiceStub, float], Awaitable[Any]],
        end: float,
    ) -> Answered:
        name, address = standing.greeting.node, standing.greeting.api_address
        self.asked += 1
        if not address:
            return self._none(name, "it does not listen: fleet.listen is not set there")
        try:
            async with asyncio.timeout_at(end):
                async with self._room:
                    left_s = end - asyncio.get_running_loop().time()
                    stub = NodeServiceStub(self._channel(name, address))
                    return Answered(node=name, message=await question(stub, max(0.001, left_s)))
        except TimeoutError:
            return self._none(name, "no answer in time")
        except grpc.RpcError as error:
            said = error.details() or str(error.code())
            return self._none(name, said[:400])

    def _none(self, name: str, why: str) -> Answered:
        self.unanswered += 1
        return Answered(node=name, error=why)

    def _channel(self, name: str, address: str) -> grpc.aio.Channel:
        key = (name, address)
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = self._open(name, address)
        self._channels.move_to_end(key)
        if len(self._channels) > CHANNELS_MAX:
            _, oldest = self._channels.popitem(last=False)
            asyncio.get_running_loop().create_task(oldest.close(None))
        return channel

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()


async def snapshot(stub: NodeServiceStub, within_s: float) -> Any:
    answer: Any = stub.Snapshot(node.SnapshotRequest(), timeout=within_s)
    return await answer


async def incidents(stub: NodeServiceStub, within_s: float) -> Any:
    answer: Any = stub.Incidents(node.IncidentsRequest(), timeout=within_s)
    return await answer
