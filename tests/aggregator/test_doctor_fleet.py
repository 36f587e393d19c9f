"""The doctor's way to a real aggregator: it takes this fleet's certificates, and nobody else's."""

from __future__ import annotations

from pathlib import Path

from gpuwarden.adapters.pki.names import Credentials, write_credentials
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks import Result
from gpuwarden.commands.checks_fleet import check_fleet
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.model.fleet import Role
from tests.aggregator.centre import Centre


def results(folder: Path, own: Credentials, *addresses: str) -> list[Result]:
    write_credentials(folder, own)
    cfg = FleetConfig(aggregator=addresses, identity_dir=folder)
    return [check.result for check in check_fleet(cfg, SystemClock().wall())]


def test_one_that_takes_this_node_s_certificate(tmp_path: Path) -> None:
    with Centre(tmp_path / "a") as centre:
        own = centre.credentials(Role.NODE, "n1")
        assert results(tmp_path / "own", own, centre.address) == [Result.OK, Result.OK]
        nobody = "127.0.0.1:1"
        one_of_two = results(tmp_path / "own", own, nobody, centre.address)
        assert one_of_two == [Result.OK, Result.WARNING]


def test_another_fleet_s_is_not_taken_for_ours(tmp_path: Path) -> None:
    with Centre(tmp_path / "a") as ours, Centre(tmp_path / "b") as other:
        own = ours.credentials(Role.NODE, "n1")
        assert results(tmp_path / "own", own, other.address) == [Result.OK, Result.FAILED]
