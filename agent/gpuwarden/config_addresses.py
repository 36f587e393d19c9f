"""Addresses as people write them: a page on this host, where to listen, a unix socket, a web address; and
where a secret lies, for no secret stands in a configuration."""

import re
from datetime import datetime, time
from typing import Annotated, Any

from pydantic import BeforeValidator

from gpuwarden.config_types import shown

PORT_MAX = 65_535
PLACES_MAX = 8
# http://127.0.0.1:8000/metrics, http://[::1]:8000/metrics
_LOOPBACK = re.compile(
    r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::(?P<port>[0-9]{1,5}))?/[!-~]{0,480}\Z"
)
# 127.0.0.1:9420, [::1]:9420, 0.0.0.0:0
_LISTEN = re.compile(r"[^\s/]{1,253}:(?P<port>[0-9]{1,5})\Z")
# unix:///var/run/docker.sock
_UNIX = re.compile(r"unix:///.{1,190}\Z", re.DOTALL)
# https://alerts.example.org:9093/prefix; a user, a password or a query in it would be a secret
_WEB = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[A-Za-z0-9._~/%-]{0,480})?\Z"
)
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
# postgresql://gpuwarden@db.example:5432/fleet?sslmode=verify-full; a password in it would be a secret
_DATABASE = re.compile(
    r"postgres(?:ql)?://(?:[A-Za-z0-9._~-]{1,63}@)?[A-Za-z0-9._~:\[\]-]{0,253}"
    r"/[A-Za-z0-9._~-]{0,63}(?:\?(?!.*password)[A-Za-z0-9._~=&/%-]{1,480})?\Z"
)
# credential:pagerduty-key (systemd: LoadCredential=pagerduty-key:/etc/gpuwarden/pagerduty-key)
_CREDENTIAL = re.compile(r"credential:(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})\Z")
# file:/etc/gpuwarden/slack-url
_SECRET_FILE = re.compile(r"file:(?P<path>/[^\x00-\x1f\x7f]{1,1000})\Z")
# 02:00, 23:59
_TIME_OF_DAY = re.compile(r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])\Z")
# ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
_POLICY_KEY = re.compile(r"ed25519:[A-Za-z0-9+/]{43}=\Z")
SECRET_FORM = "credential:NAME or file:/PATH"


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


def parse_optional_listen(value: object) -> str | None:
    """``HOST:PORT``, or ``none`` for a door that is not to be there."""
    return None if value is None or value == "none" else parse_listen(value)


def parse_unix_url(value: object) -> str:
    """A socket's path as Docker writes it."""
    match = _UNIX.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a socket such as unix:///run/docker.sock, got {shown(value)}")
    return match[0]


def parse_secret(value: object) -> str:
    """Where a secret lies. What stands there instead may be the secret itself: no message holds it."""
    if isinstance(value, str) and (_CREDENTIAL.match(value) or _SECRET_FILE.match(value)):
        return value
    raise ValueError(f"expected {SECRET_FORM} (a secret does not stand here), got (hidden)")


def parse_web(value: object) -> str:
    """A web address that tells no secret, or where one lies that does."""
    if isinstance(value, str):
        if _CREDENTIAL.match(value) or _SECRET_FILE.match(value):
            return value
        match = _WEB.match(value)
        if match is not None and 0 < int(match["port"] or 80) <= PORT_MAX:
            return value
    raise ValueError(
        "expected an address such as https://alerts.example.org:9093 without user, password or query, "
        f"or where one lies, {SECRET_FORM}; got (hidden)"
    )


def parse_database(value: object) -> str:
    """An address of PostgreSQL without a password, or where one lies that has one."""
    patterns = (_CREDENTIAL, _SECRET_FILE, _DATABASE)
    if isinstance(value, str) and any(pattern.match(value) for pattern in patterns):
        return value
    raise ValueError(
        "expected an address such as postgresql://gpuwarden@db.example/fleet without a password, or where "
        f"one lies, {SECRET_FORM}; got (hidden)"
    )


def parse_hook(value: object) -> str:
    """Where the address of a webhook lies, for it is a password as well; on this host, the address."""
    if isinstance(value, str):
        if _CREDENTIAL.match(value) or _SECRET_FILE.match(value):
            return value
        match = _WEB.match(value)
        if (
            match is not None
            and match["host"] in LOOPBACK_HOSTS
            and 0 < int(match["port"] or 80) <= PORT_MAX
        ):
            return value
    raise ValueError(
        f"expected {SECRET_FORM} (the address is a secret), or one of this host such as "
        "http://127.0.0.1:8080/page; got (hidden)"
    )


def parse_moment(value: object) -> float:
    """Unix seconds of a date and time with its zone; ValueError says what was expected."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value < 2**33:
            return float(value)
    elif isinstance(value, str):
        try:
            return parse_moment(datetime.fromisoformat(value))
        except ValueError:
            pass
    got = value.isoformat() if isinstance(value, datetime) else shown(value)
    raise ValueError(f"expected a time with its zone such as 2026-03-01T22:00:00Z, got {got}")


def parse_time_of_day(value: object) -> str:
    """``HH:MM`` of a day in UTC; ValueError says what was expected."""
    text = value.strftime("%H:%M") if isinstance(value, time) else value
    if isinstance(text, str) and _TIME_OF_DAY.match(text):
        return text
    raise ValueError(f"expected a time of day in UTC such as 02:00, got {shown(value)}")


def parse_listens(value: object) -> tuple[str, ...]:
    """One ``HOST:PORT``, or a list of several; ValueError says what was expected."""
    listed = value if isinstance(value, list | tuple) else [value]
    found = tuple(parse_listen(each) for each in listed)
    if len(found) > PLACES_MAX or len(set(found)) < len(found):
        raise ValueError(f"expected up to {PLACES_MAX} different HOST:PORT, got {shown(value)}")
    return found


def parse_policy_key(value: object) -> str:
    """A public key that policies are signed with."""
    if isinstance(value, str) and _POLICY_KEY.match(value):
        return value
    raise ValueError(
        f"expected a public key such as gpuwarden policy keygen prints, got {shown(value)}"
    )


def _before(parse: Any) -> BeforeValidator:
    return BeforeValidator(parse)


LoopbackUrl = Annotated[str, _before(parse_loopback_url)]
ListenAddresses = Annotated[tuple[str, ...], _before(parse_listens)]
ListenAddress = Annotated[str, _before(parse_listen)]
OptionalListen = Annotated[str | None, _before(parse_optional_listen)]
UnixUrl = Annotated[str, _before(parse_unix_url)]
SecretRef = Annotated[str, _before(parse_secret)]
WebAddress = Annotated[str, _before(parse_web)]
DatabaseAddress = Annotated[str, _before(parse_database)]
HookAddress = Annotated[str, _before(parse_hook)]
Moment = Annotated[float, _before(parse_moment)]
PolicyKey = Annotated[str, _before(parse_policy_key)]
TimeOfDay = Annotated[str, _before(parse_time_of_day)]
