"""PagerDuty, Events API v2: trigger, acknowledge and resolve under one dedup_key an incident."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.web import Web
from gpuwarden.adapters.sinks.wording import cut, document, plain, subject
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import PagerdutyConfig
from gpuwarden.model.oncall import Notice, Reason, Receipt

KEY_MAX_CHARS = 255
SUMMARY_MAX_CHARS = 1024
_DETAILS = (
    *("reason", "incident", "tenant", "evidence", "done", "withheld", "first_steps", "more"),
    *("outcome", "folded"),
)


class PagerdutySink:
    """An event is taken when PagerDuty has queued it (202)."""

    def __init__(self, cfg: PagerdutyConfig, secrets: Secrets, clock: Clock) -> None:
        self._cfg = cfg
        self._secrets = secrets
        self._web = Web.of(cfg, secrets, clock)

    def deliver(self, notice: Notice) -> Receipt:
        """What is over before it could be told is triggered and resolved: it stands on record."""
        key = self._secrets.read(self._cfg.routing_key)
        said = ""
        for event in events(notice):
            body = json.dumps({"routing_key": key, **event}).encode("ascii")
            said = self._web.post(
                self._cfg.url,
                body,
                {"Content-Type": "application/json"},
                self._cfg.timeout_s,
                hidden=[key],
            )
        return Receipt(text=said)


def events(notice: Notice) -> list[dict[str, Any]]:
    """The events of a message, without the routing key."""
    if notice.reason is Reason.ACKNOWLEDGED:
        return [{"event_action": "acknowledge", "dedup_key": dedup_key(notice)}]
    trigger = {
        "event_action": "trigger",
        "dedup_key": dedup_key(notice),
        "client": "gpuwarden",
        "payload": _payload(notice),
    }
    if notice.reason is not Reason.RESOLVED:
        return [trigger]
    resolve = {"event_action": "resolve", "dedup_key": dedup_key(notice)}
    return [trigger, resolve] if notice.is_news else [resolve]


def dedup_key(notice: Notice) -> str:
    """The same from the first message of an incident to its last."""
    key = f"gpuwarden/{plain(notice.key)}"
    if len(key) <= KEY_MAX_CHARS:
        return key
    return f"gpuwarden/{hashlib.sha256(key.encode()).hexdigest()}"


def _payload(notice: Notice) -> dict[str, Any]:
    brief = notice.brief
    whole = document(notice)
    payload: dict[str, Any] = {
        "summary": cut(f"{subject(notice)}", SUMMARY_MAX_CHARS),
        "source": cut(plain(notice.host), 255) or "unknown",
        "severity": notice.severity,
        "timestamp": datetime.fromtimestamp(min(max(brief.opened_wall, 0.0), 2**33), UTC).isoformat(
            timespec="milliseconds"
        ),
        "class": brief.fault or brief.rule or "page",
        "custom_details": {
            "what": whole["summary"],
            **{name: whole[name] for name in _DETAILS if whole[name]},
        },
    }
    if brief.device:
        payload["component"] = plain(brief.device)
    if brief.tenant:
        payload["group"] = plain(brief.tenant_name or brief.tenant)
    return payload
