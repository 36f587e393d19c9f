"""Slack, an incoming webhook. A message cannot be changed later: its end is a message of its own."""

import json
from typing import Any

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.web import Web
from gpuwarden.adapters.sinks.wording import cut, lines, subject
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import SlackConfig
from gpuwarden.model.oncall import Notice, Receipt

HEADER_MAX_CHARS = 150
SECTION_MAX_CHARS = 3000


class SlackSink:
    """Taken when the answer is 2xx."""

    def __init__(self, cfg: SlackConfig, secrets: Secrets, clock: Clock) -> None:
        self._cfg = cfg
        self._web = Web.of(cfg, secrets, clock)

    def deliver(self, notice: Notice) -> Receipt:
        """One POST."""
        body = json.dumps(message(notice)).encode("ascii")
        headers = {"Content-Type": "application/json"}
        return Receipt(text=self._web.post(self._cfg.url, body, headers, self._cfg.timeout_s))


def message(notice: Notice) -> dict[str, Any]:
    """Blocks of plain text, in which nothing of a stranger's name is a link, a mention or a format."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _text(cut(subject(notice), HEADER_MAX_CHARS))}
    ]
    blocks += [
        {"type": "section", "text": _text(cut("\n".join(part), SECTION_MAX_CHARS))}
        for part in _parts(lines(notice))
    ]
    return {"text": escaped(subject(notice)), "blocks": blocks[:50]}


def _text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _parts(said: list[str]) -> list[list[str]]:
    """An empty line stands between parts."""
    parts: list[list[str]] = [[]]
    for line in said:
        if line:
            parts[-1].append(line)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def escaped(text: str) -> str:
    """For the notification, which is mrkdwn: no mention, no link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
