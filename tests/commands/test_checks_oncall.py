"""The doctor on on-call: whether anybody can be told, without telling them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuwarden.commands.checks import Result
from gpuwarden.commands.checks_oncall import check_oncall
from gpuwarden.config_oncall import OncallConfig
from tests.adapters.sink_notices import secret_file


def cfg(**sections: Any) -> OncallConfig:
    return OncallConfig.model_validate(sections)


def test_nobody_is_told() -> None:
    (check,) = check_oncall(OncallConfig())
    assert check.result is Result.WARNING
    assert "no [oncall] sink" in check.seen


def test_all_is_there(tmp_path: Path) -> None:
    url = secret_file(tmp_path, "url", "https://hooks.example/x")
    (check,) = check_oncall(cfg(slack=[{"url": url}], exec=[{"command": ["/bin/true"]}]))
    assert check.result is Result.OK, check.seen
    assert "slack (slack), exec (exec)" in check.seen
    assert "hooks" not in check.seen


def test_what_only_the_service_can_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (check,) = check_oncall(cfg(slack=[{"url": "credential:slack"}]))
    assert check.result is Result.OK
    assert "only the service can read credential:slack" in check.seen


@pytest.mark.parametrize(("mode", "fix"), [(0o644, "chmod 600"), (None, "put the secret there")])
def test_a_secret_that_others_may_read_or_that_is_not_there(
    mode: int | None, fix: str, tmp_path: Path
) -> None:
    url = secret_file(tmp_path, "url", "https://hooks.example/x", mode or 0o600)
    if mode is None:
        (tmp_path / "url").unlink()
    (check,) = check_oncall(cfg(slack=[{"url": url}]))
    assert (check.result, check.fix.startswith(fix)) == (Result.FAILED, True)
    assert check.seen.startswith("sink slack: file:")


@pytest.mark.parametrize(("mode", "seen"), [(0o644, "cannot be run"), (0o777, "others than root")])
def test_a_command_that_is_none_or_anybodys(mode: int, seen: str, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("#!/bin/sh\n")
    page.chmod(mode)
    (check,) = check_oncall(cfg(exec=[{"command": [str(page)]}]))
    assert check.result is Result.FAILED
    assert seen in check.seen
