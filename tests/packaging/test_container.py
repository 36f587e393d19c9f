"""The image recipe and the compose file: what they copy is there, and what they give is what the agent looks for."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

import gpuwarden
from gpuwarden.config import Config
from gpuwarden.config_files import load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packaging" / "container"
UNIT = (ROOT / "systemd" / "gpuwarden-agent.service").read_text(encoding="utf-8")
BUILD_S = 300


def recipe() -> list[tuple[str, str]]:
    """(instruction, rest)."""
    lines = (FOLDER / "Containerfile").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    return [(row.partition(" ")[0], row.partition(" ")[2]) for row in rows]


def service() -> dict[str, Any]:
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["services"]["gpuwarden"]
    return found


def test_nothing_is_fetched_but_the_base() -> None:
    steps = recipe()
    assert [word for word, _ in steps].count("FROM") == 1
    for word, rest in steps:
        assert word != "ADD"
        assert not re.search(r"\b(apt|apt-get|curl|wget|pip)\b|://", rest)


def test_it_copies_what_the_package_script_makes() -> None:
    arguments = dict(rest.split("=") for word, rest in recipe() if word == "ARG")
    assert arguments["VERSION"] == gpuwarden.__version__
    ((source, _),) = [rest.split() for word, rest in recipe() if word == "COPY"]
    assert source == "gpuwarden_${VERSION}_amd64.deb"
    assert service()["image"] == f"gpuwarden:{gpuwarden.__version__}"


def test_observing_has_the_rights_of_the_unit() -> None:
    bound = re.search(r"^CapabilityBoundingSet=(.+)$", UNIT, flags=re.MULTILINE)
    assert bound is not None
    assert {f"CAP_{name}" for name in service()["cap_add"]} == set(bound[1].split())
    assert service()["cap_drop"] == ["ALL"]


def test_the_readme_names_the_rights_of_enforcement() -> None:
    extra = (ROOT / "agent/gpuwarden/data/50-enforcement.conf").read_text(encoding="utf-8")
    names = re.findall(r"^CapabilityBoundingSet=CAP_(\w+)", extra, flags=re.MULTILINE)
    assert names
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in names)


def test_mounts_are_where_the_agent_looks() -> None:
    environ = service()["environment"]
    config: Config = load(ROOT / "packaging" / "agent.toml", environ=environ).config
    mounts = {each.split(":")[1] for each in service()["volumes"]}
    root = str(config.health.root)
    assert {f"{root}/proc", f"{root}/sys", f"{root}/dev"} <= mounts
    assert {str(config.agent.state_dir), str(config.agent.run_dir)} <= mounts
    assert config.docker.host.removeprefix("unix:///var") in {
        m.removeprefix("/var") for m in mounts
    }
    assert service()["devices"] == [f"{config.kmsg.path}:{config.kmsg.path}:r"]


def _docker(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=BUILD_S, check=False, **more
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.mark.docker
@pytest.mark.packages
@pytest.mark.timeout(900)
def test_the_image_is_built_and_answers(tmp_path: Path) -> None:
    """On a base made of this host's own distribution, as nothing is fetched here."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not here; fix: apt-get install mmdebstrap")
    root = tmp_path / "root.tar"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(root)],
        check=True,
        timeout=BUILD_S,
        capture_output=True,
    )
    mark = uuid.uuid4().hex[:12]
    base, image = f"base-{mark}", f"image-{mark}"
    try:
        _docker("import", str(root), base)
        _docker(
            *("build", "--build-arg", f"BASE={base}", "--tag", image),
            *("--file", str(FOLDER / "Containerfile"), str(ROOT / "dist")),
        )
        said = _docker("run", "--rm", "--network", "none", image, "check-config")
        assert said.stdout.startswith("ok: ")
        assert "gpuwarden" in _docker("run", "--rm", "--network", "none", image, "--version").stdout
    finally:
        subprocess.run(
            ["docker", "rmi", "--force", image, base], capture_output=True, timeout=60, check=False
        )
