"""Messages for the tests of sinks: an ordinary one, and one whose every text is a stranger's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Brief, Notice, Reason

WALL = 1_800_000_000.0
EVIL = (
    'x" <!channel> <https://evil.example|click> & *bold* `code`\r\nBcc: all@evil.example\r\n\r\nBody'
    "\x00\x1b[31m\u202etxt.exe\ud800 {{ .Labels }} \u2028" + "ß" * 300
)


def notice(reason: Reason = Reason.FIRST, **rest: Any) -> Notice:
    """A message about a hog on GPU-1; ``brief`` overrides some of what is told."""
    own = dict(rest.pop("brief", {}))
    brief = Brief(
        **{
            "incident": IncidentId("inc-6b49d200-7"),
            "summary": "hog cannot be ended: its processes or its bytes stay",
            "opened_wall": WALL - 60,
            "rule": "quota",
            "device": "GPU-1",
            "tenant": "docker:" + "c0ffee" * 10 + "beef",
            "tenant_name": "hog",
            "tenant_class": "low",
            "runtime": "docker",
            "evidence": (("quota", "8.0 GiB"), ("peak", "20.0 GiB")),
            "done": ("+1.0 s term done: over its quota",),
            "withheld": ("+2.0 s stop withheld: only observes",),
            **own,
        }
    )
    return Notice(
        **{
            "id": "inc-6b49d200-7/sink/1",
            "key": "node-1/inc-6b49d200-7",
            "sink": "sink",
            "reason": reason,
            "severity": "critical",
            "severities": ("critical",),
            "host": "node-1",
            "brief": brief,
            "wall": WALL,
            "first_steps": ("gpuwarden tenants", "gpuwarden explain it", "talk to its owner"),
            "is_news": reason is Reason.FIRST,
            **rest,
        }
    )


def evil(reason: Reason = Reason.FIRST, **rest: Any) -> Notice:
    """Every text in it is hostile."""
    return notice(
        reason,
        host="node-1" + EVIL[:20],
        acked_by=EVIL,
        folded=(EVIL,),
        folded_count=1,
        brief={
            "summary": EVIL,
            "tenant": "docker:" + EVIL,
            "tenant_name": EVIL,
            "subject": EVIL,
            "runtime": EVIL,
            "outcome": EVIL,
            "evidence": ((EVIL, EVIL),),
            "done": (EVIL,),
            "withheld": (EVIL,),
        },
        **rest,
    )


def over(**rest: Any) -> Notice:
    """The same, over."""
    own = {"closed_wall": WALL - 5, "outcome": "tenant killed", **dict(rest.pop("brief", {}))}
    return notice(Reason.RESOLVED, brief=own, **rest)


def secret_file(folder: Path, name: str, text: str, mode: int = 0o600) -> str:
    """A secret in a file, as the configuration names it."""
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return f"file:{path}"
