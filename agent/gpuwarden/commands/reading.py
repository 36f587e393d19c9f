"""How verbs reach the running agent: which socket, for how long."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuwarden.adapters.run_claim import SOCKET_NAME
from gpuwarden.errors import ConfigError

if TYPE_CHECKING:
    from gpuwarden.adapters.node_client import NodeClient
    from gpuwarden.config import Config

DEFAULT_SOCKET = Path("/run/gpuwarden") / SOCKET_NAME


def asks_agent(verb: Callable[..., None]) -> Callable[..., None]:
    """Adds ``--socket`` and ``--timeout`` and hands the verb a function ``connect``."""

    @click.option(
        "--socket",
        "socket_path",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="GPUWARDEN_SOCKET",
        help=f"The agent's socket [{DEFAULT_SOCKET}, or what the configuration says].",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0.1, max=600),
        default=5.0,
        show_default=True,
        help="Seconds to wait for an answer.",
    )
    @functools.wraps(verb)
    def wrapped(*args: Any, socket_path: Path | None, timeout_s: float, **kwargs: Any) -> None:
        def connect() -> "NodeClient":
            # Set before gRPC is loaded: its own notes on stderr are of no use to a person.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            from gpuwarden.adapters.node_client import NodeClient

            return NodeClient(socket_path or _usual_socket(), timeout_s=timeout_s)

        verb(*args, connect=connect, **kwargs)

    return wrapped


def usual_journal() -> Path:
    """Where the agent of this host keeps its journal."""
    return _usual_config().agent.state_dir / "journal"


def _usual_socket() -> Path:
    """Where the configuration of this host puts it, when it is not in the usual place."""
    if DEFAULT_SOCKET.exists():
        return DEFAULT_SOCKET
    return _usual_config().agent.run_dir / SOCKET_NAME


def _usual_config() -> "Config":
    """The configuration of this host; the defaults where it is bad."""
    from gpuwarden.config import Config
    from gpuwarden.config_files import load

    named = os.environ.get("GPUWARDEN_CONFIG")
    try:
        return load(Path(named) if named else None, environ=os.environ).config
    except ConfigError:
        return Config()
