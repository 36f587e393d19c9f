"""``gpuwarden debug kernel-log``: kernel lines in, what the agent makes of each of them out."""

import json
from collections.abc import Iterator
from typing import IO

from gpuwarden.adapters.kernel_json import as_json
from gpuwarden.adapters.kernel_lines import read_bytes
from gpuwarden.model.fault import Verdict
from gpuwarden.policy.fault.line_verdict import verdict
from gpuwarden.policy.fault.steps import first_steps, topic_of

MAX_LINE_BYTES = 64 * 1024
"""More of a line is passed over; no kernel record is as long."""


def answer(raw: bytes, *, explain: bool = False) -> str:
    """One line's answer as JSON: what it says with its verdict, or ``null``."""
    line = read_bytes(raw)
    if line is None:
        return "null"
    said = verdict(line)
    found = {**as_json(line), "verdict": _fields(said)}
    if explain:
        fault = topic_of(line)
        found["explained"] = {
            "basis": said.basis.value,
            "root_xid": said.root_xid,
            "hint": said.hint.value if said.hint else None,
            "fault_class": fault.value,
            "first_steps": list(first_steps(fault, line.pci)),
        }
    return json.dumps(found)


def _fields(said: Verdict) -> dict[str, str]:
    return {
        "scope": said.scope.value,
        "severity": said.severity.value,
        "action": said.action.value,
    }


def answers(stream: IO[bytes], *, explain: bool = False) -> Iterator[str]:
    """One answer for each line of a stream, whatever is in it; the last needs no newline."""
    for raw in _lines(stream):
        yield answer(raw, explain=explain)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines without their end, cut at ``MAX_LINE_BYTES``: of a longer one only as much is ever held."""
    while head := stream.readline(MAX_LINE_BYTES):
        rest = head
        while not rest.endswith(b"\n") and (rest := stream.readline(MAX_LINE_BYTES)):
            pass
        yield head.rstrip(b"\r\n")
