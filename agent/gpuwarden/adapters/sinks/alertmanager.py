"""Alertmanager, API v2: POST /api/v2/alerts to every replica; they agree among themselves.

What an alert is, is its labels: nothing stands in them that changes while it lasts, and no id of an event.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gpuwarden.adapters.deadline import Pending
from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.web import Reply, Web, accepted
from gpuwarden.adapters.sinks.wording import cut, lines, plain
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import AlertmanagerConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.oncall import Notice, Reason, Receipt

LABEL_MAX_CHARS = 200
TEXT_MAX_CHARS = 6000
LIVES = 4
"""An alert ends by itself when it was not sent again for so many times ``resend_s`` (Prometheus' own)."""
PATH = "/api/v2/alerts"


class AlertmanagerSink:
    """Delivered when one replica has it; those that have not are named in the receipt."""

    def __init__(self, cfg: AlertmanagerConfig, secrets: Secrets, clock: Clock) -> None:
        self._cfg = cfg
        self._secrets = secrets
        self._web = Web.of(cfg, secrets, clock)

    def deliver(self, notice: Notice) -> Receipt:
        """To all replicas at once, so that one that hangs does not keep the others waiting."""
        body = json.dumps(alerts(notice, self._cfg.resend_s)).encode("ascii")
        headers = {"Content-Type": "application/json"}
        hidden = []
        if self._cfg.token is not None:
            hidden.append(self._secrets.read(self._cfg.token))
            headers["Authorization"] = f"Bearer {hidden[0]}"
        begun: list[Pending[Reply] | GpuwardenError] = []
        for address in self._cfg.urls:
            try:
                url = self._secrets.resolve(address).rstrip("/") + PATH
                begun.append(self._web.begin(url, body, headers, self._cfg.timeout_s))
            except GpuwardenError as error:
                begun.append(error)
        failed: list[tuple[str, GpuwardenError]] = []
        for number, pending in enumerate(begun, 1):
            try:
                if isinstance(pending, GpuwardenError):
                    raise pending
                accepted(pending.wait(self._cfg.timeout_s), hidden)
            except GpuwardenError as error:
                failed.append((f"replica {number}: {error}", error))
        return self._concluded(failed)

    def _concluded(self, failed: list[tuple[str, GpuwardenError]]) -> Receipt:
        count = len(self._cfg.urls)
        missed = "; ".join(text for text, _ in failed)
        if len(failed) < count:
            return Receipt(text=f"{count - len(failed)} of {count} replicas", missed=missed)
        errors = [error for _, error in failed]
        if all(isinstance(error, Refused) for error in errors):
            raise Refused(missed)
        waits = [e.retry_after_s for e in errors if isinstance(e, Unavailable) and e.retry_after_s]
        raise Unavailable(missed, retry_after_s=min(waits, default=None))


def alerts(notice: Notice, resend_s: float) -> list[dict[str, Any]]:
    """The alert as it is now; under a milder severity it had before, it is over."""
    brief = notice.brief
    starts = min(brief.opened_wall, notice.wall)
    is_over = notice.is_resolved and not notice.is_news  # news has to be seen before it ends
    ended = notice.wall if brief.closed_wall is None else min(brief.closed_wall, notice.wall)
    lives_until = max(ended, starts) if is_over else notice.wall + LIVES * resend_s
    severities = notice.severities or (notice.severity,)
    return [
        {
            "labels": labels(notice, severity),
            "annotations": _annotations(notice),
            "startsAt": _time(starts),
            "endsAt": _time(
                lives_until if severity == severities[-1] else max(notice.wall, starts)
            ),
        }
        for severity in severities
    ]


def labels(notice: Notice, severity: str) -> Mapping[str, str]:
    """What makes the alert this one; an empty label is none."""
    brief = notice.brief
    word = brief.fault or brief.rule or "page"
    found = {
        "alertname": "Gpuwarden" + _camel(word),
        "node": notice.host,
        "severity": severity,
        "rule": brief.rule,
        "fault": brief.fault,
        "gpu": brief.device,
        "tenant": brief.tenant_name or brief.tenant,
        "tenant_class": brief.tenant_class,
        "subject": brief.subject,
    }
    if notice.folded_count or notice.reason is Reason.TEST:
        found["subject"] = notice.key
    return {name: cut(plain(text), LABEL_MAX_CHARS) for name, text in found.items() if text.strip()}


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^a-zA-Z0-9]+", word))


def _annotations(notice: Notice) -> Mapping[str, str]:
    said = {
        "summary": plain(notice.brief.summary),
        "description": "\n".join(lines(notice)),
        "first_steps": "\n".join(plain(line) for line in notice.first_steps),
        "incident": notice.brief.incident,
        "more": plain(notice.more),
        "acknowledged_by": plain(notice.acked_by),
    }
    return {name: cut(text, TEXT_MAX_CHARS) for name, text in said.items() if text.strip()}


def _time(wall: float) -> str:
    """``2026-03-01T22:00:00.000Z`` (RFC 3339)."""
    at = datetime.fromtimestamp(min(max(wall, 0.0), 2**33), UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
