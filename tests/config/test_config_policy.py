"""What a fleet's policy may say, setting by setting; and how it lies among the files of a host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from gpuwarden.config import AT_START, Config
from gpuwarden.config_files import load
from gpuwarden.config_policy import SETTABLE, checked, observing, why_not
from gpuwarden.errors import ConfigError
from gpuwarden.model.policy import PolicyLayer
from gpuwarden.model.tenant import TenantClass

FILE = """
[agent]
mode = "enforce"
[default]
memory = "20GiB"
[quota]
soft_hold_s = "5s"
[rules.quota]
mode = "enforce"
[rules.host]
mode = "off"
[[tenant]]
match = { name = "a*" }
memory = "1GiB"
"""
POLICY = """
[default]
memory = "8GiB"
[rules.reserve]
mode = "enforce"
[[tenant]]
match = { name = "ab*" }
memory = "2GiB"
class = "high"
"""


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        here = (*path, info.alias or name)
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, here)
        else:
            yield here


def said(folder: Path, layer: PolicyLayer | None, **environ: str) -> Config:
    path = folder / "agent.toml"
    path.write_text(FILE)
    return load(path, environ=environ, policy=layer).config


def layer(settings: str = POLICY, *, is_safe_set: bool = False) -> PolicyLayer:
    return PolicyLayer(version=7, settings=settings, is_safe_set=is_safe_set)


def test_every_setting_was_decided_on() -> None:
    """A new setting falls under a row of its table; a new table has none and may not be said."""
    for path in leaves(Config):
        assert any(".".join(path[:end]) in SETTABLE for end in range(1, len(path) + 1)), path
    assert why_not(("novelty", "x"))


def test_what_a_policy_may_say_takes_effect_at_once() -> None:
    for path in AT_START:
        assert why_not(tuple(path.split("."))), path


@pytest.mark.parametrize(
    "word", ["path", "dir", "command", "listen", "url", "key", "token", "library", "host", "bin"]
)
def test_no_place_no_program_and_no_secret_is_a_fleets_to_say(word: str) -> None:
    allowed = [".".join(path) for path in leaves(Config) if not why_not(path)]
    table = frozenset({"host.memory_available_min_ratio", "host.memory_full_max_percent"})
    found = [p for p in allowed if word in p.rsplit(".", 1)[-1].split("_") and p not in table]
    assert found == []


@pytest.mark.parametrize(
    "settings",
    [
        '[agent]\nstate_dir = "/tmp"',
        '[agent]\nmetrics_listen = "0.0.0.0:1"',
        "[agent]\noperator_gids = [0]",
        '[repair]\nreboot_command = ["/bin/sh"]',
        '[repair]\nnvidia_smi = "/tmp/x"',
        '[repair]\nservices = ["evil.service"]',
        '[cordon.exec]\ncommand = ["/bin/sh"]',
        '[[oncall.slack]]\nurl = "file:/etc/shadow"',
        '[fleet]\npolicy_keys = ["ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]',
        '[fleet]\naggregator = "evil:1"',
        '[kmsg]\npath = "/tmp/x"',
        '[docker]\nhost = "unix:///tmp/x"',
        '[[service]]\nname = "a"\nurl = "http://127.0.0.1:1/x"',
        '[health]\nroot = "/tmp"',
        "[repair]\n",
    ],
)
def test_security_what_a_policy_may_not_say_is_named(settings: str) -> None:
    if settings == "[repair]\n":
        checked(settings)
        return
    with pytest.raises(ConfigError, match="not for a fleet's policy"):
        checked(settings)
    with pytest.raises(ConfigError, match=r"fleet policy 7: .*not for a fleet's policy"):
        load(None, environ={}, policy=layer(settings))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("[quota]\nsoft_hold_s = 'soon'", "quota.soft_hold_s"),
        ("[quota]\nnovelty = 1", "unknown key"),
        ("[quota", "not TOML"),
        ("x = " + "[" * 5000, "settings"),
    ],
)
def test_the_whole_text_has_to_be_valid(settings: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        checked(settings)


def test_it_wins_over_the_files_and_its_tenants_come_first(tmp_path: Path) -> None:
    cfg = said(tmp_path, layer())
    assert cfg.default.memory == 8 * 2**30
    assert cfg.quota.soft_hold_s == 5.0
    assert [entry.match.name for entry in cfg.tenant] == ["ab*", "a*"]
    assert cfg.tenant[0].tenant_class is TenantClass.HIGH
    assert said(tmp_path, layer(), GPUWARDEN_DEFAULT__MEMORY="1GiB").default.memory == 2**30


def test_origins_name_the_policy_and_its_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(FILE)
    origins = load(path, environ={}, policy=layer()).origins
    assert origins["default", "memory"] == "fleet policy 7:3"
    assert origins["tenant", 0, "memory"] == "fleet policy 7:8"
    assert origins["tenant", 1, "memory"] == "agent.toml:14"


def test_the_safe_set_keeps_quotas_and_acts_on_nothing(tmp_path: Path) -> None:
    cfg = said(tmp_path, layer(is_safe_set=True))
    assert cfg.agent.mode == "observe"
    assert (cfg.rules.quota.mode, cfg.rules.reserve.mode) == ("observe", "observe")
    assert cfg.rules.host.mode == "off"
    assert (cfg.default.memory, cfg.tenant[0].memory) == (8 * 2**30, 2 * 2**30)
    lost = said(tmp_path, PolicyLayer(version=7, settings="", is_safe_set=True))
    assert (lost.agent.mode, lost.default.memory) == ("observe", 20 * 2**30)
    assert observing(said(tmp_path, None)).rules.quota.mode == "observe"
