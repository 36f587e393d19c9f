"""Versions of services on disk: for each place of a service a file of the newest few, environment and all.

Whoever may read them reads the secrets of the services: the folder is for its owner alone (0700, files 0600), and
nothing of a specification is ever shown, logged or sent; whoever wants to know what there is gets ``Recorded``.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpuwarden.adapters.docker_describe import labels_of, name_of, table, text
from gpuwarden.adapters.docker_recreate import REPLACES, RESTART
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.rollback import Recorded

SCHEMA = 1
PLACES_MAX = 256
FILE_MAX_BYTES = 4 * 2**20
KEPT = ("Id", "Name", "Image", "Config", "HostConfig", "Mounts")
"""Of what Docker tells of a container, what it takes to make it again; of its networks their names alone."""
VERSION_LABEL = "gpuwarden.version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One version. ``raw`` is the container as inspected: never part of a message."""

    about: Recorded
    raw: Mapping[str, Any] = field(repr=False)
    mark: str = ""
    """Digest of the specification: tells whether a version is still the same."""


class VersionBook:
    """Any thread. What ``record`` and ``praise`` have returned from is on disk."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._lock = threading.Lock()
        self._pages: dict[tuple[str, str], list[Entry]] = {}
        self._is_open = False
        self.faults = 0
        """Files that could not be read."""

    def open(self) -> None:
        """Read what there is, once; a file that cannot be read is counted and left alone."""
        with self._lock:
            if self._is_open:
                return
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.chmod(self._folder, 0o700)
                names = sorted(p for p in self._folder.iterdir() if p.suffix == ".json")
            except OSError as error:
                raise Unavailable(f"{self._folder}: {error.strerror}") from error
            for path in names[:PLACES_MAX]:
                entries = self._read(path)
                if entries:
                    about = entries[0].about
                    self._pages[about.service, about.place] = entries
            self._is_open = True

    def every(self) -> Sequence[Recorded]:
        """All there is, without their specifications."""
        with self._lock:
            return [each.about for page in self._pages.values() for each in page]

    def record(self, service: str, raw: Mapping[str, Any], wall: float) -> Recorded:
        """The version that this container is of. The same again changes nothing; the same version with another
        specification takes its place and has its probation before it."""
        spec = kept(raw)
        about = described(service, raw, wall)
        entry = Entry(about=about, raw=spec, mark=mark_of(spec))
        key = (service, about.place)
        with self._lock:
            page = self._pages.get(key, [])
            same = next((e for e in page if e.about.version == about.version), None)
            is_ours = REPLACES in table(raw, "Config", "Labels")
            if same is not None and (
                same.mark == entry.mark or (is_ours and same.about.digest == about.digest)
            ):
                return same.about  # what we started again from a record is that record
            if key not in self._pages and len(self._pages) >= PLACES_MAX:
                raise Refused(
                    f"{PLACES_MAX} places are on record already: {service} is not recorded"
                )
            page = [*(e for e in page if e is not same), entry]
            page = bounded(page, self._most)
            self._write(key, page)
            self._pages[key] = page
        return about

    def praise(self, service: str, place: str, version: str, wall: float) -> None:
        """It has held its guardrails for its probation."""
        with self._lock:
            page = self._pages.get((service, place), [])
            now = [
                replace(e, about=replace(e.about, good_wall=wall))
                if e.about.version == version
                else e
                for e in page
            ]
            if now != page:
                self._write((service, place), now)
                self._pages[service, place] = now

    def entry(self, service: str, place: str, version: str) -> Entry:
        """``Refused`` when it is not on record; an agent that goes on where it died asks before anybody has read it."""
        self.open()
        with self._lock:
            for each in self._pages.get((service, place), []):
                if each.about.version == version:
                    return each
        raise Refused(f"version {version} of {service} is not on record in {place}")

    def _read(self, path: Path) -> list[Entry]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                said = json.loads(file.read(FILE_MAX_BYTES))
            if said["schema"] != SCHEMA:
                raise ValueError("of another schema")
            return [_entry(each) for each in said["versions"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.faults += 1
            return []

    def _write(self, key: tuple[str, str], page: Sequence[Entry]) -> None:
        """Replaced as a whole, and on disk when this returns."""
        path = self._folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.json"
        data = json.dumps({"schema": SCHEMA, "versions": [_said(e) for e in page]}).encode()
        if len(data) > FILE_MAX_BYTES:
            raise Refused(
                f"the versions of {key[0]} in {key[1]} are more than {FILE_MAX_BYTES} bytes"
            )
        fresh = path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(fresh, flags, 0o600)
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.replace(fresh, path)
            where = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(where)
            finally:
                os.close(where)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error


def kept(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is needed of an inspected container, without the marks of an earlier replacement."""
    spec: dict[str, Any] = {key: raw[key] for key in KEPT if key in raw}
    config = dict(table(raw, "Config"))
    labels = {k: v for k, v in table(config, "Labels").items() if k not in (REPLACES, RESTART)}
    spec["Config"] = {**config, "Labels": labels}
    networks = {
        str(name): {k: end.get(k) for k in ("IPAMConfig", "Links", "DriverOpts", "Aliases")}
        for name, end in table(raw, "NetworkSettings", "Networks").items()
        if isinstance(end, Mapping)
    }
    spec["NetworkSettings"] = {"Networks": networks}
    return spec


