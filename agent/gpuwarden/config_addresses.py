"""Addresses as people write them: a page on this host, where to listen, a unix socket, a web address."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from gpuwarden.config_types import shown

PORT_MAX = 65_535
# http://127.0.0.1:8000/metrics, http://[::1]:8000/metrics
_LOOPBACK = re.compile(
    r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::(?P<port>[0-9]{1,5}))?/[!-~]{0,480}\Z"
)
# 127.0.0.1:9420, [::1]:9420, 0.0.0.0:0
_LISTEN = re.compile(r"[^\s/]{1,253}:(?P<port>[0-9]{1,5})\Z")
# unix:///var/run/docker.sock
_UNIX = re.compile(r"unix:///.{1,190}\Z", re.DOTALL)
_WEB = re.compile(r"https?://[!-~]{1,2040}\Z")


def parse_loopback_url(value: object) -> str:
    """A page on this very host; ValueError says what was expected."""
    match = _LOOPBACK.match(value) if isinstance(value, str) else None
    if match is None or not 0 < int(match["port"] or 80) <= PORT_MAX:
        raise ValueError(
            f"expected a page on this host such as http://127.0.0.1:8000/metrics, got {shown(value)}"
        )
    return match[0]


def parse_listen(value: object) -> str:
    """``HOST:PORT``; port 0 lets the kernel choose."""
    match = _LISTEN.match(value) if isinstance(value, str) else None
    if match is None or int(match["port"]) > PORT_MAX:
        raise ValueError(f"expected HOST:PORT such as 127.0.0.1:9420, got {shown(value)}")
    return match[0]


def parse_unix_url(value: object) -> str:
    """A socket's path as Docker writes it."""
    match = _UNIX.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a socket such as unix:///run/docker.sock, got {shown(value)}")
    return match[0]


def parse_secret_url(value: object) -> str:
    """A web address that is a password as well: no message holds any part of it."""
    match = _WEB.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected an address such as https://example.org/page, got (hidden)")
    return match[0]


def _before(parse: Any) -> BeforeValidator:
    return BeforeValidator(parse)


LoopbackUrl = Annotated[str, _before(parse_loopback_url)]
ListenAddress = Annotated[str, _before(parse_listen)]
UnixUrl = Annotated[str, _before(parse_unix_url)]
SecretUrl = Annotated[str, _before(parse_secret_url)]
