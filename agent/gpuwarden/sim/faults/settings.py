"""The operator's word while a fault is played: enforce mode, repairs allowed, short waits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwarden.sim.faults.cast import SLO_LIMIT_S
from gpuwarden.sim.faults.play import Play
from gpuwarden.sim.faults.tree import MANAGER, Tree
from gpuwarden.sim.incident.cast import Member, Role
from gpuwarden.sim.incident.scene_config import cap, entry, text

QUICK_RULES = (
    *("ecc", "remap", "throttle", "thermal", "power", "persistence", "fabric", "recovery"),
    *("mismatch", "dstate", "zombie", "services", "count"),
)
"""Health rules with a grace and a probation of their own, here a second each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things of one play lie."""

    folder: Path
    kmsg: Path
    metrics_port: int
    service_port: int
    page_port: int
    cordon: Path
    docker: str | None
    """Docker's address; ``None``: plain processes."""


def config_text(play: Play, members: Iterable[Member], places: Places, tree: Tree) -> str:
    """The whole file."""
    tables = _tables(places, tree)
    for table, settings in play.settings.items():
        tables[table] = {**tables.get(table, {}), **settings}
    lines = [line for table, settings in tables.items() for line in _table(table, settings)]
    lines += ["[[oncall.webhook]]", f'url = "http://127.0.0.1:{places.page_port}/page"']
    for member in members:
        lines += cap(member) if places.docker is not None else entry(member)
        if member.role is Role.SERVICE:
            lines += [
                "[[service]]",
                f"name = {text(member.name)}",
                f'url = "http://127.0.0.1:{places.service_port}/metrics"',
                f'p99_max_s = "{int(SLO_LIMIT_S * 1000)}ms"',
            ]
    return "\n".join(lines) + "\n"


def _tables(places: Places, tree: Tree) -> dict[str, Mapping[str, Any]]:
    soon = {"grace_s": "1s", "probation_s": "1s"}
    return {
        "agent": {
            "mode": "enforce",
            "state_dir": str(places.folder / "state"),
            "run_dir": str(places.folder / "run"),
            "metrics_listen": f"127.0.0.1:{places.metrics_port}",
            "log_format": "json",
        },
        "kmsg": {"path": str(places.kmsg)},
        "default": {"class": "low", "class_max": "normal"},
        "docker": {"host": places.docker or "unix:///nonexistent/docker.sock"},
        "sampling": {"list_every_s": "1s"},
        "fault": {"application_quiet_s": "3s", "quiet_s": "3s"},
        "ladder": {
            "grace_low_s": "1s",
            "page_after_s": "500ms",
            "locked_after_s": "500ms",
            "uncordon_after_s": "1s",
        },
        "repair": {
            "allow": ["restart-services", "reset-gpu"],
            "drain_evicts": "low",
            "drain_wait_s": "1m",
            "verify_s": "15s",
            "nvidia_smi": str(tree.nvidia_smi),
            "systemctl": str(tree.systemctl),
            "services": [MANAGER],
            "reload_command": [str(tree.reload)],
            "reboot_command": ["/bin/false"],
        },
        "cordon.exec": {"command": [str(places.cordon)]},
        "health": {"root": str(tree.root), "surroundings_every_s": "500ms", "window_s": "2s"},
        **{f"health.{rule}": soon for rule in QUICK_RULES},
        "health.pcie": {"link_grace_s": "1s", "probation_s": "1s"},
        "health.nvlink": {"down_grace_s": "1s", "probation_s": "1s"},
        # How the machine itself fares on which it is played is no part of the play.
        "rules.host": {"mode": "off"},
        "rules.wallclock": {"mode": "off"},
    }


def _table(name: str, settings: Mapping[str, Any]) -> list[str]:
    # JSON of text, numbers and arrays of them is TOML.
    return [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
