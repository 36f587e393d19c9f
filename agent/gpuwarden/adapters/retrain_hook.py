"""Whoever trains, asked once a decision: by HTTP, or by a command of the operator's own.

``deliver`` raises what on-call's sinks raise: ``Unavailable`` may be tried again under the same id, ``Refused`` not. A
receiver takes each ``X-Gpuwarden-Decision`` once: one that is sent again after a lost answer bears the same.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.program import FINAL
from gpuwarden.adapters.sinks.web import Web
from gpuwarden.adapters.sinks.webhook import signature
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import Clock
from gpuwarden.config_retrain import RetrainConfig, RetrainExecConfig, RetrainWebhookConfig
from gpuwarden.errors import Refused, Unavailable


class Hook(Protocol):
    """One receiver."""

    def deliver(self, ident: str, evidence: Mapping[str, Any]) -> str:
        """How it was taken, in a word. Blocks, up to its deadline."""
        ...


def make_hook(cfg: RetrainConfig, secrets: Secrets, clock: Clock) -> Hook | None:
    """``None``: nobody is set, and people are told."""
    if cfg.webhook is not None:
        return WebHook(cfg.webhook, secrets, clock)
    if cfg.exec is not None:
        return ProgramHook(cfg.exec, clock)
    return None


class WebHook:
    """Taken when the answer is 2xx."""

    def __init__(self, cfg: RetrainWebhookConfig, secrets: Secrets, clock: Clock) -> None:
        self._cfg, self._secrets, self._clock = cfg, secrets, clock
        self._web = Web.of(cfg, secrets, clock)

    def deliver(self, ident: str, evidence: Mapping[str, Any]) -> str:
        body = json.dumps(evidence, allow_nan=False).encode("ascii")
        headers = {"Content-Type": "application/json", "X-Gpuwarden-Decision": ident}
        hidden = []
        if self._cfg.secret is not None:
            secret = self._secrets.read(self._cfg.secret)
            hidden.append(secret)
            timestamp = str(int(self._clock.wall()))
            headers["X-Gpuwarden-Timestamp"] = timestamp
            headers["X-Gpuwarden-Signature"] = f"v1={signature(secret, timestamp, body)}"
        if self._cfg.token is not None:
            hidden.append(self._secrets.read(self._cfg.token))
            headers["Authorization"] = f"Bearer {hidden[-1]}"
        return self._web.post(self._cfg.url, body, headers, self._cfg.timeout_s, hidden)


class ProgramHook:
    """Exit status 0: taken. 64, 65, 77, 78: refused. Anything else, and one that is killed past its deadline with all
    it started, may be tried again. It runs under the aggregator's own user; what it writes goes nowhere."""

    def __init__(self, cfg: RetrainExecConfig, clock: Clock) -> None:
        self._tool = Tool(name=cfg.command[0], clock=clock, timeout_s=cfg.timeout_s)
        self._args = cfg.command[1:]

    def deliver(self, ident: str, evidence: Mapping[str, Any]) -> str:
        said = json.dumps(evidence, allow_nan=False).encode("ascii") + b"\n"
        status = self._tool.run(*self._args, said=said).status
        if status in FINAL:
            raise Refused(f"exit status {status}")
        if status != 0:
            raise Unavailable(f"exit status {status}")
        return "exit status 0"
