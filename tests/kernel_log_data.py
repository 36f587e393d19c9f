"""The labelled kernel lines, read once: what they say, and what is to be made of them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@cache
def labelled() -> tuple[dict[str, Any], ...]:
    """``line``, ``expect`` and ``verdict`` (both ``None`` where it says nothing), ``source``, ``origin``."""
    found = []
    for name in ("kernel_lines.jsonl", "kernel_lines_more.jsonl"):
        text = (DATA / name).read_text(encoding="utf-8")
        found += [json.loads(each) for each in text.splitlines()]
    return tuple(found)


def name_of(row: dict[str, Any]) -> str:
    """A test's name for a row: what it is about."""
    said = row["expect"]
    if said is None:
        return "null"
    return "-".join(str(said[key]) for key in ("kind", "xid", "sxid", "form") if said.get(key))
