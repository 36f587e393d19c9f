"""What ``enable-enforcement`` installs, asks, refuses, and takes back."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gpuwarden.commands import enforcement
from gpuwarden.config_files import load
from tests.commands.cli_run import ROOT, run

DROP_IN = "etc/systemd/system/gpuwarden-agent.service.d/50-enforcement.conf"
SETTING = "etc/gpuwarden/conf.d/50-enforce.toml"
EXPOSURE_MAX = 34
"""Ten times what systemd-analyze may say with the drop-in: CAP_DAC_OVERRIDE and CAP_SYS_ADMIN cost 0.3 beside
the 3.1 of the unit that only watches; folders that may be written cost nothing."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc/gpuwarden").mkdir(parents=True)
    (tmp_path / "etc/gpuwarden/agent.toml").write_text("[quota]\nwarmup_s = 1\n")
    return tmp_path


def enable(image: Path, *more: str, stdin: str | None = None) -> tuple[int, str]:
    result = run("enable-enforcement", "--root", str(image), *more, stdin=stdin, width=200)
    return result.exit_code, result.output


def files(image: Path) -> list[str]:
    return sorted(str(p.relative_to(image)) for p in image.rglob("*") if p.is_file())


def test_it_shows_asks_installs_and_takes_back(image: Path) -> None:
    before = files(image)
    code, said = enable(image, stdin="y\ny\n")
    assert code == 0, said
    assert "+CapabilityBoundingSet=CAP_SYS_ADMIN" in said
    assert '+mode = "enforce"' in said
    assert "systemctl restart gpuwarden-agent.service" in said
    assert files(image) == sorted([*before, DROP_IN, SETTING])
    assert (image / DROP_IN).stat().st_mode & 0o777 == 0o644
    config = load(image / "etc/gpuwarden/agent.toml", environ={}).config
    assert config.agent.mode == "enforce"
    assert enable(image) == (0, "nothing was changed\n")
    code, said = enable(image, "--undo", "--yes")
    assert code == 0
    assert "-CapabilityBoundingSet=CAP_SYS_ADMIN" in said
    assert files(image) == before
    assert not (image / DROP_IN).parent.exists()
    assert load(image / "etc/gpuwarden/agent.toml", environ={}).config.agent.mode == "observe"
    assert enable(image, "--undo") == (0, "nothing was changed\n")


def test_each_is_asked_for(image: Path) -> None:
    enable(image, stdin="n\ny\n")
    assert DROP_IN not in files(image)
    assert SETTING in files(image)


def test_without_an_answer_nothing_happens(image: Path) -> None:
    before = files(image)
    code, _ = enable(image, stdin="")
    assert code == 1
    assert files(image) == before


@pytest.mark.parametrize("name", [DROP_IN, SETTING])
@pytest.mark.parametrize("more", [("--yes",), ("--undo", "--yes")])
def test_what_an_admin_has_edited_is_left_alone(
    image: Path, name: str, more: tuple[str, ...]
) -> None:
    enable(image, "--yes")
    (image / name).write_text((image / name).read_text() + "# mine\n")
    left = {each: (image / each).read_text() for each in files(image)}
    code, said = enable(image, *more)
    assert code == 1
    assert "changed by somebody else" in said
    assert {each: (image / each).read_text() for each in files(image)} == left


def test_a_file_of_somebody_else_s_is_not_taken_over(image: Path) -> None:
    path = image / SETTING
    path.parent.mkdir()
    path.write_text('[agent]\nmode = "observe"\n')
    assert enable(image, "--yes")[0] == 1
    assert path.read_text() == '[agent]\nmode = "observe"\n'
    assert DROP_IN not in files(image)


def test_what_an_older_version_installed_is_replaced_and_can_be_undone(image: Path) -> None:
    path = image / DROP_IN
    path.parent.mkdir(parents=True)
    path.write_text(enforcement.sealed("[Service]\nCapabilityBoundingSet=CAP_SYS_NICE\n"))
    code, said = enable(image, "--yes")
    assert code == 0
    assert "-CapabilityBoundingSet=CAP_SYS_NICE" in said
    assert "CAP_SYS_NICE" not in path.read_text()
    path.write_text(enforcement.sealed("[Service]\nCapabilityBoundingSet=CAP_SYS_NICE\n"))
    assert enable(image, "--undo", "--yes")[0] == 0
    assert not path.exists()


def test_a_configuration_that_is_wrong_is_mended_first(image: Path) -> None:
    (image / "etc/gpuwarden/agent.toml").write_text("[quota]\nwarmup_s = -1\n")
    code, said = enable(image, "--yes")
    assert code == 1
    assert "mend it first" in said
    assert DROP_IN not in files(image)


def test_for_programs(image: Path) -> None:
    code, said = enable(image, "--yes", "--json")
    assert code == 0
    assert json.loads(said)["changed"] == [str(image / DROP_IN), str(image / SETTING)]


def test_each_line_of_the_drop_in_has_its_reason() -> None:
    lines = enforcement.shipped("50-enforcement.conf").splitlines()
    body = lines[lines.index("[Service]") + 1 :]
    assert body[0].startswith("# ")
    for number, line in enumerate(body):
        if "=" in line and not line.startswith("# "):
            above = next(text for text in reversed(body[:number]) if text.startswith("# "))
            assert above.endswith((".", ".)")), line


def test_how_exposed_the_unit_is_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = shutil.which("systemd-analyze")
    unit = (ROOT / "systemd" / "gpuwarden-agent.service").read_text()
    if program is None:
        pytest.skip("no systemd-analyze here")
    if "CapabilityBoundingSet" not in unit:
        pytest.skip("the unit is not hardened yet")
    whole = tmp_path / "gpuwarden-agent.service"
    whole.write_text(unit + enforcement.shipped("50-enforcement.conf"))
    command = [program, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager"]
    said = subprocess.run(
        [*command, str(whole)], capture_output=True, text=True, timeout=30, check=False
    )
    with capsys.disabled():
        print(f"\n{said.stdout.splitlines()[-1]}")  # noqa: T201  the figure is what people look for
    assert said.returncode == 0, said.stdout
