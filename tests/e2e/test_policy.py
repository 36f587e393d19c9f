"""The fleet's policy end to end: a real aggregator, a real agent on simulated devices, keys that are not on either."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwarden.adapters.pki.signing import make_key
from gpuwarden.model.action import Kind
from gpuwarden.model.tenant import TenantClass
from gpuwarden.sim.host import SimHost
from gpuwarden.sim.incident.fleet import SimFleet
from tests.e2e.agent import Agent, MakeAgent
from tests.e2e.plain import Plain

pytestmark = [pytest.mark.serial, pytest.mark.timeout(240)]
GIB = 2**30
LOCAL = """
[nvml]
limiter = "none"
[sampling]
list_every_s = "500ms"
[[tenant]]
match = {comm = "hog*"}
memory = "20GiB"
grace = "300ms"
"""
TIGHT = '[[tenant]]\nmatch = {comm = "hog*"}\nmemory = "4GiB"\ngrace = "300ms"\n'


class Scene:
    """One fleet of one node, and the machine on which policies are signed."""

    def __init__(self, fleet: SimFleet, agent: Agent, folder: Path) -> None:
        self.fleet = fleet
        self.agent = agent
        self.folder = folder

    def sign(self, settings: str, version: int, key: str = "good", **more: str) -> Path:
        source = self.folder / f"{version}.toml"
        source.write_text(settings)
        bundle = self.folder / f"{version}-{key}.policy"
        words = [f"--{name}={value}" for name, value in more.items()]
        path = str(self.folder / key)
        done = self.policy(
            *("sign", str(source), "--key", path, "--version", str(version)),
            *("--out", str(bundle), *words),
        )
        assert done.returncode == 0, done.stderr
        return bundle

    def policy(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.fleet.verb("policy", *words)

    def publish(self, bundle: Path, *words: str) -> None:
        done = self.policy("publish", str(bundle), "--yes", *words)
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.policy("status", "--json").stdout)["policies"]
        return said

    def until_applied(self, version: int) -> None:
        self.agent.until(
            f"policy {version} is in force, and the aggregator knows",
            lambda: (
                (newest := self.status()["policies"][0])["version"] == str(version)
                and newest.get("applied") == 1
            ),
        )

    def quota(self, name: str = "hog") -> int | None:
        tenant = self.agent.tenant(name)
        return None if tenant is None else tenant.hard_bytes


@pytest.fixture
def scene(host: SimHost, make_agent: MakeAgent, folder: Path) -> Iterator[Scene]:
    good, evil = make_key(folder / "good"), make_key(folder / "evil")
    # The aggregator was taken over: it believes the wrong key as well. The node does not.
    believed = f"[policy]\nkeys = {json.dumps([good, evil])}\nsoak_s = '1s'\n"
    with SimFleet(["node-1"], believed) as fleet:
        settings = fleet.settings_of("node-1") + f"policy_keys = {json.dumps([good])}\n"
        agent = make_agent(host, settings + LOCAL).start()
        agent.until_seen(2)
        fleet.wait_connected(["node-1"])
        yield Scene(fleet, agent, folder)


def test_a_quota_that_is_published_is_what_the_next_decision_uses(
    scene: Scene, plain: Plain
) -> None:
    hog = plain.run("hog", "hold", "--size", "6GiB")
    scene.agent.until("the hog has its own quota", lambda: scene.quota() == 20 * GIB)
    bundle = scene.sign(TIGHT, 1, note="tight")
    scene.agent.until("its size was told", lambda: '"name": "hog"' in _diff(scene, bundle))
    refused = scene.policy("publish", str(bundle))
    assert refused.returncode == 1
    assert "tenants would be over their quota, and evicted" in refused.stderr
    assert scene.status().get("policies") is None
    assert hog.is_running()

    scene.publish(bundle)
    scene.until_applied(1)
    scene.agent.until_done(Kind.TERM)
    scene.agent.until("the hog is gone", lambda: not hog.is_running())
    scene.agent.until_closed()
    assert scene.agent.view().agent.policy_version == 1
    (told,) = scene.agent.events("policy_taken")
    assert (told["version"], told["note"]) == (1, "tight")


def _diff(scene: Scene, bundle: Path) -> str:
    return scene.policy("diff", str(bundle), "--json").stdout


def test_security_a_forged_policy_is_refused_by_the_node_and_listed(
    scene: Scene, plain: Plain
) -> None:
    hog = plain.run("hog", "hold", "--size", "6GiB")
    scene.publish(scene.sign(TIGHT, 1, key="evil"))
    scene.agent.until("it was refused", lambda: scene.agent.events("policy_refused"))
    # Behind at first: that it was refused comes with the node's next report.
    scene.agent.until(
        "and the aggregator knows",
        lambda: [d["state"] for d in scene.status().get("drifted", [])] == ["refused"],
    )
    (drifted,) = scene.status()["drifted"]
    assert drifted["node"] == "node-1"
    assert "is not pinned here" in drifted["why"]
    assert any("was refused" in line for line in scene.agent.view().agent.degraded)
    assert scene.quota() == 20 * GIB
    assert hog.is_running()


def test_a_policy_outlives_a_restart_runs_out_and_then_only_observes(
    scene: Scene, plain: Plain
) -> None:
    text = '[[tenant]]\nmatch = {comm = "hog*"}\nmemory = "8GiB"\nclass = "high"\n'
    scene.publish(scene.sign(text, 1))
    scene.until_applied(1)
    scene.agent.stop()
    scene.agent.start()
    plain.run("hog", "hold", "--size", "6GiB")
    scene.agent.until("under the policy at once", lambda: scene.quota() == 8 * GIB)
    assert scene.agent.view().agent.mode == "enforce"
    scene.publish(scene.sign(text, 2, valid="8s"))
    scene.until_applied(2)
    scene.agent.until("it only observes", lambda: scene.agent.view().agent.mode == "observe")
    assert scene.quota() == 8 * GIB
    tenant = scene.agent.tenant("hog")
    assert tenant is not None
    assert tenant.cls is TenantClass.HIGH
    assert any("observing only" in line for line in scene.agent.view().agent.degraded)
    scene.publish(scene.sign(text, 3))
    scene.until_applied(3)
    assert scene.agent.view().agent.mode == "enforce"


def test_going_back_is_a_new_version_with_the_old_word(scene: Scene, plain: Plain) -> None:
    plain.run("hog", "hold", "--size", "2GiB")
    key = str(scene.folder / "good")
    scene.publish(scene.sign(TIGHT, 1))
    scene.until_applied(1)
    scene.publish(scene.sign(TIGHT.replace("4GiB", "9GiB"), 5))
    scene.until_applied(5)
    scene.agent.until("the newer quota", lambda: scene.quota() == 9 * GIB)
    done = scene.policy("rollback", "1", "--key", key)
    assert re.search("policy 6 says again what policy 1 said", done.stdout), done.stderr
    scene.until_applied(6)
    scene.agent.until("the older quota", lambda: scene.quota() == 4 * GIB)
    audit = scene.fleet.verb("audit", "list", "-c", str(scene.fleet.folder / "aggregator.toml"))
    assert "policy roll back to 1" in audit.stdout
