"""usage: sbom.py PACKAGE VERSION PARTS SITE-PACKAGES: a bill of materials (CycloneDX 1.5, JSON) on stdout.

What pip-installed: names, versions and licences from the wheels' own metadata. What is linked into the interpreter: PARTS,
written when it was built. No serial number and no time but the commit's: the same inputs make the same bytes.
"""

import json
import os
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def component(kind: str, name: str, version: str, purl: str, licence: str = "") -> dict[str, Any]:
    """One part, as CycloneDX has it."""
    made: dict[str, Any] = {
        "type": kind,
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if licence:
        made["licenses"] = [{"license": {"name": licence}}]
    return made


def licence_of(meta: metadata.PackageMetadata) -> str:
    """As the wheel states it: an expression, a classifier, or the first line of the old free text."""
    if expression := meta.get("License-Expression"):
        return expression
    kinds = [c for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    if kinds:
        return kinds[0].rpartition(" :: ")[2]
    return (meta.get("License") or "").strip().partition("\n")[0][:80]


def main() -> None:
    package, version, parts, site = sys.argv[1:]
    found = []
    for dist in metadata.distributions(path=[site]):
        name = dist.name.lower().replace("_", "-")
        found.append(
            component(
                "library",
                name,
                dist.version,
                f"pkg:pypi/{name}@{dist.version}",
                licence_of(dist.metadata),
            )
        )
    patches = []
    for line in Path(parts).read_text(encoding="utf-8").splitlines():
        kind, name, *rest = line.split()
        if kind == "cpython":
            upstream = name.partition("-")[0]
            python = component(
                "platform", "cpython", name, f"pkg:generic/cpython@{upstream}", "PSF-2.0"
            )
            found.append(python)
        elif kind == "patch":
            patches.append(name)
        elif kind == "library":
            found.append(component("library", name, rest[0], f"pkg:deb/debian/{name}@{rest[0]}"))
    python["properties"] = [{"name": "gpuwarden:patch", "value": name} for name in patches]
    own = component(
        "application", package, version, f"pkg:generic/{package}@{version}", "Apache-2.0"
    )
    at = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": own},
        "components": sorted(found, key=lambda part: part["bom-ref"]),
    }
    print(json.dumps(bill, indent=1, sort_keys=True))


main()
