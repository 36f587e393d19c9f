"""The floor: a bare grpc.aio server that takes the same streams over mutual TLS and throws them away.

It knows nothing of gpuwarden: generic handlers on bytes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
import grpc.aio


async def discard(requests, context):  # type: ignore[no-untyped-def]
    async for _ in requests:
        pass
    return
    yield b""


class Handler(grpc.GenericRpcHandler):
    def service(self, details):  # type: ignore[no-untyped-def]
        return grpc.stream_stream_rpc_method_handler(discard)


async def main(address: str, folder: Path) -> None:
    key, certificate, roots = (
        (folder / name).read_bytes() for name in ("key.pem", "certificate.pem", "authorities.pem")
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((Handler(),))
    credentials = grpc.ssl_server_credentials([(key, certificate)], roots, True)
    server.add_secure_port(address, credentials)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
