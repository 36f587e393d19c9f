"""Sinks as the configuration names them."""

from collections.abc import Mapping

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.alertmanager import AlertmanagerSink
from gpuwarden.adapters.sinks.heartbeat import WebHeartbeat
from gpuwarden.adapters.sinks.pagerduty import PagerdutySink
from gpuwarden.adapters.sinks.program import ProgramSink
from gpuwarden.adapters.sinks.slack import SlackSink
from gpuwarden.adapters.sinks.webhook import WebhookSink
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.ports_oncall import Heartbeat, Sink


def make_sinks(cfg: OncallConfig, secrets: Secrets, clock: Clock, host: str) -> Mapping[str, Sink]:
    """Every sink by its name. Nothing is asked or read before the first message."""
    made: dict[str, Sink] = {}
    made.update({c.name: AlertmanagerSink(c, secrets, clock) for c in cfg.alertmanager})
    made.update({c.name: PagerdutySink(c, secrets, clock) for c in cfg.pagerduty})
    made.update({c.name: WebhookSink(c, secrets, clock) for c in cfg.webhook})
    made.update({c.name: SlackSink(c, secrets, clock) for c in cfg.slack})
    made.update({c.name: ProgramSink(c, clock) for c in cfg.exec})
    if cfg.email:
        from gpuwarden.adapters.sinks.mail import MailSink  # a host without mail does without it

        made.update({c.name: MailSink(c, secrets, clock, host) for c in cfg.email})
    return made


def make_heartbeat(
    cfg: OncallConfig, secrets: Secrets, clock: Clock, host: str
) -> Heartbeat | None:
    """The dead man's switch, where one is set."""
    if cfg.heartbeat_url is None:
        return None
    return WebHeartbeat(cfg.heartbeat_url, secrets, clock, host)
