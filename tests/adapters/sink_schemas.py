"""What receivers of pages publish about the requests they take, as JSON schemas.

PagerDuty: Events API v2, "Send an event". Slack: incoming webhooks, Block Kit reference (header, section, text
object). Alertmanager: api/v2/openapi.yaml, ``postableAlerts``. gpuwarden: its own webhook document, schema 1.
"""

from __future__ import annotations

from typing import Any

import jsonschema

TEXT = {"type": "string"}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}

PAGERDUTY: dict[str, Any] = {
    "type": "object",
    "required": ["routing_key", "event_action"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "client": TEXT,
        "client_url": TEXT,
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": TIME,
                "component": TEXT,
                "group": TEXT,
                "class": TEXT,
                "custom_details": {"type": "object"},
            },
        },
        "links": {"type": "array"},
        "images": {"type": "array"},
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
    "else": {"required": ["dedup_key"]},
}


def _text_object(most: int) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": ["plain_text", "mrkdwn"]},
            "text": {"type": "string", "minLength": 1, "maxLength": most},
            "emoji": {"type": "boolean"},
            "verbatim": {"type": "boolean"},
        },
    }


SLACK: dict[str, Any] = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 40_000},
        "blocks": {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "items": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["type", "text"],
                        "additionalProperties": False,
                        "properties": {
                            "type": {"const": "header"},
                            "text": {
                                "allOf": [
                                    _text_object(150),
                                    {"properties": {"type": {"const": "plain_text"}}},
                                ]
                            },
                        },
                    },
                    {
                        "type": "object",
                        "required": ["type", "text"],
                        "additionalProperties": False,
                        "properties": {"type": {"const": "section"}, "text": _text_object(3000)},
                    },
                ]
            },
        },
    },
}

LABELS = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
    "additionalProperties": {"type": "string", "minLength": 1},
}
ALERTMANAGER: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["labels"],
        "additionalProperties": False,
        "properties": {
            "labels": {**LABELS, "required": ["alertname"]},
            "annotations": LABELS,
            "startsAt": TIME,
            "endsAt": TIME,
            "generatorURL": TEXT,
        },
    },
}

NULLABLE_TEXT = {"type": ["string", "null"]}
LINES = {"type": "array", "items": TEXT}
GPUWARDEN: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "id": {"type": "string", "minLength": 1},
        "key": {"type": "string", "minLength": 1},
        "event": {"enum": ["trigger", "acknowledge", "resolve", "test"]},
        "reason": TEXT,
        "number": {"type": "integer", "minimum": 0},
        "is_news": {"type": "boolean"},
        "is_flapping": {"type": "boolean"},
        "wall": {"type": "number"},
        "host": TEXT,
        "incident": TEXT,
        "severity": {"enum": ["info", "warning", "error", "critical"]},
        "subject": {"type": "string", "maxLength": 64},
        "summary": TEXT,
        "rule": TEXT,
        "fault": TEXT,
        "about": TEXT,
        "device": NULLABLE_TEXT,
        "tenant": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "required": ["id", "name", "class", "runtime"],
            "properties": {"id": TEXT, "name": TEXT, "class": TEXT, "runtime": TEXT},
        },
        "evidence": {"type": "object", "additionalProperties": TEXT},
        "done": LINES,
        "withheld": LINES,
        "first_steps": {**LINES, "minItems": 3, "maxItems": 3},
        "more": TEXT,
        "opened_wall": {"type": "number"},
        "closed_wall": {"type": ["number", "null"]},
        "outcome": TEXT,
        "acked_by": NULLABLE_TEXT,
        "folded": LINES,
        "folded_count": {"type": "integer", "minimum": 0},
    },
}
GPUWARDEN["required"] = list(GPUWARDEN["properties"])

PUBLISHED = {
    "pagerduty": PAGERDUTY,
    "slack": SLACK,
    "alertmanager": ALERTMANAGER,
    "webhook": GPUWARDEN,
    "exec": GPUWARDEN,
}


def check(kind: str, document: Any) -> None:
    """Raises where a receiver of that kind would not take it."""
    jsonschema.validate(document, PUBLISHED[kind])
