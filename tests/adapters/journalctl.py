"""A journalctl in a file of its own, whose journal is a text file that a test appends to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAM = r"""
import json, os, select, sys
from pathlib import Path

here = Path(sys.argv[0]).resolve().parent

def field(name, value):
    data = value.encode("utf-8", "surrogateescape")
    if value.isprintable():
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"

with (here / "calls").open("a") as calls:
    calls.write(json.dumps({"args": sys.argv[1:], "pid": os.getpid()}) + "\n")
mode = (here / "mode").read_text()
after = next((a.partition("=")[2] for a in sys.argv if a.startswith("--after-cursor=")), None)
if mode == "fails" or (mode == "refuses cursors" and after):
    sys.exit("Failed to seek to cursor: Invalid argument")
if mode == "garbage":
    os.write(1, b"MESSAGE\n" + (2**40).to_bytes(8, "little") + b"x" * 100)
if mode == "endless":
    while True:
        os.write(1, b"x" * 4096)
if mode == "hint":
    os.write(2, b"Hint: You are currently not seeing messages from other users and the system.\n")
is_past, pending = after is None, ""
with (here / "entries").open() as entries:
    while True:
        pending += entries.readline()
        if pending.endswith("\n"):
            entry, pending = json.loads(pending), ""
            if is_past:
                os.write(1, b"".join(field(*pair) for pair in entry) + b"\n")
            is_past = is_past or ["__CURSOR", after] in entry
        elif mode == "ends":
            sys.exit()
        else:
            select.select([], [], [], 0.02)
"""


class FakeJournal:
    """``program`` is what the agent runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "journalctl"
        self.program.write_text(f"#!{sys.executable} -IS\n{PROGRAM}")
        self.program.chmod(0o755)
        (folder / "entries").touch()
        (folder / "calls").touch()
        self.set_mode("follows")

    def set_mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)

    def add(self, cursor: str, text: str, facility: int | None = 0, **more: str) -> None:
        """An entry; ``more``: further fields."""
        fields = [("__CURSOR", cursor), ("_BOOT_ID", "b"), ("PRIORITY", "4"), ("MESSAGE", text)]
        if facility is not None:
            fields.append(("SYSLOG_FACILITY", str(facility)))
        fields += more.items()
        with (self.folder / "entries").open("a") as entries:
            entries.write(json.dumps(fields) + "\n")

    def calls(self) -> Sequence[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
