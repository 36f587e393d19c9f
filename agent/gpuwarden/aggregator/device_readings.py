"""What nodes' newest samples say of their GPUs, once a minute, for whoever compares them. On the event loop."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.log import get_log
from gpuwarden.policy.fleet.odd_peers import DeviceReading
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.node_pb2 import SIGHT_OK

EVERY_S = 60.0
NODES_AT_ONCE = 5
"""Between two turns of the loop, about a millisecond: a permit, which takes several turns, is not to wait for this."""


async def keep(ingest: Ingest, hear: Callable[[Sequence[DeviceReading]], None]) -> None:
    """For ever."""
    while True:
        try:
            hear(await every(ingest))
        except Exception as error:  # noqa: BLE001  the boundary: the next minute's are read again
            get_log().error("device_readings_failed", reason=repr(error))
        await asyncio.sleep(EVERY_S)


async def every(ingest: Ingest) -> list[DeviceReading]:
    """Of every node that is connected here."""
    found: list[DeviceReading] = []
    for place, node in enumerate(list(ingest.streams.by_node), 1):
        sample = ingest.shown(node)
        stream = ingest.streams.by_node.get(node)
        if sample is not None and stream is not None:
            found.extend(of_sample(node, stream.greeting.group, sample))
        if place % NODES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def of_sample(node: str, group: str, sample: pb.Sample) -> Iterator[DeviceReading]:
    """Those that are seen. The sample was checked (``Ingest.shown``)."""
    work: dict[int, set[str]] = {}
    for tenant in sample.tenants:
        if tenant.service:
            work.setdefault(tenant.device, set()).add(tenant.service)
    for place, each in enumerate(sample.devices):
        if each.sight != SIGHT_OK:
            continue
        yield DeviceReading(
            node=node,
            group=group,
            work=" ".join(sorted(work.get(place, ()))),
            device=each.id,
            index=each.index,
            model=each.name,
            utilization_ratio=each.utilization_ratio
            if each.HasField("utilization_ratio")
            else None,
            temperature_c=each.temperature_c if each.HasField("temperature_c") else None,
            power_w=each.power_w if each.HasField("power_w") else None,
        )
