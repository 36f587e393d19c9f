"""Settings of on-call: whom to tell, how, after how long, and when to be quiet.

No secret stands in any of them: ``credential:NAME`` is a systemd credential (LoadCredential=), ``file:/PATH``
a file that only its owner may read.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpuwarden.config_addresses import HookAddress, Moment, SecretRef, TimeOfDay, WebAddress
from gpuwarden.config_types import Seconds, Section, shown

# pagerduty, slack-2
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")
# oncall@example.org
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,252}\Z")
# mail.example.org, 192.0.2.1, 2001:db8::1
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}\Z")


def parse_name(value: object) -> str:
    """A sink's name; ValueError says what was expected."""
    if isinstance(value, str) and _NAME.match(value):
        return value
    raise ValueError(
        f"expected a short name of lower-case letters, digits, - and _, got {shown(value)}"
    )


def parse_mail(value: object) -> str:
    """A plain address, without a name; ValueError says what was expected."""
    if isinstance(value, str) and _MAIL.match(value):
        return value
    raise ValueError(f"expected an address such as oncall@example.org, got {shown(value)}")


def parse_host(value: object) -> str:
    """A server's name or number, without its port; ValueError says what was expected."""
    if isinstance(value, str) and _HOST.match(value):
        return value
    raise ValueError(f"expected a host such as mail.example.org, got {shown(value)}")


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("expected at least one, got an empty array")
    return values


