"""``gpuwarden``: one command for the daemon and for everything people ask it.

Exit codes: 0 ok, 1 problem found, 2 usage, 3 agent not reachable. Verbs are imported when they are
called: the daemon's own path loads neither tables nor colours.
"""

import importlib
from collections.abc import Mapping

import click

import gpuwarden

VERBS: Mapping[str, str] = {
    "agent": "gpuwarden.commands.agent:agent",
    "aggregator": "gpuwarden.commands.aggregator:aggregator",
    "enroll": "gpuwarden.commands.enroll:enroll",
    "fleet": "gpuwarden.commands.fleet:fleet",
    "policy": "gpuwarden.commands.policy:policy",
    "service": "gpuwarden.commands.service:service",
    "audit": "gpuwarden.commands.audit:audit",
    "authority": "gpuwarden.commands.authority:authority",
    "status": "gpuwarden.commands.status:status",
    "gpus": "gpuwarden.commands.gpus:gpus",
    "tenants": "gpuwarden.commands.tenants:tenants",
    "top": "gpuwarden.commands.top:top",
    "events": "gpuwarden.commands.events:events",
    "incidents": "gpuwarden.commands.incidents:incidents",
    "ready": "gpuwarden.commands.ready:ready",
    "explain": "gpuwarden.commands.explain:explain",
    "ack": "gpuwarden.commands.ack:ack",
    "silence": "gpuwarden.commands.silence:silence",
    "notify": "gpuwarden.commands.notify:notify",
    "cordon": "gpuwarden.commands.acting:cordon",
    "drain": "gpuwarden.commands.acting:drain",
    "uncordon": "gpuwarden.commands.acting:uncordon",
    "set-healthy": "gpuwarden.commands.acting:set_healthy",
    "rollback": "gpuwarden.commands.rollback:rollback",
    "rollout": "gpuwarden.commands.rollout:rollout",
    "experiment": "gpuwarden.commands.experiment:experiment",
    "model": "gpuwarden.commands.model:model",
    "check-config": "gpuwarden.commands.config:check_config",
    "config": "gpuwarden.commands.config:config",
    "doctor": "gpuwarden.commands.doctor:doctor",
    "enable-enforcement": "gpuwarden.commands.enforcement:enable_enforcement",
    "support-bundle": "gpuwarden.commands.bundle:support_bundle",
    "replay": "gpuwarden.commands.replay:replay",
    "simulate": "gpuwarden.sim.commands:simulate",
    "debug": "gpuwarden.commands.debug:debug",
    "version": "gpuwarden.commands.version:version",
}
"""In the order of ``--help``: the daemon, looking, asking why, answering, checking, trying out."""


class Verbs(click.Group):
    """A group whose members are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = VERBS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except ImportError as error:
            return _unavailable(cmd_name, str(error))
        if not isinstance(found, click.Command):
            raise TypeError(f"{place} is no command")
        return found


def _unavailable(verb: str, reason: str) -> click.Command:
    """A verb that this installation lacks something for: listed, and it says what."""

    def fail() -> None:
        raise click.ClickException(f"{verb} cannot run here: {reason}")

    return click.Command(
        verb,
        callback=fail,
        params=[click.Argument(["arguments"], nargs=-1, expose_value=False)],
        context_settings={"ignore_unknown_options": True},
        help=f"Not available here: {reason}",
    )


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 problem found, 2 usage, 3 agent not reachable.",
)
@click.version_option(gpuwarden.__version__, prog_name="gpuwarden")
def main() -> None:
    """Keep a shared GPU host safe: quotas, attribution, eviction, and the reason why."""
