"""The packages under test, and others of them that differ in their version alone."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

PACK_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Debs:
    agent: Path
    aggregator: Path
    older: Path
    newer: Path
    """The agent's, with versions around the real one's."""
    newer_aggregator: Path

    def at(self, folder: Path) -> Debs:
        """The same where all of them lie in one folder elsewhere."""
        places = {field.name: folder / getattr(self, field.name).name for field in fields(self)}
        return Debs(**places)


def found(dist: Path, pattern: str) -> Path:
    files = sorted(dist.glob(pattern))
    if len(files) != 1:
        raise SystemExit(
            f"{dist}: {len(files)} files are {pattern}, one is wanted (scripts/package)"
        )
    return files[0]


def debs(dist: Path, folder: Path, *, is_agents_alone: bool = False) -> Debs:
    """``is_agents_alone``: nobody upgrades the aggregator, and to pack it anew would take its time."""
    agent = found(dist, "gpuwarden_*_amd64.deb")
    aggregator = found(dist, "gpuwarden-aggregator_*_amd64.deb")
    version = _field(agent, "Version")
    return Debs(
        agent=agent,
        aggregator=aggregator,
        older=renamed(agent, f"0.0.1~{version}", folder),
        newer=renamed(agent, f"{version}+newer", folder),
        newer_aggregator=aggregator
        if is_agents_alone
        else renamed(aggregator, f"{version}+newer", folder),
    )


def renamed(deb: Path, version: str, folder: Path) -> Path:
    """The same package as another version, fast to pack and to unpack."""
    made = folder / f"{deb.name.split('_')[0]}_{version}_amd64.deb"
    with tempfile.TemporaryDirectory(dir=folder) as name:
        tree = Path(name)
        _run("dpkg-deb", "--raw-extract", str(deb), str(tree))
        control = tree / "DEBIAN" / "control"
        text, count = re.subn(r"(?m)^Version: .*$", f"Version: {version}", control.read_text())
        if count != 1:
            raise SystemExit(f"{deb}: its control file names {count} versions")
        control.write_text(text)
        _run("dpkg-deb", "-Zgzip", "-z1", "--build", "--root-owner-group", str(tree), str(made))
    return made


def _field(deb: Path, name: str) -> str:
    return _run("dpkg-deb", "--field", str(deb), name).strip()


def _run(*words: str) -> str:
    ran = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PACK_S, check=False
    )
    if ran.returncode:
        raise SystemExit(f"{words[0]}: {ran.stderr.strip()}")
    return ran.stdout