def mark_of(spec: Mapping[str, Any]) -> str:
    """A digest of what a version is. Ids and names differ from start to start, what it is does not."""
    config = {k: v for k, v in table(spec, "Config").items() if k not in ("Hostname", "Image")}
    host = {
        k: v
        for k, v in table(spec, "HostConfig").items()
        if k not in ("ContainerIDFile", "RestartPolicy")
    }
    networks = sorted(table(spec, "NetworkSettings", "Networks"))
    what = [spec.get("Image"), config, host, networks]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def described(service: str, raw: Mapping[str, Any], wall: float) -> Recorded:
    """What may be said of a container to anybody."""
    config = table(raw, "Config")
    digest = text(raw, "Image") or ""
    label = dict(labels_of(config)).get(VERSION_LABEL, "")
    version = "".join(c for c in label if c.isprintable() and c not in " @")[:128]
    short = digest.removeprefix("sha256:")[:12]
    return Recorded(
        service=service,
        place=place_of(raw),
        version=version or short or "unknown",
        image=(text(config, "Image") or "")[:256],
        digest=digest,
        recorded_wall=wall,
    )


def place_of(raw: Mapping[str, Any]) -> str:
    """Its name, without what a replacement or what it replaced may have been called meanwhile."""
    name = name_of(raw) or (text(raw, "Id") or "")[:12]
    for word in (".replaced-", ".replaces-"):
        name = name.partition(word)[0]
    return name


def bounded(page: Sequence[Entry], most: int) -> list[Entry]:
    """The newest so many, and the last good one whatever its age."""
    if len(page) <= most:
        return list(page)
    good = [e for e in page if e.about.good_wall is not None]
    best = max(good, key=lambda e: e.about.good_wall or 0.0) if good else None
    newest = list(page[-most:])
    if best is None or best in newest:
        return newest
    return [best, *newest[1:]]


def _said(entry: Entry) -> dict[str, Any]:
    about = entry.about
    return {
        "service": about.service,
        "place": about.place,
        "version": about.version,
        "image": about.image,
        "digest": about.digest,
        "recorded_wall": about.recorded_wall,
        "good_wall": about.good_wall,
        "mark": entry.mark,
        "raw": entry.raw,
    }


def _entry(said: Mapping[str, Any]) -> Entry:
    good = said["good_wall"]
    if not isinstance(said["raw"], dict):
        raise TypeError("no specification")
    about = Recorded(
        service=str(said["service"]),
        place=str(said["place"]),
        version=str(said["version"]),
        image=str(said["image"]),
        digest=str(said["digest"]),
        recorded_wall=float(said["recorded_wall"]),
        good_wall=None if good is None else float(good),
    )
    return Entry(about=about, raw=said["raw"], mark=str(said["mark"]))
