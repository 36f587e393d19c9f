"""A new authority for a running fleet: nobody is locked out on the way, and in the end the old one counts for nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from gpuwarden.adapters.pki import joining, rolling
from gpuwarden.adapters.pki.authority import NEXT, OLD, SIGNING, Authority, Paths
from gpuwarden.adapters.pki.names import Credentials
from gpuwarden.aggregator.join import parts_of
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.aggregator.centre import Centre, Line
from tests.commands.cli_run import run

WALL = SystemClock().wall()
DAY_S = 86_400.0


def enrolled(centre: Centre, folder: Path, name: str) -> Credentials:
    join: str = centre.query().Invite(pb.InviteRequest(node=name, ttl_s=60.0)).join
    token, root = parts_of(join)
    return joining.enrol(centre.door, token, root, name, folder / name, 10.0)


def renewed(centre: Centre, folder: Path, name: str) -> Credentials:
    return joining.renew(centre.address, folder / name, 10.0)


def is_heard(centre: Centre, own: Credentials) -> bool:
    """Whether a node under this certificate gets an answer."""
    with centre.channel(own) as channel:
        try:
            Line(channel, own.identity.name).next()
        except grpc.RpcError:
            return False
        return True


def test_a_fleet_lives_through_a_new_authority(tmp_path: Path) -> None:
    centre, pki = tmp_path / "centre", tmp_path / "centre" / "pki"
    with Centre(centre) as first:
        early, late = (enrolled(first, tmp_path, name) for name in ("early", "late"))
        assert is_heard(first, early)
    rolling.prepare(pki, WALL)
    with Centre(centre) as prepared:
        assert is_heard(prepared, early), "before it has renewed"
        early = renewed(prepared, tmp_path, "early")
        between = enrolled(prepared, tmp_path, "between")
        assert is_heard(prepared, between)
    rolling.switch(pki, WALL, 0.0)
    with Centre(centre) as switched:
        assert is_heard(switched, early), (
            "its certificate is by the old authority, and it knows the new one"
        )
        assert is_heard(switched, between)
        assert not is_heard(switched, late), (
            "it has not renewed: it knows no authority that signs here"
        )
        old = early
        early = renewed(switched, tmp_path, "early")
        assert is_heard(switched, early)
    rolling.finish(pki, WALL, 0.0)
    with Centre(centre) as finished:
        assert is_heard(finished, early)
        assert not is_heard(finished, old), "its authority is forgotten"
        assert is_heard(finished, enrolled(finished, tmp_path, "new"))


def test_each_step_waits_until_everybody_can_know(tmp_path: Path) -> None:
    Authority.open(tmp_path, "gpuwarden", WALL)
    with pytest.raises(Refused, match="prepare comes first"):
        rolling.switch(tmp_path, WALL, 0.0)
    with pytest.raises(Refused, match="nothing is to be finished"):
        rolling.finish(tmp_path, WALL, 0.0)
    rolling.prepare(tmp_path, WALL)
    with pytest.raises(Refused, match="under way already"):
        rolling.prepare(tmp_path, WALL)
    with pytest.raises(Refused, match=r"too early by 2[34]\.\d h: nodes that have not renewed"):
        rolling.switch(tmp_path, WALL, DAY_S)
    rolling.switch(tmp_path, WALL + 2 * DAY_S, DAY_S)
    with pytest.raises(Refused, match="too early"):
        rolling.finish(tmp_path, WALL, DAY_S)
    rolling.finish(tmp_path, WALL + 4 * DAY_S, DAY_S)
    assert [k.role for k in rolling.known(tmp_path)] == [SIGNING]


def test_without_an_authority_there_is_none_to_roll(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="the aggregator makes one"):
        rolling.prepare(tmp_path, WALL)


@pytest.mark.parametrize("done", range(5))
def test_a_switch_that_was_cut_off_still_opens_and_is_done_again(tmp_path: Path, done: int) -> None:
    """After so many of its steps: the old root kept, key and certificate put in place, the next one taken away."""
    Authority.open(tmp_path, "gpuwarden", WALL)
    rolling.prepare(tmp_path, WALL)
    marks = {k.role: k.mark for k in rolling.known(tmp_path)}
    signing, coming, old = (Paths(tmp_path, role) for role in (SIGNING, NEXT, OLD))
    before, after = signing.certificate.read_bytes(), coming.certificate.read_bytes()
    steps: tuple[Callable[[], object], ...] = (
        lambda: old.certificate.write_bytes(before),
        lambda: signing.key.write_bytes(coming.key.read_bytes()),
        lambda: signing.certificate.write_bytes(after),
        lambda: coming.certificate.unlink(),
    )
    for step in steps[:done]:
        step()
    opened = Authority.open(tmp_path, "gpuwarden", WALL)
    for certificate in (before, after):
        assert certificate in opened.authorities_pem, "whoever knows either is known"
    if coming.certificate.exists():
        rolling.switch(tmp_path, WALL, 0.0)
    assert {k.role: k.mark for k in rolling.known(tmp_path)} == {
        SIGNING: marks[NEXT],
        OLD: marks[SIGNING],
    }
    assert Authority.open(tmp_path, "gpuwarden", WALL).root_pem == after


def test_a_key_of_nobody_opens_nothing(tmp_path: Path) -> None:
    Authority.open(tmp_path / "a", "gpuwarden", WALL)
    Authority.open(tmp_path / "b", "gpuwarden", WALL)
    key = Paths(tmp_path / "b", SIGNING).key.read_bytes()
    Paths(tmp_path / "a", SIGNING).key.write_bytes(key)
    with pytest.raises(Unavailable, match="do not belong together"):
        Authority.open(tmp_path / "a", "gpuwarden", WALL)


def test_the_verbs(tmp_path: Path) -> None:
    config = tmp_path / "aggregator.toml"
    config.write_text(f'[aggregator]\nstate_dir = "{tmp_path}"\n')
    Authority.open(tmp_path / "pki", "gpuwarden", WALL)

    def said(*words: str) -> tuple[int, str]:
        result = run("authority", *words, "-c", str(config))
        return result.exit_code, result.output + result.stderr

    assert "signing" in said("show")[1]
    assert said("prepare")[0] == 0
    code, text = said("switch")
    assert (code, "too early by" in text, "--force" in text) == (1, True, True)
    assert said("switch", "--force")[0] == 0
    shown = said("show")[1]
    assert ("old" in shown, "next" in shown) == (True, False)
    assert said("finish", "--force")[0] == 0
    assert (tmp_path / "pki" / "authority-key.pem").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "pki") != []
