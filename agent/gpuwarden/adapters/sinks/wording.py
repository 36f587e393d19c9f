"""A message in words, and as a document for programs. Names of tenants are text of strangers."""

from typing import Any

from gpuwarden.model.oncall import Notice, Reason

SUBJECT_MAX_CHARS = 64
"""What the lock screen of a phone shows."""
DOCUMENT_SCHEMA = 1

_TAGS = {
    Reason.RESOLVED: "OVER",
    Reason.ACKNOWLEDGED: "ACK",
    Reason.REPEAT: "STILL",
    Reason.ESCALATED: "UP",
    Reason.TEST: "TEST",
}
_EVENTS = {
    Reason.RESOLVED: "resolve",
    Reason.ACKNOWLEDGED: "acknowledge",
    Reason.TEST: "test",
}


def plain(text: str) -> str:
    """One line of text without control, escape and direction characters, and that UTF-8 can say."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)


def subject(notice: Notice) -> str:
    """``CRIT node-1: hog cannot be ended`` or ``CRIT OVER node-1: ...``; short."""
    words = [notice.severity[:4].upper()]
    if notice.reason in _TAGS:
        words.append(_TAGS[notice.reason])
    text = f"{' '.join(words)} {notice.host}: {notice.brief.summary}"
    return cut(plain(text), SUBJECT_MAX_CHARS)


def cut(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def lines(notice: Notice) -> list[str]:
    """The whole message for people, one line each: an empty one stands before each part."""
    brief = notice.brief
    said = [brief.summary]
    if notice.is_resolved:
        over = f"It is over: {brief.outcome or 'nothing of it stands any more'}."
        said.append(over + (" Nobody could be told before." if notice.is_news else ""))
    elif notice.reason is Reason.REPEAT:
        said.append("It still stands, and nobody has acknowledged it.")
    elif notice.reason is Reason.ESCALATED:
        said.append(f"Escalation step {notice.number}: nobody has acknowledged it, or it is worse.")
    elif notice.reason is Reason.ACKNOWLEDGED:
        said.append(f"{notice.acked_by} has it in hand.")
    if notice.is_flapping and not notice.is_resolved:
        said.append("It comes and goes: further ones are held back until it is calmer.")
    said += ["", *_facts(notice)]
    for title, part in (
        ("Incidents", notice.folded),
        ("Evidence", tuple(f"{name}: {text}" for name, text in brief.evidence)),
        ("Done", brief.done),
        ("Withheld", brief.withheld),
        ("First steps", tuple(f"{n}. {s}" for n, s in enumerate(notice.first_steps, 1))),
    ):
        if part:
            said += ["", f"{title}:", *(f"  {line}" for line in part)]
    said += ["", f"More: {notice.more}"]
    return [plain(line) for line in said]


def _facts(notice: Notice) -> list[str]:
    brief = notice.brief
    facts = [f"Host: {notice.host}", f"Severity: {notice.severity}"]
    if brief.device:
        facts.append(f"Device: {brief.device}")
    if brief.tenant:
        words = ", ".join(w for w in (brief.runtime, brief.tenant_class) if w)
        name = brief.tenant_name or brief.tenant
        facts.append(f"Tenant: {name}" + (f" ({words})" if words else ""))
    if brief.subject:
        facts.append(f"About: {brief.subject}")
    facts.append(f"Incident: {brief.incident}")
    return facts


def document(notice: Notice) -> dict[str, Any]:
    """The message for programs. New keys may come; ``schema`` changes when old ones change."""
    brief = notice.brief
    return {
        "schema": DOCUMENT_SCHEMA,
        "id": notice.id,
        "key": notice.key,
        "event": _EVENTS.get(notice.reason, "trigger"),
        "reason": notice.reason.value,
        "number": notice.number,
        "is_news": notice.is_news,
        "is_flapping": notice.is_flapping,
        "wall": round(notice.wall, 3),
        "host": notice.host,
        "incident": brief.incident,
        "severity": notice.severity,
        "subject": subject(notice),
        "summary": plain(brief.summary),
        "rule": brief.rule,
        "fault": brief.fault,
        "about": plain(brief.subject),
        "device": brief.device or None,
        "tenant": _tenant(notice),
        "evidence": {plain(name): plain(text) for name, text in brief.evidence},
        "done": [plain(line) for line in brief.done],
        "withheld": [plain(line) for line in brief.withheld],
        "first_steps": [plain(line) for line in notice.first_steps],
        "more": plain(notice.more),
        "opened_wall": round(brief.opened_wall, 3),
        "closed_wall": None if brief.closed_wall is None else round(brief.closed_wall, 3),
        "outcome": plain(brief.outcome),
        "acked_by": plain(notice.acked_by) or None,
        "folded": [plain(line) for line in notice.folded],
        "folded_count": notice.folded_count,
    }


def _tenant(notice: Notice) -> dict[str, str] | None:
    brief = notice.brief
    if not brief.tenant:
        return None
    return {
        "id": plain(brief.tenant),
        "name": plain(brief.tenant_name),
        "class": plain(brief.tenant_class),
        "runtime": plain(brief.runtime),
    }
