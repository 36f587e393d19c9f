"""The verbs of policies against a real aggregator: what people see, and what a mistake costs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.adapters.pki.signing import make_key
from gpuwarden.commands.policy import _ours
from gpuwarden.errors import Refused
from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.adapters.test_uplink import eventually
from tests.aggregator.centre import Centre, sample
from tests.commands.cli_run import run

SETTINGS = '[[tenant]]\nmatch = {image = "risk*"}\nmemory = "4GiB"\n'


class Desk:
    """A folder with a key, and an aggregator that believes it."""

    def __init__(self, folder: Path, centre: Centre) -> None:
        self.folder = folder
        self.centre = centre
        for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
            write_credentials(folder / role.value, centre.credentials(role, "somebody"))

    def ask(self, *words: str, role: Role = Role.ADMIN) -> Result:
        environ = {
            "GPUWARDEN_AGGREGATOR": self.centre.address,
            "GPUWARDEN_IDENTITY": str(self.folder / role.value),
        }
        return run("policy", *words, width=120, env=environ)

    def sign(self, version: int, settings: str = SETTINGS, *more: str) -> Result:
        source = self.folder / "settings.toml"
        source.write_text(settings)
        key, out = str(self.folder / "key"), str(self.bundle(version))
        words = ("--key", key, "--version", str(version), "--out", out, *more)
        return self.ask("sign", str(source), *words)

    def bundle(self, version: int) -> Path:
        return self.folder / f"{version}.policy"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    public = make_key(tmp_path / "key")
    with Centre(tmp_path / "centre", policy={"keys": [public]}) as centre:
        yield Desk(tmp_path, centre)


def test_from_settings_to_the_status(desk: Desk) -> None:
    assert desk.sign(1, SETTINGS, "--note", "a quota").exit_code == 0
    seen = desk.ask("diff", str(desk.bundle(1)), role=Role.OPERATOR)
    assert seen.exit_code == 0
    assert '+ tenant[1] {"image": "risk*"}.memory = "4GiB"' in seen.output
    assert desk.ask("status").output == "no policy was published: nodes go by their own files\n"
    assert desk.ask("publish", str(desk.bundle(1)), "--stage", "5%").exit_code == 0
    line = desk.centre.line("n1", policy=pb.PolicyReport(version=0))
    said = desk.ask("status", role=Role.VIEWER)
    assert said.exit_code == 0
    for word in ("running", "1/2", "a quota", "somebody (admin)"):
        assert word in said.output
    assert desk.ask("show", "1").output.startswith("gpuwarden-policy-1\nkey ")
    assert "the roll-out of policy 1 is halted\n" in desk.ask("halt", "--reason", "wait").output
    halted = desk.ask("status")
    assert halted.exit_code == 1
    assert "policy 1 was halted: wait" in halted.output
    assert "the roll-out of policy 1 is running\n" in desk.ask("resume").output
    line.close()


def test_protected_tenants_need_a_yes(desk: Desk) -> None:
    line = desk.centre.line("n1")
    tenant = pb.TenantSample(
        tenant="t",
        name="risk-1",
        image="risk:1",
        tenant_class=node.TENANT_CLASS_PROTECTED,
        used_bytes=2**33,
        hard_bytes=2**34,
    )
    line.batch(samples=[sample(tenants=[tenant])])
    eventually(lambda: desk.centre.parts.ingest.shown("n1"), "the sample")
    eventually(lambda: desk.centre.parts.fleet.view.nodes, "the node")
    desk.sign(1)
    seen = desk.ask("diff", str(desk.folder / "settings.toml"))
    assert seen.exit_code == 1
    assert "risk-1" in seen.output
    assert "quota 16.0 GiB -> 4.0 GiB" in " ".join(seen.output.split())
    refused = desk.ask("publish", str(desk.bundle(1)))
    assert refused.exit_code == 1
    assert "it touches protected tenants: risk-1 on n1; --yes" in " ".join(refused.output.split())
    assert desk.ask("publish", str(desk.bundle(1)), "--yes").exit_code == 0
    line.close()


def test_going_back(desk: Desk) -> None:
    for version, settings in ((1, SETTINGS), (4, SETTINGS.replace("4GiB", "5GiB"))):
        desk.sign(version, settings)
        assert desk.ask("publish", str(desk.bundle(version))).exit_code == 0
    back = desk.ask("rollback", "1", "--key", str(desk.folder / "key"), role=Role.OPERATOR)
    assert back.output.endswith("policy 5 says again what policy 1 said\n")
    said = json.loads(desk.ask("show", "--json").output)
    assert (said["settings"], said["head"]["restores"]) == (SETTINGS, 1)


def test_security_going_back_signs_nothing_that_was_not_signed_here(tmp_path: Path) -> None:
    good, evil = make_key(tmp_path / "key"), make_key(tmp_path / "evil")
    with Centre(tmp_path / "centre", policy={"keys": [good, evil]}) as centre:
        desk = Desk(tmp_path, centre)
        (tmp_path / "settings.toml").write_text('[agent]\nmode = "enforce"\n')
        out = str(desk.bundle(1))
        words = ("--key", str(tmp_path / "evil"), "--version", "1", "--out", out)
        assert desk.ask("sign", str(tmp_path / "settings.toml"), *words).exit_code == 0
        assert desk.ask("publish", out).exit_code == 0
        back = desk.ask("rollback", "1", "--key", str(tmp_path / "key"))
        assert back.exit_code == 1
        assert "not pinned here" in back.output
        assert list(centre.parts.policies.known) == [1]
        both = ("--key", str(tmp_path / "key"), "--signed-by", evil)
        assert desk.ask("rollback", "1", *both).exit_code == 0


def test_security_an_aggregator_that_gives_another_policy_is_found_out(desk: Desk) -> None:
    desk.sign(2)
    with pytest.raises(Refused, match="gave policy 2 for policy 1"):
        _ours(desk.bundle(2).read_bytes(), 1, desk.folder / "key", ())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ('[agent]\nrun_dir = "/tmp"', "not for a fleet's policy"),
        ("[quota]\nnovelty = 1", "unknown key"),
        ("[quota", "not TOML"),
    ],
)
def test_what_may_not_be_said_is_not_even_signed(desk: Desk, settings: str, why: str) -> None:
    done = desk.sign(1, settings)
    assert done.exit_code == 1
    assert why in done.output
    assert not desk.bundle(1).exists()


def test_security_who_may_do_what(desk: Desk) -> None:
    desk.sign(1)
    path = str(desk.bundle(1))
    assert "may not call" in desk.ask("diff", path, role=Role.VIEWER).output
    assert "may not call" in desk.ask("publish", path, role=Role.OPERATOR).output
    assert "may not call" in desk.ask("halt", "--reason", "x", role=Role.VIEWER).output
    assert desk.ask("status", role=Role.VIEWER).exit_code == 0


@pytest.mark.parametrize("stage", ["0%", "101%", "x:y%", "5%%", ":", ":5%", ",:5%", ",", ""])
def test_a_stage_that_is_none(desk: Desk, stage: str) -> None:
    desk.sign(1)
    assert desk.ask("publish", str(desk.bundle(1)), "--stage", stage).exit_code == 2


def test_a_key_is_never_overwritten(desk: Desk) -> None:
    path = desk.folder / "other"
    made = desk.ask("keygen", str(path))
    assert made.output.startswith("ed25519:")
    assert desk.ask("keygen", str(path)).exit_code == 1
    path.chmod(0o644)
    (desk.folder / "s.toml").write_text("")
    words = ("--key", str(path), "--version", "1", "--out", str(desk.folder / "x"))
    assert "others may read it" in desk.ask("sign", str(desk.folder / "s.toml"), *words).output
