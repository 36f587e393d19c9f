"""Root file systems by mmdebstrap, kept by what went into them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

PLAIN = ("systemd-sysv", "dbus", "procps")
"""A booted Debian, and no Python in it."""
WITH_RPM = (*PLAIN, "rpm")
OPTIONS = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{place}/*" for place in ("doc", "locale", "man")
)
MAKE_S = 900


def cache() -> Path:
    """``$GPUWARDEN_CACHE``, else the usual place for what can be made again."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuwarden"
    return Path(os.environ.get("GPUWARDEN_CACHE") or usual)


def root(suite: str, packages: tuple[str, ...]) -> Path:
    """The folder of one, made where it is not there yet. Nobody writes to it: a machine has a copy."""
    key = hashlib.sha256(" ".join((suite, *packages, *OPTIONS)).encode()).hexdigest()[:12]
    place = cache() / "roots" / f"{suite}-{key}"
    if place.is_dir():
        return place
    fresh = place.with_suffix(f".{os.getpid()}")
    fresh.parent.mkdir(parents=True, exist_ok=True)
    try:
        made = subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", *OPTIONS),
                *(f"--include={','.join(packages)}", suite, str(fresh)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAKE_S,
            check=False,
        )
        if made.returncode:
            raise SystemExit(f"mmdebstrap of {suite} failed:\n{made.stderr[-2000:]}")
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place
