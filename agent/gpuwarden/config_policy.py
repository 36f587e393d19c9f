"""What of an agent's settings the fleet's policy may say: one table; what is not in it, it may not.

A policy decides how tenants are treated. It never says where an agent listens or writes, whom it tells, what it
runs, or whom it believes: whoever could sign a policy would else own every host.
"""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gpuwarden.config import Config
from gpuwarden.config_faults import fault_texts
from gpuwarden.config_rules import Rules
from gpuwarden.errors import ConfigError

MAY = ""
_PLACE = "where things lie on a host is that host's own"
_START = "it is read once, when the agent starts"
_RUNS = "it says what is run as root"
_TOLD = "it says who is told, with whose secret"
_LOOK = "how often to look is the host's own"
_COUNT = "how many devices a host has is its own"
_KEYS = "whom an agent believes is said on its host"
SETTABLE: Mapping[str, str] = {
    "agent": _PLACE,
    "agent.mode": MAY,
    "agent.expected_devices": _COUNT,
    "sampling": _LOOK,
    "quota": MAY,
    "reserve": MAY,
    "ladder": MAY,
    "host": MAY,
    "health": MAY,
    "health.root": _PLACE,
    "health.surroundings_every_s": _START,
    "health.clock_events": _START,
    "nvml": _PLACE,
    "docker": _PLACE,
    "cri": _PLACE,
    "kmsg": _PLACE,
    "oncall": _TOLD,
    "fault": MAY,
    "repair": MAY,
    "rollback": _START,
    "repair.nvidia_smi": _RUNS,
    "repair.systemctl": _RUNS,
    "repair.services": _RUNS,
    "repair.reload_command": _RUNS,
    "repair.reboot_command": _RUNS,
    "repair.bug_report": _RUNS,
    "repair.check_command": _RUNS,
    "cordon": _RUNS,
    "cordon.refuse_containers": MAY,
    "fleet": _KEYS,
    "rules": MAY,
    "default": MAY,
    "tenant": MAY,
    "placement": MAY,
    "service": "what an agent asks over the network is said on its host",
    "guardrail": _START,
}
"""By dotted path, the longest that fits: empty for what may be said, else why not."""

Tree = dict[str, Any]
FAULTS_MAX = 50


def why_not(path: tuple[str, ...]) -> str:
    """Why a policy may not say this; empty: it may."""
    for end in range(len(path), 0, -1):
        said = SETTABLE.get(".".join(path[:end]))
        if said is not None:
            return said
    return "no setting that a fleet may say"


def checked(settings: str) -> tuple[Tree, Config]:
    """A policy's settings by themselves; ``ConfigError`` lists what is wrong with them, and what it may not say."""
    tree = parsed(settings)
    faults = [f"{'.'.join(path)}: not for a fleet's policy: {why}" for path, why in _foreign(tree)]
    config = None
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        faults += fault_texts(error, {})
    if faults or config is None:
        raise ConfigError(tuple(faults[:FAULTS_MAX]))
    return tree, config


def parsed(settings: str) -> Tree:
    """``ConfigError`` when it is not TOML."""
    try:
        return tomllib.loads(settings)
    except RecursionError as error:
        raise ConfigError(("settings: nested too deeply",)) from error
    except ValueError as error:
        raise ConfigError((f"settings: not TOML: {error}",)) from error


def leaves(tree: Tree) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every value with its path; an array is one value."""
    stack: list[tuple[tuple[str, ...], object]] = [((key,), value) for key, value in tree.items()]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict) and value:
            stack += [((*path, key), child) for key, child in value.items()]
        else:
            yield path, value


def _foreign(tree: Tree) -> list[tuple[tuple[str, ...], str]]:
    return [(path, why) for path, _ in sorted(leaves(tree), key=_path) if (why := why_not(path))]


def _path(leaf: tuple[tuple[str, ...], object]) -> tuple[str, ...]:
    return leaf[0]


def observing(cfg: Config) -> Config:
    """The same for a configuration that is in force already."""
    rules = {
        name: rule.model_copy(update={"mode": "observe"})
        for name in Rules.model_fields
        if (rule := getattr(cfg.rules, name)).mode == "enforce"
    }
    return cfg.model_copy(
        update={
            "agent": cfg.agent.model_copy(update={"mode": "observe"}),
            "rules": cfg.rules.model_copy(update=rules),
        }
    )


def only_observing(tree: Tree) -> None:
    """The built-in safe set, into a gathered configuration: quotas and classes stay, so that nobody is suddenly
    over one; what would act only reports."""
    agent = tree.setdefault("agent", {})
    if isinstance(agent, dict):
        agent["mode"] = "observe"
    rules = tree.get("rules")
    if isinstance(rules, dict):
        for name in Rules.model_fields:
            rule = rules.get(name)
            if isinstance(rule, dict) and rule.get("mode") == "enforce":
                rule["mode"] = "observe"
