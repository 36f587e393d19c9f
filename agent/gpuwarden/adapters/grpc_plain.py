"""grpc without its asyncio half, for the daemon: its servers and channels are synchronous, and what `import grpc`
loads beside them is a MiB that stays for as long as the agent lives."""

import sys
from types import ModuleType

_AIO = "grpc.aio"


def load() -> None:
    """Load grpc, its asyncio half left out. Whoever imports ``grpc.aio`` later gets it whole; where grpc was
    loaded before, nothing changes."""
    if "grpc" in sys.modules:
        return
    sys.modules[_AIO] = ModuleType(_AIO)
    try:
        import grpc
    finally:
        del sys.modules[_AIO]
    if hasattr(grpc, "aio"):
        del grpc.aio
