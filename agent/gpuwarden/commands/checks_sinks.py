"""The doctor on the way to each sink: a connection is opened and closed again, and nobody is told anything."""

import os
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.commands.checks import Check, Result
from gpuwarden.config_oncall import (
    AlertmanagerConfig,
    EmailConfig,
    OncallConfig,
    PagerdutyConfig,
    SinkConfig,
    SlackConfig,
    WebhookConfig,
    WebSinkConfig,
)
from gpuwarden.errors import Unavailable

REACH_S = 3.0
NAME = "sinks"


def check_sinks(cfg: OncallConfig) -> list[Check]:
    """One line for all that answer, one for each that does not. A host is not named: it may be a secret."""
    ways = [(sink, place) for _, sink in cfg.sinks for place in _places(sink)]
    if not ways:
        return []
    found: dict[int, str] = {}
    threads = [
        threading.Thread(target=_try, args=(found, number, *place), daemon=True)
        for number, (_, place) in enumerate(ways)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(REACH_S + 1.0)  # a name that is never resolved has no deadline of its own
    checks = [
        Check(
            name=NAME,
            result=Result.WARNING,
            seen=f"sink {sink.name}: no connection to port {port}: {why}",
            fix="look at name service, route and firewall (and proxy, in its section); pages wait on disk",
        )
        for number, (sink, (_, port)) in enumerate(ways)
        if (why := found.get(number, f"no answer within {REACH_S:.0f} s"))
    ]
    good = sorted({sink.name for sink, _ in ways} - {c.seen.split()[1].rstrip(":") for c in checks})
    if good:
        seen = f"{', '.join(good)}: accept connections; gpuwarden notify test NAME sends a message"
        checks.append(Check(name=NAME, result=Result.OK, seen=seen))
    return checks


def _places(sink: SinkConfig) -> Iterator[tuple[str, int]]:
    """Host and port of what the sink talks to first; nothing where that is a secret we may not read."""
    if isinstance(sink, EmailConfig):
        yield sink.host, sink.port
        return
    addresses: tuple[str, ...] = ()
    if isinstance(sink, WebSinkConfig) and sink.proxy is not None:
        addresses = (sink.proxy,)
    elif isinstance(sink, AlertmanagerConfig):
        addresses = sink.urls
    elif isinstance(sink, PagerdutyConfig | WebhookConfig | SlackConfig):
        addresses = (sink.url,)
    secrets = Secrets(os.environ)
    for address in addresses:
        try:
            parts = urlsplit(secrets.resolve(address))
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except (Unavailable, ValueError):
            continue  # the check of on-call says what is wrong with the secret
        if parts.hostname:
            yield parts.hostname, port


def _try(found: dict[int, str], number: int, host: str, port: int) -> None:
    try:
        with socket.create_connection((host, port), timeout=REACH_S):
            found[number] = ""
    except socket.gaierror:
        found[number] = "its name is not known here"
    except OSError as error:
        found[number] = error.strerror or str(error) or "refused"
