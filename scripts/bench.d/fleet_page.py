"""Pages of metrics without end, for a Prometheus to scrape: as many numbers a page as a report of ``fleet_load`` has.

Told to begin by its first scrape; says "begin", "end", and how often it was scraped between the two.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json

from fleet_load import report
from google.protobuf.message import Message

END = b"\r\n\r\n"
VARIANTS = 8


def numbers(message: Message) -> int:
    """How many numbers a message bears, those inside it included."""
    found = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += sum(numbers(each) for each in (value if field.is_repeated else [value]))
        elif field.cpp_type != field.CPPTYPE_STRING:
            found += 1
    return found


def page(variant: int) -> bytes:
    """Ten metrics of several devices and tenants, as a node's own page has them."""
    rows = []
    for number in range(numbers(report(1))):
        metric, device = number % 10, number // 10
        labels = (
            f'device="GPU-00000001-0000-0000-0000-{device:012x}",tenant="training-job-{number}"'
        )
        rows.append(f"gpuwarden_bench_metric_{metric}{{{labels}}} {number * 1000 + variant}")
    body = ("\n".join(rows) + "\n").encode()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Pages(asyncio.Protocol):
    """One connection; every request is for a page."""

    def __init__(self, served: list[int], pages: itertools.cycle[bytes]) -> None:
        self._served = served
        self._pages = pages
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *asked, self._rest = (self._rest + data).split(END)
        for _ in asked:
            self._served[0] += 1
            self._transport.write(next(self._pages))  # type: ignore[attr-defined]


async def main(said: argparse.Namespace) -> None:
    served, pages = [0], itertools.cycle([page(number) for number in range(VARIANTS)])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Pages(served, pages), "127.0.0.1", said.port)
    while not served[0]:
        await asyncio.sleep(0.05)
    await asyncio.sleep(said.warm_up)
    begun = served[0]
    print("begin", flush=True)
    await asyncio.sleep(said.seconds)
    print("end", flush=True)
    print(json.dumps({"reports": served[0] - begun, "samples": numbers(report(1))}), flush=True)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--warm-up", type=float, default=12.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    asyncio.run(main(parser.parse_args()))