SinkName = Annotated[str, BeforeValidator(parse_name)]
MailAddress = Annotated[str, BeforeValidator(parse_mail)]
HostName = Annotated[str, BeforeValidator(parse_host)]
Severity = Literal["info", "warning", "error", "critical"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

SINKS_MAX = 32
KINDS = ("alertmanager", "pagerduty", "webhook", "slack", "email", "exec")


class SinkConfig(Section):
    """What all sinks have."""

    name: SinkName
    min_severity: Severity = "warning"
    """Milder ones are not sent there."""
    timeout_s: Seconds = Field(default=10.0, gt=0, le=60)


class WebSinkConfig(SinkConfig):
    """What sinks have that are reached by HTTP. Nothing of it is taken from the environment."""

    proxy: WebAddress | None = None
    """An HTTP proxy, for a host without a way out of its own."""
    ca_file: str | None = Field(default=None, max_length=4096)
    """Certificates to trust instead of the system's."""


class AlertmanagerConfig(WebSinkConfig):
    """Alertmanager, API v2: every replica is told, and told again until it is over."""

    name: SinkName = "alertmanager"
    urls: Annotated[tuple[WebAddress, ...], AfterValidator(_some)] = Field(max_length=16)
    token: SecretRef | None = None
    """Bearer token."""
    resend_s: Seconds = Field(default=60.0, ge=1, le=3600)
    """An alert that is not sent again for four times as long ends by itself."""


class PagerdutyConfig(WebSinkConfig):
    """PagerDuty, Events API v2."""

    name: SinkName = "pagerduty"
    url: WebAddress = "https://events.pagerduty.com/v2/enqueue"
    routing_key: SecretRef


class WebhookConfig(WebSinkConfig):
    """Any receiver of JSON; with ``secret`` every request is signed (HMAC-SHA256)."""

    name: SinkName = "webhook"
    url: HookAddress
    secret: SecretRef | None = None


class SlackConfig(WebSinkConfig):
    """Slack, an incoming webhook."""

    name: SinkName = "slack"
    url: HookAddress


class EmailConfig(SinkConfig):
    """E-mail through a mail server."""

    name: SinkName = "email"
    host: HostName
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    """``starttls`` is demanded: a server that offers none gets nothing."""
    ca_file: str | None = Field(default=None, max_length=4096)
    user: str | None = Field(default=None, min_length=1, max_length=256)
    password: SecretRef | None = None
    sender: MailAddress = Field(alias="from")
    to: Annotated[tuple[MailAddress, ...], AfterValidator(_some)] = Field(max_length=32)

    @model_validator(mode="after")
    def _right(self) -> "EmailConfig":
        if self.user is not None and not (self.user.isascii() and self.user.isprintable()):
            raise ValueError("user: expected printable ASCII")
        if (self.user is None) is not (self.password is None):
            raise ValueError("expected user and password together, or neither")
        if self.password is not None and self.tls == "none":
            raise ValueError(
                'expected tls "starttls" or "implicit": a password is not sent in clear'
            )
        return self


class ExecConfig(SinkConfig):
    """The operator's own command: no shell, the message as JSON on its standard input."""

    name: SinkName = "exec"
    command: Annotated[tuple[str, ...], AfterValidator(_some)] = Field(max_length=64)

    @model_validator(mode="after")
    def _absolute(self) -> "ExecConfig":
        if not self.command[0].startswith("/"):
            raise ValueError("command: expected the absolute path of a program and its arguments")
        if any("\0" in word for word in self.command):
            raise ValueError("command: expected words without NUL")
        return self


class StepConfig(Section):
    """Who is told next, where nobody has acknowledged for so long."""

    after: Seconds
    sinks: Annotated[tuple[SinkName, ...], AfterValidator(_some)] = Field(max_length=SINKS_MAX)


class WindowConfig(Section):
    """Maintenance: nobody is woken. Once (``start`` to ``end``) or on each of ``days`` from ``from`` to
    ``to`` (UTC; ``to`` may be on the next day). Without matchers it is for all."""

    name: str = Field(min_length=1, max_length=64)
    reason: str = Field(default="", max_length=200)
    start: Moment | None = None
    end: Moment | None = None
    days: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    begin: TimeOfDay | None = Field(default=None, alias="from")
    to: TimeOfDay | None = None
    tenant: str = Field(default="", max_length=256)
    device: str = Field(default="", max_length=256)
    rule: str = Field(default="", max_length=256)

    @model_validator(mode="after")
    def _whole(self) -> "WindowConfig":
        once, weekly = (self.start, self.end), (self.begin, self.to)
        if once.count(None) + weekly.count(None) != 2 or once.count(None) == 1:
            raise ValueError("expected start and end, or from and to")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("expected an end after the start")
        return self


class OncallConfig(Section):
    """Who is told. Without a sink, the log alone."""

    repeat_s: Seconds = Field(default=1800.0, ge=1)
    """What nobody acknowledged is told again after this long."""
    unreached_s: Seconds = Field(default=300.0)
    """Nobody could be told for so long: the agent is degraded, and status says so."""
    storm_notices: int = Field(default=10, ge=1, le=1000)
    """More than so many messages through one sink ..."""
    storm_window_s: Seconds = Field(default=300.0, ge=1)
    """... within this long become one."""
    flap_count: int = Field(default=4, ge=2, le=100)
    """The same thing coming more often than this ..."""
    flap_window_s: Seconds = Field(default=3600.0, ge=1)
    """... within this long is held back until it has become calmer."""
    heartbeat_url: HookAddress | None = None
    """Told regularly while somebody could be reached (a dead man's switch); silence means trouble."""
    heartbeat_s: Seconds = Field(default=60.0, ge=1)
    alertmanager: tuple[AlertmanagerConfig, ...] = ()
    pagerduty: tuple[PagerdutyConfig, ...] = ()
    webhook: tuple[WebhookConfig, ...] = ()
    slack: tuple[SlackConfig, ...] = ()
    email: tuple[EmailConfig, ...] = ()
    exec: tuple[ExecConfig, ...] = ()
    step: tuple[StepConfig, ...] = Field(default=(), max_length=16)
    """Without any, every sink is told at once."""
    window: tuple[WindowConfig, ...] = Field(default=(), max_length=64)

    @model_validator(mode="after")
    def _fits(self) -> "OncallConfig":
        names = [sink.name for _, sink in self.sinks]
        if len(names) > SINKS_MAX:
            raise ValueError(f"expected at most {SINKS_MAX} sinks")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f'two sinks are named "{twice[0]}": give each a name of its own')
        for number, step in enumerate(self.step):
            for name in step.sinks:
                if name not in names:
                    known = ", ".join(names) or "there is none"
                    raise ValueError(f'step[{number}]: no sink is named "{name}" (known: {known})')
        return self

    @property
    def sinks(self) -> "tuple[tuple[str, SinkConfig], ...]":
        """Every sink with its kind."""
        return tuple((kind, sink) for kind in KINDS for sink in getattr(self, kind))

    @property
    def steps(self) -> tuple[StepConfig, ...]:
        """The escalation in order of time; one step at once where none is said."""
        if self.step:
            return tuple(sorted(self.step, key=lambda step: step.after))
        names = tuple(sink.name for _, sink in self.sinks)
        return (StepConfig(after=0.0, sinks=names),) if names else ()
