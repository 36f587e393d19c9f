"""What a fresh clone must be: complete, runnable as it is, and about nothing but this project."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN_TIMEOUT_S = 60

# Put together here, so that this file does not hold what it forbids: a workplace's folders, and the host
# names that a package index or mirror leaves in lock files.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"(?<![\w.-])/" + r"work/",
            r"\.lib" + r"rary/",
            r"(?<![\w.-])/opt/" + r"wheels",
            r"--(?:extra-)?index" + r"-url \S",
            r"files\.python" + r"hosted",
        ]
    )
)


def tracked() -> list[Path]:
    """The files of the clone; where there is no git, everything that is not hidden or built."""
    try:
        asked = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=RUN_TIMEOUT_S,
        )
    except (OSError, subprocess.CalledProcessError):
        return [
            path
            for path in ROOT.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
            and "__pycache__" not in path.parts
        ]
    listed = [ROOT / os.fsdecode(name) for name in asked.stdout.split(b"\0") if name]
    return [path for path in listed if path.is_file()]  # a deletion may not be committed yet


def scripts() -> list[Path]:
    """Every program of the repository: what lies in scripts/ and .ci/ itself."""
    return [path for path in tracked() if path.parent in {ROOT / "scripts", ROOT / ".ci"}]


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def found_in(path: Path) -> list[str]:
    """`path:line: text` for each forbidden word; nothing for what is no text."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    return [f"{path}:{n}: {line}" for n, line in enumerate(lines, 1) if FORBIDDEN.search(line)]


def test_no_file_speaks_of_the_place_it_was_written_at() -> None:
    assert [hit for path in tracked() for hit in found_in(path)] == []


@pytest.mark.parametrize(
    "text",
    ["see /" + "work/shared", "cat .lib" + "rary/x", "--index" + "-url https://x/simple"],
)
def test_forbidden_words_are_seen(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f"first\n{text}\n", encoding="utf-8")
    assert found_in(tmp_path / "file") == [f"{tmp_path / 'file'}:2: {text}"]


@pytest.mark.parametrize(
    "name",
    [
        "requirements.lock",
        "requirements-dev.lock",
        "requirements-peers.lock",
        "requirements-drift-peers.lock",
    ],
)
def test_lock_pins_every_package_with_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    assert [
        line
        for line in lines
        if not re.match(r"[a-z0-9-]+(\[[a-z,]+\])?==\S+ .*--hash=sha256:", line)
    ] == []
    assert "://" not in text


def test_locks_hold_every_dependency() -> None:
    def names(file: str) -> set[str]:
        text = (ROOT / file).read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", text, flags=re.MULTILINE))

    def wanted(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9._-]", r)[0].lower().replace("_", "-") for r in requirements}

    settings = project()["project"]
    runtime = wanted(settings["dependencies"])
    assert runtime <= names("requirements.lock")
    assert runtime | wanted(settings["optional-dependencies"]["dev"]) <= names(
        "requirements-dev.lock"
    )
    for group in ("peers", "drift-peers"):
        assert wanted(project()["dependency-groups"][group]) <= names(f"requirements-{group}.lock")


def test_agent_and_checks_are_locked_to_the_same_versions() -> None:
    def pins(file: str) -> dict[str, str]:
        text = (ROOT / file).read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))

    dev = pins("requirements-dev.lock")
    assert {name: dev.get(name) for name in pins("requirements.lock")} == pins("requirements.lock")


def test_generated_code_runs_on_the_oldest_versions_allowed() -> None:
    """The generator writes the least runtime it needs into the code; pyproject.toml may not allow older."""
    wire = ROOT / "agent" / "gpuwarden" / "wire" / "v1"
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(wire.glob("*_pb2*.py")))
    needed = {
        "grpcio": set(re.findall(r"GRPC_GENERATED_VERSION = '([\d.]+)'", text)),
        "protobuf": set(re.findall(r"Protobuf Python Version: ([\d.]+)", text)),
    }
    ranges = project()["project"]["dependencies"]
    for package, versions in needed.items():
        assert [r for r in ranges if r.startswith(package)] == [f"{package}>={v}" for v in versions]


def test_generated_code_is_fresh() -> None:
    ran = subprocess.run(
        [ROOT / "scripts" / "gen-proto", "--check"],
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_script_runs_from_anywhere_and_explains_itself(script: Path, tmp_path: Path) -> None:
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env ")
    if text.startswith("#!/usr/bin/env bash"):
        assert "set -euo pipefail" in text
    ran = subprocess.run(
        [script, "-h"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith(("usage: ", "Usage: "))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", ".gitignore"],
)
def test_usual_file_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_nothing_tracked_is_ignored() -> None:
    asked = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-ci", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    if asked.returncode != 0:
        pytest.skip(f"not a git clone: {asked.stderr.strip()}")
    assert asked.stdout == ""


def test_links_of_the_readme_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / target).exists(), f"{page}: {target}"
        for script in re.findall(r"(?:\./)?(scripts/[a-z-]+)\b(?!/)", text):
            assert (ROOT / script).exists(), f"{page}: {script}"
