"""Drains this node in Slurm for as long as a cordon of ours stands, and resumes it after the last one.

Slurm has no test-and-set: the node is read first and read back afterwards. A drain of somebody else's is never
touched, and where both meet theirs wins. Resuming takes the drain away (``UNDRAIN``) and nothing else:
a node that is down for another reason stays down.
"""

import os
import pwd
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuwarden.adapters.cordon import slurm_node
from gpuwarden.adapters.cordon.slurm_node import SlurmNode
from gpuwarden.adapters.tool import Answer, Tool
from gpuwarden.clock import Clock
from gpuwarden.config_cordon import SlurmCordon
from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.repair import Subject

# gwffa5208a
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z", re.ASCII)


class SlurmBackend:
    """A ``Backend`` of ``HostCordons``. One thread calls it."""

    name = "slurm"

    def __init__(
        self, scontrol: Tool, node: str | None, *, host: str | None = None, user: str | None = None
    ) -> None:
        """``host`` is the name Slurm knows this host by, ``user`` the one it will say gave our reasons."""
        self._scontrol = scontrol
        self._node = node
        self._host = host if host is not None else socket.gethostname()
        self._user = user if user is not None else _own_user()

    @staticmethod
    def of(cfg: SlurmCordon, clock: Clock, environ: Mapping[str, str]) -> "SlurmBackend":
        """As the settings say."""
        conf = str(cfg.conf) if cfg.conf is not None else environ.get("SLURM_CONF", "")
        scontrol = Tool(
            name=str(cfg.scontrol or Path("scontrol")),
            clock=clock,
            timeout_s=cfg.timeout_s,
            env={"SLURM_CONF": conf} if conf else {},
        )
        return SlurmBackend(scontrol, cfg.node)

    def cordon(self, subject: Subject, incident: str, reason: str) -> str:
        """Drain it with our reason, or add the incident to a reason of ours. ``foreign``: it is drained by
        somebody else, and stays as it is. A node that is down takes no jobs and no reason of ours: it is
        drained once it is back."""
        name = self._find()
        node = self._read(name)
        if node.is_drained:
            entries = slurm_node.ours(node, self._user)
            if entries is None:
                return "foreign"
            if incident in entries:
                return "drained already"
        elif node.is_down:
            raise Unavailable(
                f"node {name} is {node.words} ({node.reason}): drained when it is back"
            )
        else:
            entries = {}
        wanted = {**entries, incident: slurm_node.said(reason)}
        self._update(name, "State=DRAIN", f"Reason={slurm_node.reason_of(wanted)}")
        now = self._read(name)
        if not now.is_drained:
            raise Unavailable(f"scontrol took the drain, but node {name} is {now.words}")
        return "drained" if incident in (slurm_node.ours(now, self._user) or {}) else "foreign"

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> str:
        """Resume it, unless others of ours stand or it is not drained by us."""
        name = self._find()
        node = self._read(name)
        entries = slurm_node.ours(node, self._user)
        if not node.is_drained:
            return "not drained"
        if entries is None:
            return "foreign"
        left = slurm_node.without(entries, incident, still)
        if left:
            if left != entries:
                self._update(name, f"Reason={slurm_node.reason_of(left)}")
            return "others stand"
        self._update(name, "State=UNDRAIN")
        now = self._read(name)
        if now.is_drained and slurm_node.ours(now, self._user) is not None:
            raise Unavailable(f"scontrol took the resume, but node {name} is {now.words}")
        return "resumed"

    def _find(self) -> str:
        """This host's node; asked once."""
        if self._node is None:
            names = self._ask("show", "aliases", self._host.partition(".")[0]).out.split()
            if not names:
                names = self._ask("show", "aliases", self._host).out.split()
            if len(names) != 1 or not _NAME.match(names[0]):
                what = "no node" if not names else f"{len(names)} nodes"
                raise Unsupported(
                    f"Slurm has {what} on host {self._host}: say which in cordon.slurm.node"
                )
            self._node = names[0]
        return self._node

    def _read(self, name: str) -> SlurmNode:
        return slurm_node.read(self._ask("show", "node", name).out)

    def _update(self, name: str, *changes: str) -> None:
        self._ask("update", f"NodeName={name}", *changes)

    def _ask(self, *args: str) -> Answer:
        answer = self._scontrol.run(*args)
        if answer.status != 0:
            raise Unavailable(f"scontrol {args[0]} {args[1]}: {answer.why}")
        return answer


def _own_user() -> str:
    """Our own name as scontrol, on this host, writes it behind a reason."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
