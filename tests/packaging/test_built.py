"""The packages in dist/, as scripts/package made them."""

from __future__ import annotations

import json
import subprocess
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 100
PACKAGES = ["gpuwarden", "gpuwarden-aggregator"]
SIZES_MOST_MIB = {"gpuwarden": 40, "gpuwarden-aggregator": 100}
"""The second holds numpy and scipy, each with an OpenBLAS of its own."""
OURS = {"python_version": "3.13", "python_full_version": "3.13.5", "sys_platform": "linux"}
"""What a lock file's markers ask of the interpreter that is in the packages."""
pytestmark = pytest.mark.packages


def deb_of(package: str) -> Path:
    (found,) = ROOT.glob(f"dist/{package}_*_amd64.deb")
    return found


@cache
def contents(package: str) -> dict[str, tarfile.TarInfo]:
    command = ["dpkg-deb", "--fsys-tarfile", str(deb_of(package))]
    data = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S).stdout
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        return {entry.name.lstrip("./"): entry for entry in archive}


def text_of(package: str, path: str) -> str:
    deb = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(deb_of(package))], stdout=subprocess.PIPE
    )
    command = ["tar", "-xO", f"./{path}"]
    done = subprocess.run(
        command, stdin=deb.stdout, capture_output=True, check=True, timeout=TIMEOUT_S
    )
    deb.communicate()
    return done.stdout.decode()


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_a_deb_and_an_rpm(package: str) -> None:
    assert deb_of(package).stat().st_size < SIZES_MOST_MIB[package] << 20
    assert len(list(ROOT.glob(f"dist/{package}-[0-9]*.x86_64.rpm"))) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_root_owns_all_and_nobody_else_may_write(package: str) -> None:
    for name, entry in contents(package).items():
        assert (entry.uid, entry.gid) == (0, 0), name
        assert entry.issym() or not entry.mode & 0o6022, name


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_has_one_date(package: str) -> None:
    assert len({entry.mtime for entry in contents(package).values()}) == 1


def test_the_agent_carries_what_it_needs_and_no_more() -> None:
    names = contents("gpuwarden")
    site = "usr/lib/gpuwarden/python/lib/python3.13/site-packages"
    for part in ("gpuwarden/cli.py", "grpc", "cryptography", "gpuwarden/sim/driver/built/driverd"):
        assert f"{site}/{part}" in names, part
    for part in ("numpy", "psycopg", "pip", "grpc_tools"):
        assert f"{site}/{part}" not in names, part
    for part in (
        "usr/lib/systemd/system/gpuwarden-agent.service",
        "usr/lib/sysusers.d/gpuwarden.conf",
        "usr/share/man/man5/agent.toml.5.gz",
        "usr/share/doc/gpuwarden/copyright",
        "usr/share/doc/gpuwarden/changelog.Debian.gz",
        "etc/gpuwarden/agent.toml",
        "etc/gpuwarden/conf.d",
    ):
        assert part in names, part


def test_an_aggregators_host_gets_no_agent() -> None:
    names = contents("gpuwarden-aggregator")
    assert "usr/lib/systemd/system/gpuwarden-aggregator.service" in names
    assert not [name for name in names if "gpuwarden-agent" in name]
    both = {n for n, e in names.items() if not e.isdir()} & {
        n for n, e in contents("gpuwarden").items() if not e.isdir()
    }
    assert both == set()  # they may be installed side by side


@pytest.mark.parametrize("package", PACKAGES)
def test_the_bill_of_materials_names_every_part(package: str) -> None:
    bill = json.loads(text_of(package, f"usr/share/doc/{package}/sbom.cdx.json"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    named = {part["name"]: part["version"] for part in bill["components"]}
    assert {"cpython", "openssl", "sqlite3", "zlib", "grpcio", "protobuf"} <= named.keys()
    lock = "requirements.lock" if package == "gpuwarden" else "requirements-aggregator.lock"
    for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            wanted = Requirement(line.rstrip(" \\"))
            if wanted.marker is None or wanted.marker.evaluate(OURS):
                assert wanted.specifier.contains(named[wanted.name]), line
