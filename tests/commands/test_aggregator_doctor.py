"""`gpuwarden aggregator doctor`: a host that is well, and each thing that can be wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.clock import SystemClock
from gpuwarden.commands import checks_aggregator
from gpuwarden.commands.checks import Check, Result
from gpuwarden.model.fleet import Identity, Role
from tests.aggregator.centre import Centre
from tests.aggregator.databases import database
from tests.commands.cli_run import run

DAY_S = 86_400.0


@contextmanager
def served(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An aggregator that runs, its state and its settings."""
    state, config = tmp_path / "state", tmp_path / "aggregator.toml"
    with Centre(state) as centre:
        config.write_text(
            f'[aggregator]\nlisten = "{centre.address}"\nstate_dir = "{state}"\n', encoding="utf-8"
        )
        yield state, config


def results(config: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    done = run("aggregator", "doctor", "-c", str(config), "-o", "json")
    checks = json.loads(done.output)["checks"]
    return done.exit_code, {each["name"]: (each["result"], each["fix"]) for each in checks}


def test_a_host_that_is_well(tmp_path: Path) -> None:
    with served(tmp_path) as (_, config):
        code, found = results(config)
        assert code == 0
        names = ["disk", "store", "authority", "certificate", "clock", "aggregator"]
        assert list(found) == names
        assert [found[name][0] for name in names if name not in ("clock", "disk")] == ["ok"] * 4
        assert "leads" in run("aggregator", "doctor", "-c", str(config), width=200).output


def _no_store(state: Path) -> None:
    for each in state.glob("fleet.sqlite*"):
        each.unlink()


def _torn_store(state: Path) -> None:
    _no_store(state)
    (state / "fleet.sqlite").write_bytes(b"no database" * 1000)


def _no_authority(state: Path) -> None:
    (state / "pki" / "authority.pem").unlink()


def _garbled_authority(state: Path) -> None:
    (state / "pki" / "authority.pem").write_text("garbage", encoding="utf-8")


def _no_certificate(state: Path) -> None:
    (state / "admin" / "certificate.pem").unlink()


@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        (_no_store, "store"),
        (_torn_store, "store"),
        (_no_authority, "authority"),
        (_garbled_authority, "authority"),
        (_no_certificate, "certificate"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(
    tmp_path: Path, spoil: Callable[[Path], None], failed: str
) -> None:
    with served(tmp_path) as (state, config):
        pass
    spoil(state)
    code, found = results(config)
    assert code == 1
    assert found[failed][0] == "failed"
    assert found[failed][1]
    assert found["aggregator"][0] == "failed"
    assert "start gpuwarden aggregator" in found["aggregator"][1]


@pytest.mark.parametrize(
    ("age_s", "result"), [(0.0, Result.OK), (0.8 * DAY_S, Result.WARNING), (DAY_S, Result.FAILED)]
)
def test_a_certificate_is_told_before_it_runs_out(
    tmp_path: Path, age_s: float, result: Result
) -> None:
    wall = SystemClock().wall()
    authority = Authority.open(tmp_path / "pki", "gpuwarden", wall)
    own = authority.credentials(Identity(role=Role.ADMIN, name="root"), ttl_s=DAY_S, wall=wall)
    write_credentials(tmp_path / "admin", own)
    assert checks_aggregator.check_certificate(tmp_path / "admin", wall + age_s).result is result
    far = checks_aggregator.check_authority(tmp_path / "pki", wall + 100 * 365 * DAY_S)
    assert (far.result, bool(far.fix)) == (Result.FAILED, True)


@pytest.mark.postgres
def test_a_database_that_is_not_there_or_takes_no_writes() -> None:
    with database() as url:
        empty = checks_aggregator.check_postgres(url, {})
        assert (empty.result, "node" in empty.seen) == (Result.FAILED, True)
        import psycopg

        with psycopg.connect(url, autocommit=True) as db:
            db.execute("CREATE TABLE node (node text)")
        well: Check = checks_aggregator.check_postgres(url, {})
        assert well.result is Result.OK
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f'ALTER DATABASE "{db.info.dbname}" SET default_transaction_read_only = on')
        assert checks_aggregator.check_postgres(url, {}).result is Result.FAILED
    assert checks_aggregator.check_postgres(url, {}).result is Result.FAILED
