"""The operator's word in the scene: the agent's configuration file, as a person would write it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gpuwarden.sim.incident.cast import MIB, SLO_LIMIT_S, Cast, Member, Role, Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things of one run lie."""

    state_dir: Path
    run_dir: Path
    kmsg: Path
    metrics_port: int
    service_port: int
    page_port: int
    docker: str | None
    """Docker's address; ``None``: plain processes."""


def config_text(cast: Cast, places: Places) -> str:
    """The whole file."""
    lines = [
        "[agent]",
        'mode = "enforce"',
        f"state_dir = {text(places.state_dir)}",
        f"run_dir = {text(places.run_dir)}",
        f'metrics_listen = "127.0.0.1:{places.metrics_port}"',
        'log_format = "json"',
        "[kmsg]",
        f"path = {text(places.kmsg)}",
        "[[oncall.webhook]]",
        f'url = "http://127.0.0.1:{places.page_port}/page"',
        "[ladder]",
        f"allow_protected_restart = {str(cast.variant.allows_restart).lower()}",
        "[default]",
        'class = "low"',
        'class_max = "normal"',
        "[docker]",
        f"host = {text(places.docker or 'unix:///nonexistent/docker.sock')}",
    ]
    if cast.variant.trigger is Trigger.SLO:
        lines += ["[rules.neighbour]", 'mode = "enforce"']
    service = cast.of(Role.SERVICE)
    lines += [
        "[[service]]",
        f"name = {text(service.name)}",
        f'url = "http://127.0.0.1:{places.service_port}/metrics"',
        f'p99_max_s = "{int(SLO_LIMIT_S * 1000)}ms"',
    ]
    for member in (*cast.members, cast.passing):
        lines += named(cast, member) if places.docker is None else cap(member)
    return "\n".join(lines) + "\n"


def cap(member: Member) -> list[str]:
    """With containers labels speak, and the operator's map says whom it believes: only images he
    named may be protected."""
    if member.tenant_class != "protected":
        return []
    repository = member.image.rpartition(":")[0]
    return [
        "[[tenant]]",
        f"match = {{ image = {text(repository + ':*')} }}",
        'class = "protected"',
        f'memory_max = "{member.quota_bytes // MIB}MiB"',
    ]


def named(cast: Cast, member: Member) -> list[str]:
    """One of the scene as a plain process."""
    lines = entry(member)
    if member.role is Role.OFFENDER and cast.variant.has_no_grace:
        lines.append('grace = "0s"')
    return lines


def entry(member: Member) -> list[str]:
    """A plain process has no labels: the operator says everything, by the program's name."""
    lines = [
        "[[tenant]]",
        f"match = {{ comm = {text(member.name)} }}",
        f"class = {text(member.tenant_class)}",
        f'memory = "{member.quota_bytes // MIB}MiB"',
    ]
    if member.role is Role.SERVICE:
        lines.append(f"service = {text(member.name)}")
    return lines


def text(value: object) -> str:
    return json.dumps(str(value))  # a JSON string of printable ASCII is a TOML basic string
