"""The floor: a bare grpc.aio server that takes the same streams over mutual TLS and throws them away.

What begins with ``WISH`` it answers, once a page more is on disk: the least that any permit takes.

It knows nothing of gpuwarden: generic handlers on bytes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
import grpc.aio
from fleet_disk import Disk

WISH = b"wish"


class Handler(grpc.GenericRpcHandler):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def service(self, details):  # type: ignore[no-untyped-def]
        return grpc.stream_stream_rpc_method_handler(self._discard)

    async def _discard(self, requests, context):  # type: ignore[no-untyped-def]
        async for data in requests:
            if data.startswith(WISH):
                await asyncio.to_thread(self._disk.sync)
                yield data


async def main(address: str, folder: Path) -> None:
    disk = Disk(folder)
    key, certificate, roots = (
        (folder / name).read_bytes() for name in ("key.pem", "certificate.pem", "authorities.pem")
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((Handler(disk),))
    credentials = grpc.ssl_server_credentials([(key, certificate)], roots, True)
    server.add_secure_port(address, credentials)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
