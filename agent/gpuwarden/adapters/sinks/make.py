"""Sinks as the configuration names them; what is not asked for is not imported."""

from collections.abc import Mapping

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.ports_oncall import Heartbeat, Sink


def make_sinks(cfg: OncallConfig, secrets: Secrets, clock: Clock, host: str) -> Mapping[str, Sink]:
    """Every sink by its name. Nothing is asked or read before the first message."""
    made: dict[str, Sink] = {}
    if cfg.alertmanager:
        from gpuwarden.adapters.sinks.alertmanager import AlertmanagerSink

        made.update({c.name: AlertmanagerSink(c, secrets, clock) for c in cfg.alertmanager})
    if cfg.pagerduty:
        from gpuwarden.adapters.sinks.pagerduty import PagerdutySink

        made.update({c.name: PagerdutySink(c, secrets, clock) for c in cfg.pagerduty})
    if cfg.webhook:
        from gpuwarden.adapters.sinks.webhook import WebhookSink

        made.update({c.name: WebhookSink(c, secrets, clock) for c in cfg.webhook})
    if cfg.slack:
        from gpuwarden.adapters.sinks.slack import SlackSink

        made.update({c.name: SlackSink(c, secrets, clock) for c in cfg.slack})
    if cfg.exec:
        from gpuwarden.adapters.sinks.program import ProgramSink

        made.update({c.name: ProgramSink(c, clock) for c in cfg.exec})
    if cfg.email:
        from gpuwarden.adapters.sinks.mail import MailSink

        made.update({c.name: MailSink(c, secrets, clock, host) for c in cfg.email})
    return made


def make_heartbeat(
    cfg: OncallConfig, secrets: Secrets, clock: Clock, host: str
) -> Heartbeat | None:
    """The dead man's switch, where one is set."""
    if cfg.heartbeat_url is None:
        return None
    from gpuwarden.adapters.sinks.heartbeat import WebHeartbeat

    return WebHeartbeat(cfg.heartbeat_url, secrets, clock, host)
