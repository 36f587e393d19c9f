"""The operator's own command is told of a cordon: no shell, JSON on standard input, a deadline."""

import json
from collections.abc import Sequence

from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import Clock
from gpuwarden.config_cordon import ExecCordon
from gpuwarden.errors import Unavailable
from gpuwarden.model.repair import Subject

_SAID_MAX_CHARS = 80


class ProgramBackend:
    """A ``Backend`` of ``HostCordons``. The command is started once a verb and has to bear being told the
    same twice; any exit status but 0 means: tell it again later.

    ``{"verb": "cordon", "device": "GPU-...", "index": 0, "pci": "0000:3b:00.0", "incident": "inc-...",
    "reason": "..."}``; ``device`` null: the whole node. ``uncordon`` has ``still``, the incidents of
    cordons that stand on.
    """

    name = "exec"

    def __init__(self, cfg: ExecCordon, clock: Clock) -> None:
        self._tool = Tool(name=cfg.command[0], clock=clock, timeout_s=cfg.timeout_s)
        self._args = cfg.command[1:]

    def cordon(self, subject: Subject, incident: str, reason: str) -> str:
        return self._tell("cordon", subject, {"incident": incident, "reason": reason})

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> str:
        return self._tell("uncordon", subject, {"incident": incident, "still": list(still)})

    def _tell(self, verb: str, subject: Subject, more: dict[str, object]) -> str:
        document = {
            "verb": verb,
            "device": subject.device,
            "index": subject.index,
            "pci": subject.pci or None,
            **more,
        }
        answer = self._tool.run(*self._args, said=json.dumps(document).encode("ascii") + b"\n")
        if answer.status != 0:
            raise Unavailable(f"exit status {answer.status}: {answer.why}")
        return " ".join(answer.out.split())[:_SAID_MAX_CHARS] or "told"
