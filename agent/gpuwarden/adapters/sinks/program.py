"""The operator's own command: no shell, the message as JSON on standard input, a deadline.

Exit status 0: taken. 64, 65, 77, 78 (usage, data, permission, configuration: sysexits.h): refused, not tried
again. Anything else, and one that is killed past its deadline with all it started: tried again. What it
writes goes nowhere: it may hold its own secrets.
"""

import json

from gpuwarden.adapters.sinks.wording import document
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import Clock
from gpuwarden.config_oncall import ExecConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.oncall import Notice, Receipt

FINAL = frozenset({64, 65, 77, 78})


class ProgramSink:
    """Runs the command once a message."""

    def __init__(self, cfg: ExecConfig, clock: Clock) -> None:
        self._tool = Tool(name=cfg.command[0], clock=clock, timeout_s=cfg.timeout_s)
        self._args = cfg.command[1:]

    def deliver(self, notice: Notice) -> Receipt:
        """Run it to its end."""
        said = json.dumps(document(notice)).encode("ascii") + b"\n"
        status = self._tool.run(*self._args, said=said).status
        if status in FINAL:
            raise Refused(f"exit status {status}")
        if status != 0:
            raise Unavailable(f"exit status {status}")
        return Receipt(text="exit status 0")
