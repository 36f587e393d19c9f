"""A reload under the fleet's policy: what of the files and of the policy is in force when one of them is bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden import config_files, fleet_wiring
from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.adapters.policy_keeper import PolicyKeeper
from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.clock import SystemClock
from gpuwarden.config import Config
from gpuwarden.config_files import Loaded
from gpuwarden.errors import ConfigError, Unavailable
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.model.policy import PolicyLayer
from gpuwarden.model.status import AgentInfo
from gpuwarden.node.journal import FileJournal
from gpuwarden.reload import Reloader
from tests.commands.cli_run import run
from tests.policy_bundles import DAY_S, Signer

GOOD = Signer()
FILES = '[agent]\nmode = "enforce"\n[default]\nmemory = "20GiB"\n'
POLICY = '[default]\nmemory = "8GiB"\n'
CLOCK = SystemClock()


class Host:
    """The files of one host in a fleet, and the parts of its agent that read them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "agent.toml"
        self.identity = folder / "identity"
        authority = Authority.open(folder / "pki", "gpuwarden", CLOCK.wall())
        who = Identity(role=Role.NODE, name="n1")
        write_credentials(self.identity, authority.credentials(who, ttl_s=60, wall=CLOCK.wall()))
        self.write(FILES)
        self.journal = FileJournal(folder / "journal", 2**20)

    def write(self, text: str) -> None:
        fleet = f"identity_dir = {json.dumps(str(self.identity))}\naggregator = 'a:1'\n"
        keys = f"policy_keys = {json.dumps([GOOD.public])}\n"
        self.path.write_text(f"{text}[fleet]\n{fleet}{keys}")

    def load(self, **more: Any) -> Loaded[Config]:
        return config_files.load(self.path, environ={}, **more)

    def started(self) -> tuple[Config, PolicyKeeper, Reloader]:
        cfg, keeper = fleet_wiring.under_policy(self.load().config, self.load, CLOCK)
        reloader = Reloader(
            path=self.path,
            environ={},
            flags={},
            clock=CLOCK,
            journal=self.journal,
            notify=SdNotify({}),
            oncall=lambda cfg: None,
            started_with=cfg,
            policy=keeper,
        )
        keeper._reload = lambda: None  # the loop's signal: here the test is the loop
        return cfg, keeper, reloader


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    one = Host(tmp_path)
    yield one
    one.journal.close()


def bundle(version: int = 1, settings: str = POLICY, **more: object) -> bytes:
    now = float(int(CLOCK.wall()))
    times = {"issued_wall": now - 60, "not_after_wall": now + DAY_S}
    return GOOD.bundle(version, settings, **{**times, **more})


def test_a_policy_that_was_taken_is_in_force_after_the_reload(host: Host) -> None:
    cfg, keeper, reloader = host.started()
    assert cfg.default.memory == 20 * 2**30
    keeper.consider(bundle())
    assert keeper.report().version == 0
    fresh = reloader()
    assert fresh is not None
    assert (fresh.agent.mode, fresh.default.memory) == ("enforce", 8 * 2**30)
    assert keeper.report().version == 1
    told = reloader.told(AgentInfo(version="1", pid=1, mode="", started_wall=0.0, boot_id=""))
    assert (told.policy_version, told.policy_expired) == (1, False)
    again, later, _ = host.started()
    assert (again.default.memory, later.report().version) == (8 * 2**30, 1)


def test_files_that_went_bad_keep_the_old_one_and_the_policy_is_told_as_not_in_force(
    host: Host,
) -> None:
    _, keeper, reloader = host.started()
    keeper.consider(bundle())
    host.write("[quota]\nnovelty = 1\n")
    assert reloader() is None
    report = keeper.report()
    assert report.version == 0
    assert "novelty" in report.refusals[0].why
    host.write(FILES)
    assert reloader() is not None
    assert (keeper.report().version, keeper.report().refusals) == (1, ())


def test_what_runs_out_while_the_files_are_bad_only_observes(host: Host) -> None:
    _, keeper, reloader = host.started()
    keeper.consider(bundle())
    assert reloader() is not None
    host.write("[quota]\nnovelty = 1\n")
    keeper._deadline = CLOCK.now()
    keeper.look()
    fresh = reloader()
    assert fresh is not None
    assert (fresh.agent.mode, fresh.default.memory) == ("observe", 8 * 2**30)
    assert keeper.report().is_expired
    assert not reloader.is_ok


def test_a_policy_that_no_longer_fits_the_files_does_not_keep_the_agent_from_its_watch(
    host: Host,
) -> None:
    _, keeper, reloader = host.started()
    keeper.consider(bundle())
    assert reloader() is not None

    def load(policy: PolicyLayer | None = None) -> Loaded[Config]:
        if policy is not None and policy.settings:
            raise ConfigError(("fleet policy 1: it does not fit",))
        return host.load(policy=policy)

    cfg, later = fleet_wiring.under_policy(host.load().config, load, CLOCK)
    assert (cfg.agent.mode, cfg.default.memory) == ("observe", 20 * 2**30)
    report = later.report()
    assert (report.version, report.is_expired) == (0, True)
    assert "it does not fit" in report.refusals[0].why


def test_people_are_shown_what_is_in_force(host: Host) -> None:
    _, keeper, _ = host.started()
    keeper.consider(bundle())
    shown = run("config", "show", "--origin", "-c", str(host.path)).output
    assert 'memory = "8GiB"  # fleet policy 1:2' in shown
    assert 'mode = "enforce"  # agent.toml:2' in shown
    keeper._deadline = CLOCK.now()
    keeper.look()
    shown = run("config", "show", "--origin", "-c", str(host.path)).output
    assert 'mode = "observe"  # fleet policy 1, which has run out' in shown
    (host.identity / "policy" / "policy.bundle").write_text("spoilt")
    done = run("config", "show", "-c", str(host.path))
    assert 'memory = "20GiB"' in done.output
    assert "without the fleet's policy" in done.output


def test_without_an_identity_it_says_what_to_do(host: Host) -> None:
    (host.identity / "identity.json").unlink()
    with pytest.raises(Unavailable, match="gpuwarden enroll"):
        host.started()


def test_a_node_in_a_fleet_loads_no_cryptography() -> None:
    import subprocess
    import sys

    script = (
        "import sys, gpuwarden.wiring, gpuwarden.fleet_wiring; "
        "sys.exit(any(n.startswith('cryptography') for n in sys.modules))"
    )
    alone = (
        "import sys, gpuwarden.wiring; bad = ('cryptography', 'gpuwarden.adapters.policy_keeper', "
        "'gpuwarden.adapters.uplink'); sys.exit(any(n.startswith(bad) for n in sys.modules))"
    )
    for code in (script, alone):
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
