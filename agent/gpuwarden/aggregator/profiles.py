"""Reference profiles of services, by version and segment, kept as documents of the store."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuwarden.errors import Refused
from gpuwarden.log import get_log
from gpuwarden.model.evaluation import Cohort
from gpuwarden.ports_evaluation import Document, Documents

if TYPE_CHECKING:
    from gpuwarden.evaluate.drift.profile_file import ProfileFile

KIND = "drift-profile"
PROFILES_MAX = 1000
"""Of the fleet: they are held in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptProfile:
    """A profile, and who said when that it is what this version and segment is fed."""

    cohort: Cohort
    profile: "ProfileFile"
    wall: float
    who: str
    revision: int


class Profiles:
    """Any thread; ``put`` and ``drop`` block while they write."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._read: dict[str, tuple[int, KeptProfile | None]] = {}
        """By key, of which revision it is; None: dropped, or not to be read."""

    def every(self) -> Mapping[Cohort, KeptProfile]:
        """As the store has them now."""
        read: dict[str, tuple[int, KeptProfile | None]] = {}
        for document in self._documents.every(KIND):
            known = self._read.get(document.key)
            if known is None or known[0] != document.revision:
                known = (document.revision, _kept(document))
            read[document.key] = known
        self._read = read
        return {kept.cohort: kept for _, kept in read.values() if kept is not None}

    def put(self, cohort: Cohort, text: str, *, who: str, wall: float) -> KeptProfile:
        """``Refused`` says what is wrong with it."""
        from gpuwarden.evaluate.drift import profile_file

        try:
            profile = profile_file.read(text)
        except ValueError as error:
            raise Refused(str(error)) from error
        known = self.every()
        if cohort not in known and len(known) >= PROFILES_MAX:
            raise Refused(f"there are {len(known)} profiles, at most {PROFILES_MAX}: drop some")
        said = {**_names(cohort), "profile": json.loads(profile_file.write(profile))}
        document = self._write(cohort, said, who=who, wall=wall)
        return KeptProfile(
            cohort=cohort, profile=profile, wall=wall, who=who, revision=document.revision
        )

    def drop(self, cohort: Cohort, *, who: str, wall: float) -> bool:
        """Whether there was one. Its past revisions stay."""
        if cohort not in self.every():
            return False
        self._write(cohort, {**_names(cohort), "profile": None}, who=who, wall=wall)
        return True

    def _write(self, cohort: Cohort, said: Mapping[str, Any], *, who: str, wall: float) -> Document:
        key = key_of(cohort)
        known = self._documents.get(KIND, key)
        body = json.dumps(said, separators=(",", ":")).encode()
        after = 0 if known is None else known.revision
        return self._documents.put(KIND, key, body, who=who, wall=wall, after=after)


def key_of(cohort: Cohort) -> str:
    """A document's key of whatever names, each of which may be as long as a key."""
    names = json.dumps([cohort.service, cohort.version, cohort.segment])
    return hashlib.sha256(names.encode()).hexdigest()


def of_service(kept: Iterable[KeptProfile], service: str = "") -> list[KeptProfile]:
    """By version and segment; of all services without a name."""
    return sorted((k for k in kept if service in ("", k.cohort.service)), key=lambda k: k.cohort)


def _names(cohort: Cohort) -> dict[str, str]:
    return {"service": cohort.service, "version": cohort.version, "segment": cohort.segment}


def _kept(document: Document) -> KeptProfile | None:
    from gpuwarden.evaluate.drift import profile_file

    try:
        said = json.loads(document.body)
        if said["profile"] is None:
            return None
        cohort = Cohort(**{name: str(said[name]) for name in ("service", "version", "segment")})
        profile = profile_file.read(json.dumps(said["profile"]))
    except (ValueError, KeyError, TypeError) as error:
        get_log().error("drift_profile_unread", key=document.key, reason=str(error))
        return None
    return KeptProfile(
        cohort=cohort,
        profile=profile,
        wall=document.wall,
        who=document.who,
        revision=document.revision,
    )
