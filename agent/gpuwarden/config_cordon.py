"""Who is told of a cordon, and how: settings of ``[cordon]``."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from gpuwarden.config_types import Seconds, Section, shown

# gpu-07, gpu07.example.org
_NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z", re.ASCII)
# gpuwarden.io/cordoned
_TAINT = re.compile(
    r"[a-z0-9](?:[a-z0-9.-]{0,198}[a-z0-9])?/[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z",
    re.ASCII,
)
ARGUMENTS_MAX = 64


def parse_node(value: object) -> str:
    """A node by its scheduler's name; no list of several, for only this one may be touched."""
    if isinstance(value, str) and _NODE.match(value):
        return value
    raise ValueError(f"expected the name of one node such as gpu-07, got {shown(value)}")


def parse_taint(value: object) -> str:
    """A taint's key with a prefix: one of our own, for it is set and taken away without asking."""
    if isinstance(value, str) and _TAINT.match(value) and "kubernetes.io/" not in value:
        return value
    raise ValueError(
        f"expected the key of a taint such as gpuwarden.io/cordoned, got {shown(value)}"
    )


def parse_command(value: object) -> tuple[str, ...]:
    """A program and its arguments; there is no shell, so the program is named by its path."""
    if isinstance(value, list | tuple) and 0 < len(value) <= ARGUMENTS_MAX:
        words = tuple(word for word in value if isinstance(word, str) and "\0" not in word)
        if len(words) == len(value) and words[0].startswith("/"):
            return words
    raise ValueError(
        'expected a program by its absolute path and its arguments such as ["/usr/local/sbin/cordon"], '
        f"got {shown(value)}"
    )


def parse_absolute(value: object) -> Path:
    """A path from the root: the agent runs in no particular folder."""
    if isinstance(value, str | Path) and str(value).startswith("/") and "\0" not in str(value):
        return Path(value)
    raise ValueError(f"expected an absolute path, got {shown(value)}")


def _before(parse: Any) -> BeforeValidator:
    return BeforeValidator(parse)


NodeName = Annotated[str, _before(parse_node)]
TaintKey = Annotated[str, _before(parse_taint)]
Command = Annotated[tuple[str, ...], _before(parse_command)]
AbsolutePath = Annotated[Path, _before(parse_absolute)]


class SlurmCordon(Section):
    """Drains this node in Slurm. The table's presence turns it on."""

    node: NodeName | None = None
    """Unset: Slurm is asked which of its nodes is this host."""
    conf: AbsolutePath | None = None
    """slurm.conf; unset: ``SLURM_CONF`` of the agent's environment, else Slurm's own place."""
    scontrol: AbsolutePath | None = None
    timeout_s: Seconds = 10.0


class KubernetesCordon(Section):
    """Taints and cordons this node in Kubernetes. The table's presence turns it on."""

    node: NodeName | None = None
    """Unset: ``NODE_NAME`` of the agent's environment, else the host's name."""
    kubeconfig: AbsolutePath | None = None
    """In JSON (``kubectl config view --raw --flatten --minify -o json``); only its owner may read it. Unset: the
    files a pod's service account has."""
    taint: TaintKey = "gpuwarden.io/cordoned"
    """Key of the taint (effect NoSchedule), which only the agent sets and takes away."""
    timeout_s: Seconds = 10.0


class ExecCordon(Section):
    """Runs the operator's own command."""

    command: Command
    timeout_s: Seconds = 30.0


class CordonConfig(Section):
    """Whoever places jobs on this node, and is told which of its devices are out of use."""

    refuse_containers: bool = True
    """Whether a container that starts on a cordoned device is stopped (rule arrival, in enforce mode)."""
    slurm: SlurmCordon | None = None
    kubernetes: KubernetesCordon | None = None
    exec: ExecCordon | None = None
