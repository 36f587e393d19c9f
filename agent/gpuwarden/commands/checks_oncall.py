"""The doctor on on-call: whether anybody can be told, and whether what sinks need is there."""

import os
from collections.abc import Iterator
from pathlib import Path

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.commands.checks import Check, Result, others_may_write
from gpuwarden.config_oncall import ExecConfig, OncallConfig, SinkConfig
from gpuwarden.errors import Unavailable

NAME = "on-call"


def check_oncall(cfg: OncallConfig) -> list[Check]:
    """Nothing is sent: ``gpuwarden notify test`` does that."""
    if not cfg.sinks:
        return [
            Check(
                name=NAME,
                result=Result.WARNING,
                seen="no [oncall] sink is set: pages stand in the log alone",
                fix="set one, such as [[oncall.email]] or [[oncall.pagerduty]]; packaging/agent.toml shows all",
            )
        ]
    faults = [fault for _, sink in cfg.sinks for fault in _faults(sink)]
    if faults:
        return [Check(name=NAME, result=Result.FAILED, seen=seen, fix=fix) for seen, fix in faults]
    names = ", ".join(f"{sink.name} ({kind})" for kind, sink in cfg.sinks)
    unread = sorted(
        {where for _, sink in cfg.sinks for where in _secrets(sink) if _is_the_services(where)}
    )
    seen = f"{names}; gpuwarden notify test NAME proves each"
    if unread:
        seen += f" (only the service can read {', '.join(unread)})"
    return [Check(name=NAME, result=Result.OK, seen=seen)]


def _faults(sink: SinkConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with a sink, and what mends it."""
    secrets = Secrets(os.environ)
    for where in _secrets(sink):
        if _is_the_services(where):
            continue
        try:
            secrets.read(where)
        except Unavailable as error:
            seen, _, fix = str(error).partition("; fix: ")
            yield f"sink {sink.name}: {seen}", fix or "put the secret there, readable by root alone"
    if isinstance(sink, ExecConfig):
        program = Path(sink.command[0])
        if not os.access(program, os.X_OK):
            yield (
                f"sink {sink.name}: {program} cannot be run",
                f"chmod 755 {program}, or name another",
            )
        elif others_may_write(program):
            yield (
                f"sink {sink.name}: others than root may change {program}, which the agent runs",
                f"chown root {program}; chmod go-w {program}",
            )


def _secrets(sink: SinkConfig) -> list[str]:
    """Where its secrets lie."""
    said: list[str] = []
    for value in sink.__dict__.values():
        said += [str(each) for each in (value if isinstance(value, tuple) else (value,))]
    return [text for text in said if text.startswith(("credential:", "file:"))]


def _is_the_services(where: str) -> bool:
    return where.startswith("credential:") and "CREDENTIALS_DIRECTORY" not in os.environ
