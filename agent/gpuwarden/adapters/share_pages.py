"""Shares for the operator's router: a JSON file a service, replaced as a whole, and the same over HTTP."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gpuwarden.log import get_log
from gpuwarden.model.ramp import Shares

SCHEMA = 1
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,128}\Z", re.ASCII)
PREFIX = "/shares/"


def page(told: Shares) -> bytes:
    """One service's split: ``{"schema": 1, "service": ..., "arms": [{"arm", "version", "share"}]}``. The shares are
    rounded to millionths and sum to 1 all the same."""
    parts = [round(each.share * 1_000_000) for each in told.arms]
    if parts:
        most = max(range(len(parts)), key=lambda n: parts[n])
        parts[most] += 1_000_000 - sum(parts)
    arms = [
        {"arm": each.arm, "version": each.version, "share": part / 1_000_000}
        for each, part in zip(told.arms, parts, strict=True)
    ]
    said = {"schema": SCHEMA, "service": told.service, "arms": arms, "why": told.why}
    return json.dumps(said, ensure_ascii=True).encode("ascii") + b"\n"


class Documents(dict[str, Callable[[], bytes]]):
    """Pages by their paths, and those that a name in the path makes."""

    def __init__(
        self, fixed: Mapping[str, Callable[[], bytes]], named: Callable[[str], bytes | None]
    ) -> None:
        super().__init__(fixed)
        self._named = named

    def get(self, target: str, default: Any = None) -> Any:
        known = super().get(target)
        if known is not None:
            return known
        found = self._named(target)
        return default if found is None else lambda: found


class SharePages:
    """``told`` is for the writer's thread, ``document`` for HTTP's."""

    def __init__(self, every: Callable[[], list[Shares]], folder: Path | None = None) -> None:
        """``every``: the present split of every service, from the store: another aggregator may have told it."""
        self._every = every
        self._folder = folder
        self.failures = 0

    def told(self, shares: Shares) -> None:
        """Put it into the folder; whoever reads sees the old file or the new one. A disk that is full is not the
        rollout's end: the document counts, and the next one is written again."""
        if self._folder is None:
            return
        try:
            self._write(shares)
        except OSError as error:
            self.failures += 1
            get_log().error("shares_not_written", service=shares.service, reason=error.strerror)

    def refresh(self) -> None:
        """Every file as the store has it: after a start, and where another aggregator has told."""
        for each in self._every() if self._folder is not None else ():
            path = self._path(each.service)
            if path is not None and (not path.exists() or path.read_bytes() != page(each)):
                self.told(each)

    def document(self, target: str) -> bytes | None:
        """The page of ``/shares/SERVICE``; None: there is none of that name."""
        if not target.startswith(PREFIX):
            return None
        wanted = unquote(target.removeprefix(PREFIX))
        for each in self._every():
            if each.service == wanted:
                return page(each)
        return None

    def _path(self, service: str) -> Path | None:
        """A name that is no plain one has no file: it is served over HTTP and gRPC alone."""
        if self._folder is None or not _PLAIN.match(service) or service.startswith("."):
            return None
        return self._folder / f"{service}.json"

    def _write(self, shares: Shares) -> None:
        path = self._path(shares.service)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(fresh, flags, 0o644), "wb") as file:
            file.write(page(shares))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
